//! The segmented log: one writer ([`Wal`]) appends and syncs, any number of readers ([`Log`]) read what is
//! durable.
//!
//! Nothing here knows topics, snapshots or Raft's rules.

pub mod collector;
pub mod footer;
pub mod frame;
pub mod header;
pub mod index;
pub mod open_files;
pub mod packs;
pub mod positions;
pub mod preallocator;
pub mod reader;
pub mod recovery;
pub mod scan;
pub mod scrub;
pub mod segment;
pub mod segment_indexes;
pub mod state;
pub mod tail;
pub mod wal;
mod write_batch;

use crate::entry::{Entry, HardState};
pub use reader::Log;
pub use wal::Wal;

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// Sequence number of the first segment.
    pub sequence: u32,
    /// Index and term of the entry before the first.
    pub before: (u64, u64),
}

impl Default for LogStart {
    fn default() -> Self {
        Self { sequence: 1, before: (0, 0) }
    }
}

/// One unit of work for the writer: written in one go, synced together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New persistent state, written before the entries.
    pub hard_state: Option<HardState>,
    /// Entries in index order. The first may be at or below the last index: it and all above it are replaced.
    pub entries: Vec<Entry>,
}
