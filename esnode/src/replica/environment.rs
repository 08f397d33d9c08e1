//! What a replica is surrounded by: the threads of a node, or the simulator.

use crate::consensus::Durable;
use crate::replica::Snapshot;

/// The types that a shell brings along.
pub trait Environment {
    /// This node's durable log.
    type Log: ReplicaLog;
    /// Who waits for the response to a request.
    type Waiter;
    /// A snapshot that was fetched from another node, with the log before it.
    type Fetched: FetchedSnapshot;
}

/// The durable log and the disk that it is on.
pub trait ReplicaLog: Durable + Clone {
    /// The first index of a segment with at least `bytes` of log from there on; that of the log if there is less.
    fn index_before(&self, bytes: u64) -> u64;

    /// Whether to delete everything before `index` would free a segment.
    fn would_delete(&self, index: u64) -> bool;

    /// The last entry whose events are kept in packs, outside the log; 0 if there is none.
    fn packed(&self) -> u64;

    /// Whether deleted segments stay on the disk until there is a newer snapshot.
    fn awaits_snapshot(&self) -> bool;

    /// Whether the disk is almost full.
    fn low_on_space(&self) -> bool;

    /// Whether the writer has nothing to do and nothing is on its way to it.
    fn writer_is_idle(&self) -> bool;
}

/// A snapshot of another node that is here, but not installed yet.
pub trait FetchedSnapshot {
    /// What the disk needs in order to install it.
    type Staged;

    /// Term of the snapshot's last entry.
    fn term(&self) -> u64;

    /// Its content.
    fn snapshot(&self) -> &Snapshot;

    /// What the disk needs in order to install it.
    fn staged(&self) -> Self::Staged;

    /// Its content, to be taken over.
    fn into_snapshot(self) -> Snapshot;

    /// Index of the snapshot's last entry.
    fn index(&self) -> u64 {
        self.snapshot().state.applied_index()
    }
}

/// What the disk needs in order to install a fetched snapshot.
pub type Staged<E> = <<E as Environment>::Fetched as FetchedSnapshot>::Staged;
