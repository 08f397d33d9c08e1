//! Counters of the writer, for metrics. Knows no metrics library.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets of the sync histogram. One more bucket is for longer syncs.
pub const SYNC_BOUNDS: [Duration; 14] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// What the writer has done since it was started. Only the writer changes it; anybody may read it.
#[derive(Debug, Default)]
pub struct Stats {
    /// Bytes handed to the system.
    pub bytes_written: AtomicU64,
    /// Syncs that succeeded.
    pub syncs: AtomicU64,
    /// Total duration of all syncs, in ns.
    pub sync_nanos: AtomicU64,
    /// Duration of the last sync, in ns.
    pub last_sync_nanos: AtomicU64,
    /// Syncs by duration, not cumulative; bounds in [`SYNC_BOUNDS`].
    pub sync_buckets: [AtomicU64; SYNC_BOUNDS.len() + 1],
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

impl Stats {
    pub(super) fn synced(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Relaxed);
        self.sync_nanos.fetch_add(nanos, Relaxed);
        self.last_sync_nanos.store(nanos, Relaxed);
        let bucket = SYNC_BOUNDS.partition_point(|bound| *bound < took);
        self.sync_buckets[bucket].fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_up_to_their_bound() {
        let stats = Stats::default();
        for micros in [10, 50, 51, 900, 2_000_000] {
            stats.synced(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = stats.sync_buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        assert_eq!(counts, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(stats.syncs.load(Relaxed), 5);
        assert_eq!(stats.last_sync_nanos.load(Relaxed), 2_000_000_000);
    }
}
