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

impl<K: Eq + Hash + Ord + Clone> Wakers<K> {
    /// The signal of this one.
    pub fn of(&self, key: &K) -> Arc<Notify> {
        Arc::clone(self.waiters.lock().entry(key.clone()).or_default())
    }

    /// Wakes those who wait for these, which are in order, and drops signals that nobody holds.
    pub fn wake(&self, changed: &[K]) {
        if changed.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        if waiters.len() < changed.len() {
            // A topic of a thousand partitions is gone, say, and nobody reads it.
            waiters.retain(|key, signal| changed.binary_search(key).is_err() || wake(signal));
            return;
        }
        for key in changed {
            if waiters.get(key).is_some_and(|signal| !wake(signal)) {
                waiters.remove(key);
            }
        }
    }
}

/// Wakes whoever waits. Returns whether somebody holds the signal.
fn wake(signal: &Arc<Notify>) -> bool {
    signal.notify_waiters();
    Arc::strong_count(signal) > 1
}

#[cfg(test)]
mod tests {
    use tokio::sync::futures::Notified;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_whether_few_or_many_things_change() {
        for changed in [vec![(1, 3)], (0..100).map(|partition| (1, partition)).collect()] {
            let wakers = PartitionWakers::default();
            let signals: Vec<_> = [(1, 3), (2, 3), (1, 200)].iter().map(|key| wakers.of(key)).collect();
            drop((wakers.of(&(1, 4)), wakers.of(&(1, 300))));
            let mut waiting: Vec<_> = signals.iter().map(|signal| Box::pin(signal.notified())).collect();
            waiting.iter_mut().for_each(|waits| assert!(!waits.as_mut().enable()));
            wakers.wake(&changed);
            let woken: Vec<bool> = waiting.iter_mut().map(|waits| is_woken(waits.as_mut())).collect();
            assert_eq!(woken, [true, false, false]);
            let left = wakers.waiters.lock().len();
            assert_eq!(
                left,
                if changed.len() == 1 { 5 } else { 4 },
                "what nobody holds is dropped when it changes"
            );
        }
    }

    fn is_woken(waits: std::pin::Pin<&mut Notified<'_>>) -> bool {
        waits.enable()
    }
}
