//! `esnode verify`: whether what lies on the disk is what was written. Changes nothing.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use shared::backup::MANIFEST;
use shared::verified::{Finding, Verified};

use crate::driver::Image;
use crate::storage::identity::{self, DataDir, IdentityError};
use crate::storage::verify;

/// Reads the data directory of a node that does not run, or a backup that is a folder.
///
/// # Errors
/// The node runs, it is no data directory, or the system refuses.
pub fn data_dir(dir: &Path) -> Result<Verified> {
    // A backup has no identity, and no node runs on it.
    if !DataDir::is_at(dir) && dir.join(MANIFEST).exists() {
        return Ok(verify::verify(dir, content)?);
    }
    let held = match identity::hold(dir) {
        // Its other files are worth a look all the same, and nothing starts on this one.
        Err(IdentityError::Corrupt { file, reason }) => {
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut verified = verify::verify(dir, content)?;
            verified.note(file, 0, reason, false);
            return Ok(verified);
        }
        held => held.with_context(|| format!("{} is not verified", dir.display()))?,
    };
    let (identity, _lock) = held;
    identity.with_context(|| format!("{} is no data directory: it has no identity", dir.display()))?;
    Ok(verify::verify(dir, content)?)
}

/// What is wrong with a checkpoint's content.
fn content(payload: &[u8]) -> Result<(), String> {
    Image::decode(payload).map(drop).map_err(|error| error.to_string())
}

/// The verdict, for people or for programs.
///
/// # Errors
/// None that is known.
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
    let verdict = if verified.ok { "whole" } else { "damaged" };
    let _ = write!(
        text,
        "{} is {verdict}: entries {first_index} to {last_index}, snapshot {snapshot}, {segments} segments, {bytes} \
         bytes of log",
        path.display()
    );
    Ok(text)
}
