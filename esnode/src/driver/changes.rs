//! Who waits for which partition to change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::state_machine::TopicId;

/// One signal per partition that somebody has waited for.
#[derive(Default)]
pub struct Changes {
    waiters: Mutex<HashMap<(TopicId, u32), Arc<Notify>>>,
}

impl Changes {
    /// The partition's signal.
    pub fn of(&self, topic: TopicId, partition: u32) -> Arc<Notify> {
        Arc::clone(self.waiters.lock().entry((topic, partition)).or_default())
    }

    /// Wakes whoever waits for these partitions, and forgets signals that nobody holds.
    pub fn announce(&self, touched: &[(TopicId, u32)]) {
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
