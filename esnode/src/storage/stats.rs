//! The writer's figures, for whoever exposes them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the sync histogram's buckets, in microseconds; one more bucket takes what is slower.
pub const SYNC_BOUNDS: [u64; 13] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 50_000, 100_000, 400_000, 1_000_000];

/// Figures since the start.
#[derive(Debug, Default)]
pub struct WalStats {
    /// Bytes written.
    pub written_bytes: AtomicU64,
    /// Syncs.
    pub syncs: AtomicU64,
    /// Time spent in them, in microseconds.
    pub sync_us: AtomicU64,
    /// Syncs per bucket, not cumulative; bounds in [`SYNC_BOUNDS`].
    pub sync_buckets: [AtomicU64; SYNC_BOUNDS.len() + 1],
}

impl WalStats {
    pub(super) fn synced(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Relaxed);
        self.sync_us.fetch_add(us, Relaxed);
        self.sync_buckets[SYNC_BOUNDS.partition_point(|bound| *bound < us)].fetch_add(1, Relaxed);
    }
}
