//! What of the log is durable: written by the [`super::Wal`], read through [`super::Log`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;

use super::index::Index;
use super::open_files::OpenFiles;
use super::segment::Segment;
use crate::storage::stats::Stats;

/// What the writer tells the readers.
pub(crate) struct SharedLog {
    pub dir: PathBuf,
    /// Entries become visible only once they are synced.
    pub synced: bool,
    pub state: RwLock<LogState>,
    pub stats: Arc<Stats>,
    /// Those of sealed segments.
    pub files: Arc<OpenFiles>,
    /// The writer is to end, and waits for no room any more.
    pub ending: AtomicBool,
}

/// The durable log.
#[derive(Default)]
pub(crate) struct LogState {
    pub index: Index,
    /// In order of sequence numbers, without gaps.
    pub segments: VecDeque<Arc<Segment>>,
    /// Bytes in all segments but the last.
    pub sealed_bytes: u64,
    /// Where the last segment's frames end.
    pub end: u64,
}

impl LogState {
    /// The segment of this sequence number.
    pub fn segment(&self, sequence: u32) -> Option<&Arc<Segment>> {
        let first = self.segments.front()?.header.sequence;
        self.segments.get(sequence.checked_sub(first)? as usize)
    }
}

/// Segments with their ends, and index and term of the entry before what they hold.
pub(crate) struct Sealed {
    pub before: (u64, u64),
    pub segments: Vec<(Arc<Segment>, u64)>,
}

impl SharedLog {
    /// Brings the counters up to date.
    pub fn count(&self, state: &LogState) {
        self.stats.segments.store(state.segments.len() as u64, Relaxed);
        self.stats.log_bytes.store(state.sealed_bytes + state.end, Relaxed);
    }
}
