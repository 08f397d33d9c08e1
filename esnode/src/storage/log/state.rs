//! The state of the durable log, which the [`super::Wal`] updates and [`super::Log`] reads.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::RwLock;

use super::index::Index;
use super::open_files::OpenFiles;
use super::packs::Packs;
use super::positions::Positions;
use super::segment::Segment;
use crate::storage::stats::Stats;

/// What writer and readers share.
pub(crate) struct SharedLog {
    pub dir: PathBuf,
    /// Whether entries are synced before they become visible.
    pub synced: bool,
    pub state: RwLock<LogState>,
    pub stats: Arc<Stats>,
    /// The files of sealed segments.
    pub files: Arc<OpenFiles>,
    /// What has taken the place of the first segments.
    pub packs: Packs,
    /// Receives something when a segment was sealed.
    pub sealed: (Sender<()>, Receiver<()>),
    /// The node is shutting down, so the writer no longer waits for free disk space.
    pub ending: AtomicBool,
}

/// The durable log.
#[derive(Default)]
pub(crate) struct LogState {
    pub index: Index,
    /// Positions of the entries whose batches no segment's index has yet.
    pub positions: Positions,
    /// All segments, in order of their sequence numbers, without gaps.
    pub segments: VecDeque<Arc<Segment>>,
    /// Bytes in all sealed segments.
    pub sealed_bytes: u64,
    /// Offset at which the last segment's frames end.
    pub end: u64,
}

impl LogState {
    /// The segment of this sequence number.
    pub fn segment(&self, sequence: u32) -> Option<&Arc<Segment>> {
        let first = self.segments.front()?.header.sequence;
        self.segments.get(sequence.checked_sub(first)? as usize)
    }
}

/// Sealed segments with the offsets at which their frames end. `before` is index and term of the entry before the first
/// of them.
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
