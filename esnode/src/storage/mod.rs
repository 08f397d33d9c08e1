//! The segmented log on disk: the only copy of the events, and of Raft's state.
//!
//! One writer ([`Wal`], on its own thread: [`writer`]) appends and syncs; any number of readers ([`Log`]) read what
//! is durable. Nothing here knows topics or Raft's rules.
//!
//! # On disk
//! Segments are append-only, even when Raft replaces a conflicting suffix: an entry at or below the last index
//! supersedes that index and all above, also when the log is replayed. Term and vote are frames of the same stream,
//! so one sync orders and covers both. Every segment begins with such a *state frame*, so that no old segment must
//! be kept for its sake, and its predecessor was synced before it came to be.
//!
//! # A torn tail, or damage?
//! After a power cut, what was written since the last sync may be there in any part: pages reach the disk in any
//! order. What was synced is there, or the disk lost it. To tell the two apart, the state frame at the head of each
//! group of writes says up to where the log had been synced before it (`synced_to`). A bad frame below a `synced_to`
//! that some valid later frame claims is damage: the node refuses to start. Any other is a torn tail, never
//! acknowledged, and is cut. An idle writer adds the mark of its last group by itself, so that even that group is
//! protected soon after its sync.

pub mod checkpoint;
pub mod copy;
mod filler;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod gather;
pub mod identity;
pub mod incoming;
mod index;
mod install;
mod open_files;
pub mod outgoing;
mod reader;
mod recovery;
pub mod room;
pub mod scrub;
mod segment;
pub mod stats;
mod summary;
#[cfg(test)]
mod tests;
pub mod verify;
mod wal;
pub mod writer;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::entry::{Entry, HardState};
pub use checkpoint::{Checkpoint, Checkpoints};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::fuzz;
pub use incoming::{Incoming, Part, Staged};
pub use outgoing::{Offer, Outgoing};
pub use reader::Log;
pub use wal::Wal;

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes per segment file, below 4 GiB. The first segments of a new log are smaller.
    pub segment_bytes: u64,
    /// Sync entries, not only term and vote.
    pub sync: bool,
}

/// Bytes per segment unless there is a reason for another size.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: DEFAULT_SEGMENT_BYTES, sync: true }
    }
}

/// Whether segments are filled with zeroes ahead of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// They are: a sync then need not record in the file system's journal that blocks came into use.
    Zeroes,
    /// They are only allocated.
    Nothing,
}

/// What [`open`] found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Raft's persistent state; the default for an empty log. `commit` never exceeds the last index.
    pub hard_state: HardState,
    /// Bytes of a torn tail that were cut, if any: (file name, offset, bytes).
    pub torn: Option<(String, u64, u64)>,
    /// The newest checkpoint that is whole; the log holds its entry or begins just after it.
    pub checkpoint: Option<Checkpoint>,
    /// Checkpoints that were passed over because they are damaged: (file name, reason).
    pub damaged: Vec<(String, String)>,
    /// Where the next checkpoints go.
    pub checkpoints: Checkpoints,
}

/// One unit of work for the writer: written in one go, synced together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New persistent state, written before the entries.
    pub hard_state: Option<HardState>,
    /// Entries in index order. The first may be at or below the last index: it and all above it are replaced.
    pub entries: Vec<Entry>,
}

/// Opens, or creates, the log under `dir/log`. The caller holds the lock of `dir` ([`identity::DataDir`]).
///
/// # Errors
/// [`OpenError`]; the log is then untouched.
pub fn open(dir: &Path, options: Options) -> Result<(Log, Wal, Recovered), OpenError> {
    open_with(dir, options, Fill::Zeroes)
}

/// [`open`], with or without filling segments ahead; for measuring.
///
/// # Errors
/// As [`open`].
pub fn open_with(dir: &Path, options: Options, fill: Fill) -> Result<(Log, Wal, Recovered), OpenError> {
    incoming::finish(dir)?;
    let checkpoint::Found { checkpoints, newest: checkpoint, damaged } = checkpoint::find(dir)?;
    let dir = dir.join("log");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    recovery::remove_unfinished(&dir)?;
    let start = checkpoint.as_ref().map_or_else(checkpoint::Start::default, |checkpoint| checkpoint.start);
    let found = recovery::recover(&dir, start).map_err(|error| match damaged.first() {
        // What the damaged one would have said of the log's start is not known.
        Some((file, reason)) if matches!(error, OpenError::Missing { .. }) => OpenError::Checkpoint {
            file: file.clone(),
            reason: format!("{reason}, and the log does not reach back far enough to do without it"),
        },
        _ => error,
    })?;
    if let Some(checkpoint) = &checkpoint {
        found.reaches(checkpoint)?;
    }
    found.cut_tail()?;
    sync_dir(&dir)?;
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
    }
    let hard_state = found.hard_state;
    let torn = found.torn.clone();
    let (log, wal) = wal::start(&dir, options, fill, found, checkpoints.clone())?;
    Ok((log, wal, Recovered { hard_state, torn, checkpoint, damaged, checkpoints }))
}

/// Makes creations, removals and renames in `dir` durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(segment::at(dir, ""))
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Bytes that had reached the disk are no longer what was written.
    #[error("the log is damaged: {file}, byte {offset}: {reason}. {RESEED}")]
    Corrupt {
        /// The segment's name.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment is gone.
    #[error("the log is damaged: segment number {sequence}, just before {before}, is missing. {RESEED}")]
    Missing {
        /// Sequence number of the one that is missing.
        sequence: u32,
        /// Name of the segment that follows it.
        before: String,
    },
    /// A checkpoint cannot be used, and there is no way to do without it.
    #[error("the checkpoint {file} is damaged: {reason}. {RESEED}")]
    Checkpoint {
        /// Its name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint says that the log was durable further than it reaches now.
    #[error(
        "the log is damaged: checkpoint {index} of term {term} was written after the log up to there was durable, but \
         {reason}. {RESEED}"
    )]
    Lost {
        /// The checkpoint's entry.
        index: u64,
        /// The entry's term.
        term: u64,
        /// What the log holds instead.
        reason: String,
    },
    /// A later version of this program wrote the file.
    #[error(
        "{file} has format version {found}; this program knows versions up to {known}. Start the version of \
         esnode that wrote it, or a later one"
    )]
    Version {
        /// The file's name.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
}

const RESEED: &str = "Nothing was changed on disk. Check the disk; then re-seed this node from the others: remove \
                      it from the cluster, empty its data directory, and add it again";

impl OpenError {
    fn corrupt(file: &str, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
    }
}
