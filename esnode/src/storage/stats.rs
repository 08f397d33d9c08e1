//! Counters of the writer, for metrics. Knows no metrics library.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the sync histogram's buckets; one more bucket holds what took longer.
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

/// What the writer has done since it was opened. Written by it alone, read by anyone.
#[derive(Debug, Default)]
pub struct Stats {
    /// Bytes handed to the system.
    pub bytes_written: AtomicU64,
    /// Syncs that succeeded.
    pub syncs: AtomicU64,
    /// Nanoseconds they took in all.
    pub sync_nanos: AtomicU64,
    /// Nanoseconds the latest took.
    pub last_sync_nanos: AtomicU64,
    /// Syncs by duration, not cumulative; bounds in [`SYNC_BOUNDS`].
    pub sync_buckets: [AtomicU64; SYNC_BOUNDS.len() + 1],
    /// Segment files.
    pub segments: AtomicU64,
    /// Bytes of log in them; allocated but unused space not counted.
    pub log_bytes: AtomicU64,
    /// Bytes of segments that this node is getting from another one, far behind as it is; 0 when it is not.
    pub incoming_bytes: AtomicU64,
    /// Those of them that are here.
    pub received_bytes: AtomicU64,
    /// The writer is at work; what it has not taken up yet waits in its channel.
    pub busy: AtomicBool,
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
