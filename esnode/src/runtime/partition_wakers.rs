//! Wakes those who wait for a partition to change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::state_machine::TopicId;

/// One signal for each partition that is waited for.
#[derive(Default)]
pub struct PartitionWakers {
    waiters: Mutex<HashMap<(TopicId, u32), Arc<Notify>>>,
}

impl PartitionWakers {
    /// Returns the signal of a partition.
    pub fn of(&self, topic: TopicId, partition: u32) -> Arc<Notify> {
        Arc::clone(self.waiters.lock().entry((topic, partition)).or_default())
    }

    /// Wakes those who wait for these partitions, and drops signals that nobody waits for.
    pub fn wake(&self, touched: &[(TopicId, u32)]) {
        if touched.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        for key in touched {
            let Some(signal) = waiters.get(key) else { continue };
            signal.notify_waiters();
            if Arc::strong_count(signal) == 1 {
                waiters.remove(key);
            }
        }
    }
}
