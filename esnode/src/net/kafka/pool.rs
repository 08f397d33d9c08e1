//! Memory that all connections of the listener share, and who gives way when it is used up.
//!
//! A client that sends half a request, or does not take its answers, holds memory for as long as it likes. While there
//! is enough, it may. When another one waits for memory, the client that has kept the node waiting longest is cut off,
//! so that none can take all of it for long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::answers::Shared;
use super::limits::Limits;

/// Requests of up to so many bytes have memory of their own: nobody's large ones can hold up the small ones.
const SMALL: usize = 2 << 20;
/// Pause between two cuts: the first may have freed enough.
const PAUSE: Duration = Duration::from_millis(10);

/// All the memory that the connections of a listener share.
#[derive(Debug)]
pub struct Memory {
    /// Large requests that are not complete.
    pub half_sent: Pool,
    /// Fetched events that are held for sending.
    pub fetches: Pool,
    /// Large answers that are held for sending.
    pub answers: Pool,
    /// Answers that many get at once.
    pub shared: Pool,
    /// Large answers are made one at a time.
    pub building: Semaphore,
    small: Pool,
    large: Pool,
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
    Shared(Arc<Shared>),
}

impl Memory {
    /// As much as `limits` says.
    pub fn new(limits: &Limits) -> Self {
        let pool = |bytes| Pool::new(bytes, limits.patience);
        Self {
            half_sent: pool(limits.half_sent_bytes),
            fetches: pool(limits.fetch_bytes),
            answers: pool(limits.answer_bytes),
            shared: pool(limits.shared_bytes),
            building: Semaphore::new(1),
            small: pool(limits.request_bytes),
            large: pool(limits.large_request_bytes),
        }
    }

    /// Waits until there is memory for a request that takes `bytes`.
    pub async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let pool = if bytes <= SMALL { &self.small } else { &self.large };
        pool.take(bytes).await
    }

    /// Notes that a client takes no answers, while what is returned lives; it may have much memory of requests in flight,
    /// and holds `held` for its answers.
    pub fn late(&self, since: Instant, requests: bool, held: &[Held]) -> Vec<Late<'_>> {
        let any = |kind: fn(&Held) -> bool| held.iter().any(kind);
        let pools = [
            (&self.small, requests),
            (&self.large, requests),
            (&self.fetches, any(|held| matches!(held, Held::Events(_)))),
            (&self.answers, any(|held| matches!(held, Held::Answer(_)))),
            (&self.shared, any(|held| matches!(held, Held::Shared(_)))),
        ];
        pools.into_iter().filter(|(_, holds)| *holds).map(|(pool, _)| pool.late(since)).collect()
    }
}

/// A number of bytes, shared.
#[derive(Debug)]
pub struct Pool {
    free: Arc<Semaphore>,
    bytes: usize,
    patience: Duration,
    late: Mutex<Lates>,
}

#[derive(Debug, Default)]
struct Lates {
    /// By the time since when the node waits for them.
    clients: BTreeMap<(Instant, u64), Arc<Notify>>,
    serial: u64,
    last_cut: Option<Instant>,
}

impl Pool {
    /// A pool of `bytes`, where a client that keeps others waiting for them may be late by `patience`.
    pub fn new(bytes: usize, patience: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes, patience, late: Mutex::default() }
    }

    /// Waits for `bytes`, or for all when the pool has less; first come, first served.
    pub async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.free).acquire_many_owned(bytes);
        tokio::pin!(taken);
        loop {
            tokio::select! {
                taken = &mut taken => return taken.expect("the semaphore is never closed"),
                () = sleep_until(self.next_cut()) => self.press(),
            }
        }
    }

    /// Takes `bytes` if they are there.
    pub fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).ok()
    }

    /// Notes that a client has kept the node waiting since `since`, until what is returned is dropped.
    pub fn late(&self, since: Instant) -> Late<'_> {
        let mut late = self.late.lock();
        late.serial += 1;
        let (key, cut) = ((since, late.serial), Arc::new(Notify::new()));
        late.clients.insert(key, Arc::clone(&cut));
        Late { pool: self, key, cut }
    }

    /// Memory is short: cuts off the client that has been late for longest, if it has been for too long.
    pub fn press(&self) {
        let now = Instant::now();
        let mut late = self.late.lock();
        if late.last_cut.is_some_and(|cut| now < cut + PAUSE) {
            return;
        }
        if late.clients.first_key_value().is_some_and(|((since, _), _)| *since + self.patience <= now) {
            late.last_cut = Some(now);
            if let Some((_, cut)) = late.clients.pop_first() {
                cut.notify_one();
            }
        }
    }

    fn next_cut(&self) -> Instant {
        let late = self.late.lock();
        let now = Instant::now();
        let oldest = late.clients.first_key_value().map_or(now, |((since, _), _)| *since);
        (oldest + self.patience).max(now + PAUSE)
    }
}

/// A client that keeps the node waiting.
#[derive(Debug)]
pub struct Late<'a> {
    pool: &'a Pool,
    key: (Instant, u64),
    cut: Arc<Notify>,
}

impl Late<'_> {
    /// Done when the client must give back what it holds.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.pool.late.lock().clients.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn nobody_is_cut_off_while_there_is_enough() {
        let pool = Pool::new(100, PATIENCE);
        let late = pool.late(Instant::now());
        sleep(PATIENCE * 10).await;
        drop(pool.take(100).await);
        assert!(timeout(PATIENCE, late.cut()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_late_for_longest_gives_way_first_and_only_then_the_next() {
        let pool = Arc::new(Pool::new(100, PATIENCE));
        let began = Instant::now();
        let hold = |since: u64| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let held = pool.take(50).await;
                pool.late(began + Duration::from_secs(since)).cut().await;
                drop(held);
                Instant::now() - began
            })
        };
        let (young, old) = (hold(2), hold(0));
        sleep(Duration::from_secs(1)).await;
        // Both are there, and 50 bytes more are wanted.
        let taken = pool.take(50).await;
        let waited = Instant::now() - began;
        assert!(waited >= PATIENCE && waited < PATIENCE + PAUSE * 3, "{waited:?}");
        assert_eq!(old.await.unwrap(), waited);
        drop(taken);
        sleep(PATIENCE).await;
        assert!(!young.is_finished(), "there was enough");
        drop(pool.take(100).await);
        assert!(young.await.unwrap() > waited);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_made_up_for_it_is_not_cut_off() {
        let pool = Arc::new(Pool::new(100, PATIENCE));
        let held = pool.try_take(100).unwrap();
        drop(pool.late(Instant::now()));
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.take(1).await.num_permits() }
        });
        sleep(PATIENCE * 3).await;
        assert!(pool.try_take(1).is_none());
        drop(held);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
