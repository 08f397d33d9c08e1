//! The segmented log on disk: the only copy of the events, and of Raft's state.
//!
//! One writer ([`Wal`], on its own thread) appends and syncs; any number of readers ([`Log`]) read what is
//! durable. Nothing here knows topics or Raft's rules.

mod filler;
mod frame;
mod identity;
mod index;
mod log;
mod recovery;
mod segment;
mod stats;
mod wal;
mod writer;

use std::io;
use std::path::Path;

use crate::entry::{Entry, HardState};

pub use identity::{Identity, IdentityError};
pub use log::Log;
pub use recovery::open;
pub use stats::{SYNC_BOUNDS, WalStats};
pub use wal::Wal;
pub use writer::{WalEvent, spawn_writer};

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes per segment file.
    pub segment_bytes: u64,
    /// Sync entries, not only term and vote.
    pub sync: bool,
    /// Write zeros a little ahead of the log, so that a sync need not also record newly used blocks.
    pub zero_ahead: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, sync: true, zero_ahead: true }
    }
}

/// What [`open`] found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Raft's persistent state; the default for an empty log.
    pub hard_state: HardState,
    /// Bytes of a torn tail that were cut, if any: (file name, offset, bytes).
    pub torn: Option<(String, u64, u64)>,
}

/// One unit of work for the writer: written in one go, synced together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New persistent state, written before the entries.
    pub hard_state: Option<HardState>,
    /// Entries in index order. The first may be at or below the last index: it and all above it are replaced.
    pub entries: Vec<Entry>,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was durable is no longer as it was written.
    #[error(
        "{file} is corrupt at byte {offset}: {reason}. Nothing was changed. To make this node whole again, remove it \
         from the cluster, delete its data directory and add it again; the other nodes have everything"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Written by another release.
    #[error(
        "{file} has on-disk format {format}, which this release cannot read: run the release that wrote it"
    )]
    Format {
        /// The file.
        file: String,
        /// Its format.
        format: u16,
    },
}

impl OpenError {
    fn corrupt(path: &Path, offset: u64, reason: &str) -> Self {
        Self::Corrupt { file: path.display().to_string(), offset, reason: reason.to_owned() }
    }
}

/// Makes names created in, or renamed within, a directory durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}
