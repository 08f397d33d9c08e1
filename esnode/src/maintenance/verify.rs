//! `esnode verify`: checks that the files on disk are what was written. Read-only.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use shared::backup::MANIFEST;
use shared::verified::{Finding, Verified};

use crate::replica::Snapshot;
use crate::runtime::stored_batches::is_intact;
use crate::storage::data_dir::{self, DataDir, IdentityError};
use crate::storage::verify;

/// Reads the data directory of a node that does not run, or a backup that is a folder.
///
/// # Errors
/// If the node runs, `dir` is not a data directory, or the system refuses.
pub fn data_dir(dir: &Path) -> Result<Verified> {
    // A backup has no identity, and no node runs on it.
    if !DataDir::is_at(dir) && dir.join(MANIFEST).exists() {
        return Ok(verify::verify(dir, content, is_intact)?);
    }
    let held = match data_dir::hold(dir) {
        // Its other files are worth a look all the same, and nothing starts on this one.
        Err(IdentityError::Corrupt { file, reason }) => {
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut verified = verify::verify(dir, content, is_intact)?;
            verified.note(file, 0, reason, false);
            return Ok(verified);
        }
        held => held.with_context(|| format!("cannot verify {}", dir.display()))?,
    };
    let (identity, _lock) = held;
    identity
        .with_context(|| format!("{} is not a data directory: it has no identity file", dir.display()))?;
    Ok(verify::verify(dir, content, is_intact)?)
}

/// Returns what is wrong with a snapshot's content.
fn content(payload: &[u8]) -> Result<(), String> {
    Snapshot::decode(payload).map(drop).map_err(|error| error.to_string())
}

/// Formats the result, for people or as JSON.
///
/// # Errors
/// If the result cannot be encoded as JSON.
pub fn describe(path: &Path, verified: &Verified, json: bool) -> Result<String> {
    if json {
        return Ok(serde_json::to_string(verified)?);
    }
    let mut text = String::new();
    for Finding { file, offset, reason, harmless } in &verified.findings {
        let kind = if *harmless { "harmless" } else { "DAMAGED" };
        let _ = writeln!(text, "{kind}: {file}, byte {offset}: {reason}");
    }
    let Verified { first_index, last_index, snapshot, segments, bytes, .. } = verified;
    let state = if verified.ok { "intact" } else { "damaged" };
    let _ = write!(
        text,
        "{} is {state}: entries {first_index} to {last_index}, snapshot {snapshot}, {segments} segments, {bytes} \
         bytes of log",
        path.display()
    );
    Ok(text)
}
