//! Answers that their own requests do not pay for: those that may be far longer, and the one that nearly all clients ask
//! for, which is made once and shared.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use super::frame::Outcome;
use super::memory::{Held, Memory, SharedBody};

/// An answer of so many bytes needs no memory of its own: every connection has buffers as large.
pub const SMALL: usize = 64 << 10;
/// Shared answers that are kept for whoever asks next: clients of all versions.
const KEPT: usize = 16;

impl Memory {
    /// Makes an answer of `size` bytes at most, once there is memory for it.
    pub async fn answer(&self, size: usize, make: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
        if size <= SMALL {
            return make();
        }
        let mut held = self.answers.take(size).await;
        // One at a time: what an answer is made of takes several times its own memory.
        let Ok(_turn) = self.building.acquire().await else { return Outcome::Close };
        match aside(make).await {
            Some(Outcome::Send(frame)) => {
                drop(held.split(held.num_permits().saturating_sub(frame.len())));
                Outcome::SendHolding(frame, Held::Answer(held))
            }
            outcome => outcome.unwrap_or(Outcome::Close),
        }
    }
}

/// Makes something large away from the threads that serve everybody.
async fn aside<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(make).await.ok()
}

/// The newest shared answers, each with what it is made from.
#[derive(Debug)]
pub struct Cache<K> {
    kept: Mutex<VecDeque<(K, Arc<SharedBody>)>>,
    /// Whoever makes the next: the others wait for it instead of making it too.
    turn: tokio::sync::Mutex<()>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { kept: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl<K: PartialEq + Send + 'static> Cache<K> {
    /// The answer made from what is the case now, which `now` says; `make` makes it, and says from what it did. `None` if
    /// it cannot be made.
    pub async fn get(
        &self,
        memory: &Memory,
        now: impl Fn() -> K,
        make: impl FnOnce() -> Option<(K, Bytes)> + Send + 'static,
    ) -> Option<Arc<SharedBody>> {
        if let Some(found) = self.find(&now()) {
            return Some(found);
        }
        let _turn = self.turn.lock().await;
        if let Some(found) = self.find(&now()) {
            return Some(found);
        }
        let (key, body) = aside(make).await??;
        let held = match memory.shared.try_take(body.len()) {
            Some(held) => held,
            None => {
                // Nobody asks for the old ones any more; only those who still read them need them.
                self.kept.lock().clear();
                memory.shared.take(body.len()).await
            }
        };
        let shared = Arc::new(SharedBody::new(body, held));
        let mut kept = self.kept.lock();
        kept.push_front((key, Arc::clone(&shared)));
        kept.truncate(KEPT);
        Some(shared)
    }

    fn find(&self, key: &K) -> Option<Arc<SharedBody>> {
        let kept = self.kept.lock();
        kept.iter().find(|(of, _)| of == key).map(|(_, shared)| Arc::clone(shared))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use bytes::BytesMut;
    use tokio::time::{Instant, timeout};

    use super::super::limits::Limits;
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    fn memory(bytes: usize) -> Memory {
        Memory::new(&Limits { answer_bytes: bytes, shared_bytes: bytes, ..Limits::default() })
    }

    fn large(bytes: usize) -> impl FnOnce() -> Outcome + Send + 'static {
        move || Outcome::Send(BytesMut::zeroed(bytes))
    }

    #[tokio::test]
    async fn large_answers_wait_for_memory_and_small_ones_do_not() {
        let memory = memory(300_000);
        let first = memory.answer(250_000, large(200_000)).await;
        let Outcome::SendHolding(_, Held::Answer(held)) = &first else { panic!("{first:?}") };
        assert_eq!(held.num_permits(), 200_000, "what was not needed is given back");
        assert!(timeout(SOON, memory.answer(200_000, large(200_000))).await.is_err());
        assert!(matches!(memory.answer(SMALL, large(SMALL)).await, Outcome::Send(_)));
        drop(first);
        assert!(timeout(SOON, memory.answer(200_000, large(200_000))).await.is_ok());
    }

    #[tokio::test]
    async fn a_shared_answer_is_made_once_for_each_state() {
        let (cache, memory, made) = (Cache::default(), memory(1 << 20), Arc::new(AtomicUsize::new(0)));
        let get = |key: u32| {
            let made = Arc::clone(&made);
            cache.get(
                &memory,
                move || key,
                move || {
                    made.fetch_add(1, Relaxed);
                    Some((key, Bytes::from(vec![0; 100_000])))
                },
            )
        };
        let all = [get(1), get(1), get(1), get(2)];
        let [one, same, again, other] = futures(all).await;
        assert_eq!(made.load(Relaxed), 2);
        assert!(Arc::ptr_eq(&one, &same) && Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
    }

    async fn futures<const N: usize>(
        all: [impl Future<Output = Option<Arc<SharedBody>>>; N],
    ) -> [Arc<SharedBody>; N] {
        let mut pinned = all.map(Box::pin);
        let mut done: [Option<Arc<SharedBody>>; N] = std::array::from_fn(|_| None);
        std::future::poll_fn(|context| {
            for (future, done) in pinned.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let std::task::Poll::Ready(shared) = future.as_mut().poll(context)
                {
                    *done = shared;
                }
            }
            if done.iter().all(Option::is_some) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        done.map(|done| done.unwrap())
    }

    #[tokio::test]
    async fn what_nobody_reads_any_more_gives_way_and_what_is_not_taken_is_cut_off() {
        let (cache, memory) = (Cache::default(), memory(250_000));
        let get =
            |key: u32| cache.get(&memory, move || key, move || Some((key, Bytes::from(vec![0; 100_000]))));
        for key in 0..20 {
            assert!(timeout(SOON, get(key)).await.is_ok(), "{key}");
        }
        // Two are read, slowly, and there is no memory for a third.
        let slow = [get(100).await.unwrap(), get(101).await.unwrap()].map(Held::Shared);
        let late = memory.slow_clients(Instant::now(), false, &slow);
        let [late] = &late[..] else { panic!("late with {} pools", late.len()) };
        let giving_way = async {
            late.cut().await;
            drop(slow);
        };
        let (next, ()) = tokio::join!(get(102), giving_way);
        assert!(next.is_some());
    }
}
