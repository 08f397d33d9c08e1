//! The segmented log on disk: the only copy of the events, and of Raft's state.
//!
//! One writer ([`Wal`], on its own thread) appends and syncs; any number of readers ([`Log`]) read what is
//! durable. Nothing here knows topics or Raft's rules.

use std::io;
use std::path::Path;

use crate::entry::{Entry, HardState};

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes per segment file.
    pub segment_bytes: u64,
    /// Sync entries, not only term and vote.
    pub sync: bool,
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

/// Reader of everything durable. Cheap to clone; safe from any thread.
#[derive(Clone)]
pub struct Log {}

/// The one writer.
pub struct Wal {}

/// Opens, or creates, the log under `dir/log`.
pub fn open(_dir: &Path, _options: Options) -> Result<(Log, Wal, Recovered), OpenError> {
    unimplemented!()
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Log {
    /// Lowest index present; 1 for an empty log.
    pub fn first_index(&self) -> u64 {
        unimplemented!()
    }
    /// Highest durable index; 0 for an empty log.
    pub fn last_index(&self) -> u64 {
        unimplemented!()
    }
    /// Term of the entry at `index`; 0 for index 0.
    pub fn term(&self, _index: u64) -> io::Result<Option<u64>> {
        unimplemented!()
    }
    /// Entries `low..high` (durable ones only), as many as fit `max_bytes` of payload, at least one if there is one.
    pub fn entries(&self, _low: u64, _high: u64, _max_bytes: u64) -> io::Result<Vec<Entry>> {
        unimplemented!()
    }
}

impl Wal {
    /// Writes one batch; it is not durable, and no reader sees it, before [`Wal::sync`].
    pub fn write(&mut self, _batch: &Batch) -> io::Result<()> {
        unimplemented!()
    }
    /// Makes everything written durable, then visible to readers. An error is final: the caller must exit.
    pub fn sync(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}
