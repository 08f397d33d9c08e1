//! Memory that all connections of the listener share, and who is evicted when it is used up.
//!
//! A client that sends half a request, or does not take its answers, holds memory for as long as it likes. While there
//! is enough, it may. When another one waits for memory, the client that has kept the node waiting longest is cut off,
//! so that none can take all of it for long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::limits::Limits;

/// Requests of up to so many bytes have memory of their own: nobody's large ones can hold up the small ones.
const SMALL: usize = 2 << 20;
/// Pause between two cuts: the first may have freed enough.
const PAUSE: Duration = Duration::from_millis(10);

/// All the memory that the connections of a listener share.
#[derive(Debug)]
pub struct Memory {
    /// Large requests that are not complete.
    pub half_sent: MemoryBudget,
    /// Fetched events that are held for sending.
    pub fetches: MemoryBudget,
    /// What clients want, kept from one Fetch to the next.
    pub fetch_sessions: MemoryBudget,
    /// Large answers that are held for sending.
    pub answers: MemoryBudget,
    /// Answers that many get at once.
    pub shared: MemoryBudget,
    /// Large answers are made one at a time.
    pub building: Semaphore,
    small: MemoryBudget,
    large: MemoryBudget,
}

/// Memory that an answer holds until it is written, besides its request's.
#[derive(Debug)]
#[allow(dead_code, reason = "permits are held and not read")]
pub enum Held {
    /// Of fetched events.
    Events(OwnedSemaphorePermit),
    /// Of an answer that is larger than its request.
    Answer(OwnedSemaphorePermit),
    /// Of a body that others send too, and that comes behind this answer's header.
    Shared(Arc<SharedBody>),
}

/// The body of an answer that many get at once, and its memory.
#[derive(Debug)]
pub struct SharedBody {
    /// Everything after the answer's header.
    pub body: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl SharedBody {
    /// A body for which `memory` is taken.
    pub fn new(body: Bytes, memory: OwnedSemaphorePermit) -> Self {
        Self { body, _memory: memory }
    }
}

impl Memory {
    /// As much as `limits` says.
    pub fn new(limits: &Limits) -> Self {
        let budget = |bytes| MemoryBudget::new(bytes, limits.grace);
        Self {
            half_sent: budget(limits.half_sent_bytes),
            fetches: budget(limits.fetch_bytes),
            fetch_sessions: budget(limits.fetch_session_bytes),
            answers: budget(limits.answer_bytes),
            shared: budget(limits.shared_bytes),
            building: Semaphore::new(1),
            small: budget(limits.request_bytes),
            large: budget(limits.large_request_bytes),
        }
    }

    /// Waits until there is memory for a request that takes `bytes`.
    pub async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let budget = if bytes <= SMALL { &self.small } else { &self.large };
        budget.take(bytes).await
    }

    /// Notes that a client takes no answers, while what is returned lives; it may have much memory of requests in flight,
    /// and holds `held` for its answers.
    pub fn slow_clients(&self, since: Instant, requests: bool, held: &[Held]) -> Vec<SlowClient<'_>> {
        let any = |kind: fn(&Held) -> bool| held.iter().any(kind);
        let budgets = [
            (&self.small, requests),
            (&self.large, requests),
            (&self.fetches, any(|held| matches!(held, Held::Events(_)))),
            (&self.answers, any(|held| matches!(held, Held::Answer(_)))),
            (&self.shared, any(|held| matches!(held, Held::Shared(_)))),
        ];
        budgets.into_iter().filter(|(_, holds)| *holds).map(|(budget, _)| budget.slow_client(since)).collect()
    }
}

/// A number of bytes, shared.
#[derive(Debug)]
pub struct MemoryBudget {
    free: Arc<Semaphore>,
    bytes: usize,
    grace: Duration,
    slow: Mutex<SlowClients>,
}

#[derive(Debug, Default)]
struct SlowClients {
    /// By the time since when the node waits for them.
    clients: BTreeMap<(Instant, u64), Arc<Notify>>,
    serial: u64,
    last_cut: Option<Instant>,
}

impl MemoryBudget {
    /// A budget of `bytes`, where a client that keeps others waiting for them may be late by `grace`.
    pub fn new(bytes: usize, grace: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes, grace, slow: Mutex::default() }
    }

    /// Waits for `bytes`, or for all when the budget has less; first come, first served.
    pub async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.free).acquire_many_owned(bytes);
        tokio::pin!(taken);
        loop {
            tokio::select! {
                taken = &mut taken => return taken.expect("the semaphore is never closed"),
                () = sleep_until(self.next_cut()) => self.evict(),
            }
        }
    }

    /// Takes `bytes` if they are there.
    pub fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).ok()
    }

    /// Notes that a client has kept the node waiting since `since`, until what is returned is dropped.
    pub fn slow_client(&self, since: Instant) -> SlowClient<'_> {
        let mut slow = self.slow.lock();
        slow.serial += 1;
        let (key, cut) = ((since, slow.serial), Arc::new(Notify::new()));
        slow.clients.insert(key, Arc::clone(&cut));
        SlowClient { budget: self, key, cut }
    }

    /// Memory is short: cuts off the client that has been late for longest, if it has been for too long.
    pub fn evict(&self) {
        let now = Instant::now();
        let mut slow = self.slow.lock();
        if slow.last_cut.is_some_and(|cut| now < cut + PAUSE) {
            return;
        }
        if slow.clients.first_key_value().is_some_and(|((since, _), _)| *since + self.grace <= now) {
            slow.last_cut = Some(now);
            if let Some((_, cut)) = slow.clients.pop_first() {
                cut.notify_one();
            }
        }
    }

    fn next_cut(&self) -> Instant {
        let slow = self.slow.lock();
        let now = Instant::now();
        let oldest = slow.clients.first_key_value().map_or(now, |((since, _), _)| *since);
        (oldest + self.grace).max(now + PAUSE)
    }
}

/// A client that keeps the node waiting.
#[derive(Debug)]
pub struct SlowClient<'a> {
    budget: &'a MemoryBudget,
    key: (Instant, u64),
    cut: Arc<Notify>,
}

impl SlowClient<'_> {
    /// Done when the client must give back what it holds.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for SlowClient<'_> {
    fn drop(&mut self) {
        self.budget.slow.lock().clients.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn nobody_is_cut_off_while_there_is_enough() {
        let budget = MemoryBudget::new(100, GRACE);
        let slow = budget.slow_client(Instant::now());
        sleep(GRACE * 10).await;
        drop(budget.take(100).await);
        assert!(timeout(GRACE, slow.cut()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_late_for_longest_gives_way_first_and_only_then_the_next() {
        let budget = Arc::new(MemoryBudget::new(100, GRACE));
        let began = Instant::now();
        let hold = |since: u64| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                let held = budget.take(50).await;
                budget.slow_client(began + Duration::from_secs(since)).cut().await;
                drop(held);
                Instant::now() - began
            })
        };
        let (young, old) = (hold(2), hold(0));
        sleep(Duration::from_secs(1)).await;
        // Both are there, and 50 bytes more are wanted.
        let taken = budget.take(50).await;
        let waited = Instant::now() - began;
        assert!(waited >= GRACE && waited < GRACE + PAUSE * 3, "{waited:?}");
        assert_eq!(old.await.unwrap(), waited);
        drop(taken);
        sleep(GRACE).await;
        assert!(!young.is_finished(), "there was enough");
        drop(budget.take(100).await);
        assert!(young.await.unwrap() > waited);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_made_up_for_it_is_not_cut_off() {
        let budget = Arc::new(MemoryBudget::new(100, GRACE));
        let held = budget.try_take(100).unwrap();
        drop(budget.slow_client(Instant::now()));
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.take(1).await.num_permits() }
        });
        sleep(GRACE * 3).await;
        assert!(budget.try_take(1).is_none());
        drop(held);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
