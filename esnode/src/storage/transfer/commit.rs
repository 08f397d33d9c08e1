//! The commit file: from when it is there, an installation takes place, whatever happens in between.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::DIR;
use crate::storage::checked_json::CheckedJson;
use crate::storage::error::OpenError;
use crate::storage::files::{named, replace, sync_dir};
use crate::storage::log::packs;
use crate::storage::snapshot;

const COMMIT: &str = "commit";
const UNFINISHED: &str = "commit.tmp";
const FORMAT: CheckedJson = CheckedJson { prefix: "" };

/// The renames that make an installation, from names in `incoming` to paths in the data directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub renames: Vec<(String, String)>,
    /// The only snapshot that counts afterwards.
    #[serde(rename = "checkpoint")]
    pub snapshot: String,
    /// The only packs that count afterwards; `None` if all do that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs: Option<Vec<String>>,
}

/// Decides for the data directory `dir` that the renames take place: from here on there is no way back.
pub(crate) fn decide(dir: &Path, commit: &Commit) -> io::Result<()> {
    let incoming = dir.join(DIR);
    sync_dir(&incoming)?;
    replace(&incoming, UNFINISHED, COMMIT, FORMAT.encode(commit)?.as_bytes())
}

/// Returns whether there is a commit file whose renames may not be done yet.
pub(crate) fn is_decided(dir: &Path) -> bool {
    dir.join(DIR).join(COMMIT).exists()
}

/// Does what a commit file says, if there is one. Run before the log and the snapshots are looked at.
pub(crate) fn finish(dir: &Path) -> Result<(), OpenError> {
    let incoming = dir.join(DIR);
    let content = match fs::read(incoming.join(COMMIT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(named(&incoming, COMMIT))?,
    };
    let damaged = |reason: String| OpenError::corrupt("incoming/commit", 0, reason);
    let json = FORMAT.open(&content).map_err(|reason| damaged(reason.to_owned()))?;
    let commit: Commit = serde_json::from_str(json).map_err(|error| damaged(error.to_string()))?;
    for (from, to) in &commit.renames {
        match fs::rename(incoming.join(from), dir.join(to)) {
            // Done before a crash.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.join(to).exists() => {}
            done => done.map_err(named(dir, to))?,
        }
    }
    snapshot::keep_only(&dir.join(snapshot::DIR), &commit.snapshot)?;
    if let Some(packs) = &commit.packs {
        packs::keep_only(&dir.join("log"), packs)?;
    }
    sync_dir(&dir.join("log"))?;
    sync_dir(&dir.join(snapshot::DIR))?;
    fs::remove_file(incoming.join(COMMIT)).map_err(named(&incoming, COMMIT))?;
    Ok(sync_dir(&incoming)?)
}
