//! The batches that no index of a segment has yet, in memory.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::{Mutex, RwLock};

use super::{BatchEntry, PartitionKey, Wanted};

/// Parts that are locked one by one, so that a reader of one partition seldom holds up the replica.
const SHARDS: usize = 16;
/// Batches that one search returns, at most: a part is not locked for longer.
const MOST_FOUND: usize = 1024;

/// A batch, and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentBatch {
    /// The batch.
    pub batch: BatchEntry,
    /// Index of its entry.
    pub entry: u64,
    /// Offset in the entry's payload.
    pub offset: u32,
}

type Shard = RwLock<HashMap<PartitionKey, Vec<RecentBatch>>>;

/// All batches of the entries from a certain one on that are applied. The replica adds to them.
#[derive(Debug)]
pub struct RecentBatches {
    shards: [Shard; SHARDS],
    since: AtomicU64,
    /// Held while `since` moves, and while anything but the newest batches changes.
    moving: Mutex<()>,
}

impl RecentBatches {
    /// None yet; they will be those of the entries from `since` on.
    pub fn since_entry(since: u64) -> Self {
        Self { shards: Default::default(), since: since.into(), moving: Mutex::default() }
    }

    /// The first entry whose batches are here. A search is complete if this was not higher after it.
    pub fn since(&self) -> u64 {
        self.since.load(SeqCst)
    }

    fn shard(&self, (topic, partition): PartitionKey) -> &Shard {
        &self.shards[(topic ^ partition) as usize % SHARDS]
    }

    /// Adds a batch that was applied.
    pub fn push(&self, key: PartitionKey, batch: RecentBatch) {
        self.shard(key).write().entry(key).or_default().push(batch);
    }

    /// Returns batches of the partition from the one that is `wanted` on: as many as fit in `max_bytes`, at least one if
    /// there is one, and not more than a thousand.
    pub fn find(&self, key: PartitionKey, wanted: Wanted, max_bytes: usize) -> Vec<RecentBatch> {
        let shard = self.shard(key).read();
        let Some(batches) = shard.get(&key) else { return Vec::new() };
        let from = batches.partition_point(|recent| recent.batch.is_before(wanted));
        let mut bytes = 0;
        let fits = |recent: &&RecentBatch| {
            let fits = bytes == 0 || bytes + recent.batch.length as usize <= max_bytes;
            bytes += recent.batch.length as usize;
            fits
        };
        batches[from..].iter().take(MOST_FOUND).take_while(fits).copied().collect()
    }

    /// The batches of these entries, by partition.
    pub fn of_entries(&self, entries: &RangeInclusive<u64>) -> Vec<(PartitionKey, Vec<RecentBatch>)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            for (key, batches) in &*shard.read() {
                let from = batches.partition_point(|recent| recent.entry < *entries.start());
                let to = batches.partition_point(|recent| recent.entry <= *entries.end());
                if from < to {
                    found.push((*key, batches[from..to].to_vec()));
                }
            }
        }
        found
    }

    /// Adds the batches of the entries from `since` up to the first that was here. Does nothing if that is no longer
    /// `before`.
    pub fn extend_back(
        &self,
        since: u64,
        before: u64,
        batches: impl IntoIterator<Item = (PartitionKey, Vec<RecentBatch>)>,
    ) {
        let _moving = self.moving.lock();
        if self.since() != before {
            return;
        }
        for (key, mut earlier) in batches {
            let mut shard = self.shard(key).write();
            let here = shard.entry(key).or_default();
            earlier.append(here);
            *here = earlier;
        }
        self.since.store(since, SeqCst);
    }

    /// Drops the batches of the entries up to `last`, which are indexed elsewhere now.
    pub fn forget(&self, last: u64) {
        let _moving = self.moving.lock();
        // First, so that a search that misses them notices.
        self.since.fetch_max(last + 1, SeqCst);
        for shard in &self.shards {
            shard.write().retain(|_, batches| {
                batches.drain(..batches.partition_point(|recent| recent.entry <= last));
                !batches.is_empty()
            });
        }
    }

    /// Drops everything: the log was replaced, and the next entry to be applied is `since`.
    pub fn restart(&self, since: u64) {
        let _moving = self.moving.lock();
        self.since.store(u64::MAX, SeqCst);
        self.shards.iter().for_each(|shard| shard.write().clear());
        self.since.store(since, SeqCst);
    }
}
