//! Snapshots: the state of the state machine after an entry, so that a start only replays the entries after it.
//!
//! There is one file for each snapshot in `checkpoints/`, named by the entry's index. The newest two are kept, so that
//! a single damaged file only costs time. A snapshot also records where the log begins: entries before that may be
//! missing, no others.

mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk_space::release_reserve;
use super::error::OpenError;
use super::files::{self, create_dir, is_full, named, remove_if_present, replace};
use super::log::{Log, LogStart};
use file::EXTENSION;
pub use file::Snapshot;
pub(crate) use file::{HEADER_LEN, decode, encode, file_name};

/// Their directory in the data directory.
pub(crate) const DIR: &str = "checkpoints";
/// Name of a snapshot that is being written.
const UNFINISHED: &str = "next.tmp";
/// Number of snapshots that are kept.
const KEPT: usize = 2;

/// The snapshots of a data directory. Cheap to clone; safe from any thread.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    dir: PathBuf,
    /// Index and log start of the snapshots that are kept, newest last. Locked while one is written.
    kept: Arc<Mutex<Vec<(u64, LogStart)>>>,
}

/// The snapshots that were found at the start.
pub(crate) struct FoundSnapshots {
    pub snapshots: Snapshots,
    pub newest: Option<Snapshot>,
    /// Names of damaged files with the reasons, newest first.
    pub damaged: Vec<(String, String)>,
}

/// Reads the snapshots under `dir`, and deletes an unfinished one.
pub(crate) fn find(dir: &Path) -> Result<FoundSnapshots, OpenError> {
    let dir = dir.join(DIR);
    create_dir(&dir)?;
    remove_if_present(&dir, UNFINISHED)?;
    let mut found = FoundSnapshots { snapshots: Snapshots::default(), newest: None, damaged: Vec::new() };
    for name in names(&dir)?.into_iter().rev() {
        let bytes = fs::read(dir.join(&name)).map_err(named(&dir, &name))?;
        match decode(&name, bytes.into())? {
            Ok(snapshot) => {
                found.snapshots.kept.lock().insert(0, (snapshot.index, snapshot.start));
                found.newest.get_or_insert(snapshot);
            }
            Err(reason) => found.damaged.push((format!("{DIR}/{name}"), reason)),
        }
    }
    found.snapshots.dir = dir;
    Ok(found)
}

/// Names of all snapshots in `dir`, oldest first.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    files::list(dir, EXTENSION)
}

impl Snapshots {
    /// Writes a snapshot of everything up to entry `index`, which is applied. It is durable on return. Then deletes
    /// older snapshots, and the files of deleted segments that no kept snapshot needs.
    ///
    /// # Errors
    /// Those of the file system. If [`is_full`] is true of it, nothing has changed; any other error is final.
    pub fn write(&self, log: &Log, index: u64, term: u64, payload: &[u8]) -> io::Result<()> {
        let mut kept = self.kept.lock();
        if kept.last().is_some_and(|(newest, _)| *newest > index) {
            // Meanwhile a snapshot of another node was installed.
            return Ok(());
        }
        // A snapshot asserts that the log is durable up to its entry.
        log.sync()?;
        let start = log.start();
        let bytes = encode(index, term, start, payload);
        let put = || self.put(&file_name(index), &bytes);
        match put() {
            Err(error) if is_full(&error) && release_reserve(log.dir()) => put()?,
            done => done?,
        }
        kept.retain(|(kept, _)| *kept != index);
        kept.push((index, start));
        let older = kept.len().saturating_sub(KEPT);
        kept.drain(..older);
        let needed: Vec<_> = kept.iter().map(|(index, _)| file_name(*index)).collect();
        remove_others(&self.dir, &needed)?;
        match &kept[..] {
            // If the only snapshot was damaged, the whole log would have to be replayed, so its segments are kept.
            [older, _] => log.remove_deleted(older.1.sequence),
            _ => Ok(()),
        }
    }

    /// Returns whether files of deleted segments are kept until there are newer snapshots.
    pub fn awaits_deletion(&self, log: &Log) -> bool {
        let first = log.start().sequence;
        self.kept.lock().iter().any(|(_, start)| start.sequence < first)
    }

    /// Returns the index of the newest snapshot's entry.
    pub fn newest_index(&self) -> Option<u64> {
        self.kept.lock().last().map(|(index, _)| *index)
    }

    /// Reads the newest snapshot from disk.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` if it is damaged.
    pub fn newest(&self) -> io::Result<Option<Snapshot>> {
        let kept = self.kept.lock();
        let Some((index, _)) = kept.last() else { return Ok(None) };
        let name = file_name(*index);
        let bytes = fs::read(self.dir.join(&name)).map_err(named(&self.dir, &name))?;
        let damaged = |reason| {
            let message = format!("the snapshot {DIR}/{name} is damaged: {reason}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        decode(&name, bytes.into()).map_err(io::Error::other)?.map(Some).map_err(damaged)
    }

    /// Runs `install`, which replaces all snapshots by the one of entry `index`. No snapshot is written meanwhile.
    pub(crate) fn replace(
        &self,
        (index, start): (u64, LogStart),
        install: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut kept = self.kept.lock();
        install()?;
        *kept = vec![(index, start)];
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace(&self.dir, UNFINISHED, name, bytes).inspect_err(|_| {
            // If this fails, the next start deletes it.
            drop(fs::remove_file(self.dir.join(UNFINISHED)));
        })
    }
}

/// Deletes all snapshots except the one with this name.
pub(crate) fn keep_only(dir: &Path, name: &str) -> io::Result<()> {
    remove_others(dir, &[name.to_owned()])
}

fn remove_others(dir: &Path, needed: &[String]) -> io::Result<()> {
    for name in names(dir)?.into_iter().filter(|name| !needed.contains(name)) {
        fs::remove_file(dir.join(&name)).map_err(named(dir, &name))?;
    }
    Ok(())
}
