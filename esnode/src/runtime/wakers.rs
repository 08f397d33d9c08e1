//! Who waits for what to change.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::state_machine::TopicId;

/// Who waits for which partition.
pub type PartitionWakers = Wakers<(TopicId, u32)>;
/// Who waits for which consumer group.
pub type GroupWakers = Wakers<String>;

/// One signal for each thing that somebody has waited for.
pub struct Wakers<K> {
    waiters: Mutex<HashMap<K, Arc<Notify>>>,
}

impl<K> Default for Wakers<K> {
    fn default() -> Self {
        Self { waiters: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Wakers<K> {
    /// The signal of this one.
    pub fn of(&self, key: &K) -> Arc<Notify> {
        Arc::clone(self.waiters.lock().entry(key.clone()).or_default())
    }

    /// Wakes those who wait for these, and drops signals that nobody holds.
    pub fn wake(&self, changed: &[K]) {
        if changed.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        for key in changed {
            let Some(signal) = waiters.get(key) else { continue };
            signal.notify_waiters();
            if Arc::strong_count(signal) == 1 {
                waiters.remove(key);
            }
        }
    }
}
