//! Counters of the writer, for metrics. Knows no metrics library.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::process::histogram::Histogram;

/// What the writer has done since it was started. Only the writer changes it; anybody may read it.
#[derive(Debug, Default)]
pub struct Stats {
    /// Bytes handed to the system.
    pub bytes_written: AtomicU64,
    /// Syncs that succeeded.
    pub syncs: Histogram,
    /// Number of segment files.
    pub segments: AtomicU64,
    /// Bytes of log in the segments, without allocated but unused space.
    pub log_bytes: AtomicU64,
    /// Total bytes of the segments that this node is receiving from another node; 0 if it receives none.
    pub incoming_bytes: AtomicU64,
    /// Number of these bytes that have arrived.
    pub received_bytes: AtomicU64,
    /// The writer is working. Further work waits in its channel.
    pub busy: AtomicBool,
    /// There is little room on the disk: as many nodes with it as leave no majority take no more events.
    pub low_room: AtomicBool,
    /// As leader this node takes no more events, since too many voters have little room.
    pub refuses_events: AtomicBool,
    /// Bytes free on the disk, besides the reserve.
    pub free_bytes: AtomicU64,
    /// The writer waits for room for the next segment.
    pub lacks_room: AtomicBool,
}
