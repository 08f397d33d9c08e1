//! The durable log and its disk, as the replica sees them.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Sender;

use crate::consensus::{Durable, ReadFailed};
use crate::entry::Entry;
use crate::replica::ReplicaLog;
use crate::storage::writer::NumberedRequest;
use crate::storage::{Log, Snapshots};

/// A node's durable log.
#[derive(Clone)]
pub struct NodeLog {
    /// The log.
    pub log: Log,
    /// The snapshots beside it.
    pub snapshots: Snapshots,
    /// The way to the thread that writes it.
    pub writer: Sender<NumberedRequest>,
}

impl ReplicaLog for NodeLog {
    fn index_before(&self, bytes: u64) -> u64 {
        self.log.index_before(bytes)
    }

    fn would_delete(&self, index: u64) -> bool {
        self.log.would_delete(index)
    }

    fn packed(&self) -> u64 {
        self.log.packs().last_index()
    }

    fn awaits_snapshot(&self) -> bool {
        self.snapshots.awaits_deletion(&self.log)
    }

    fn low_on_space(&self) -> bool {
        self.log.stats().low_room.load(Relaxed)
    }

    fn writer_is_idle(&self) -> bool {
        self.writer.is_empty() && !self.log.stats().busy.load(Relaxed)
    }
}

impl Durable for NodeLog {
    fn first_index(&self) -> u64 {
        self.log.first_index()
    }

    fn last_index(&self) -> u64 {
        self.log.last_index()
    }

    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
        self.log.term(index).map_err(failed)
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
        self.log.entries(low, high, max_bytes).map_err(failed)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "taken by map_err")]
fn failed(error: io::Error) -> ReadFailed {
    ReadFailed(error.to_string())
}
