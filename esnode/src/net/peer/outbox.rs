//! What waits to be sent to one peer, and what is known of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raft::eraftpb::Message;

/// Payload that may wait for one peer; beyond it messages are dropped, which Raft tolerates.
const MAX_BYTES: usize = 64 << 20;

/// One peer's queue and figures.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Our connection to it is up.
    pub(super) dialled: AtomicBool,
    /// Its connections to us; more than one only while it reconnects.
    pub(super) accepted: AtomicUsize,
    /// Milliseconds after the transport's start at which it was last heard, plus one; 0 for never.
    pub(super) heard: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) connects: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    messages: Vec<Message>,
    bytes: usize,
    announce: bool,
    stop: bool,
}

/// What there is to send.
pub(super) enum Work {
    Messages(Vec<Message>),
    /// Our introduction has changed.
    Announce,
    /// Nothing came up in time.
    Idle,
    Stop,
}

impl Outbox {
    /// Queues messages; false when they were dropped.
    pub(super) fn push(&self, mut messages: Vec<Message>) -> bool {
        let bytes: usize = messages.iter().flat_map(|m| m.entries.iter()).map(|entry| entry.data.len()).sum();
        let mut queue = self.queue.lock();
        let up = self.dialled.load(Relaxed);
        if !up || queue.bytes + bytes > MAX_BYTES {
            self.dropped.fetch_add(messages.len() as u64, Relaxed);
            return false;
        }
        queue.bytes += bytes;
        if queue.messages.is_empty() {
            queue.messages = messages;
        } else {
            queue.messages.append(&mut messages);
        }
        drop(queue);
        self.wake.notify_one();
        true
    }

    pub(super) fn announce(&self) {
        self.queue.lock().announce = true;
        self.wake.notify_one();
    }

    pub(super) fn stop(&self) {
        self.queue.lock().stop = true;
        self.wake.notify_all();
    }

    pub(super) fn stopped(&self) -> bool {
        self.queue.lock().stop
    }

    /// Forgets what waits: it was meant for a connection that is gone.
    pub(super) fn clear(&self) {
        let mut queue = self.queue.lock();
        queue.messages.clear();
        queue.bytes = 0;
    }

    /// Waits until there is something to do, at most until `deadline`.
    pub(super) fn wait(&self, deadline: Instant) -> Work {
        let mut queue = self.queue.lock();
        loop {
            if queue.stop {
                return Work::Stop;
            }
            if std::mem::take(&mut queue.announce) {
                return Work::Announce;
            }
            if !queue.messages.is_empty() {
                queue.bytes = 0;
                return Work::Messages(std::mem::take(&mut queue.messages));
            }
            if self.wake.wait_until(&mut queue, deadline).timed_out() {
                return Work::Idle;
            }
        }
    }

    /// Waits before the next try to connect, unless told to stop.
    pub(super) fn pause(&self, how_long: Duration) {
        let deadline = Instant::now() + how_long;
        let mut queue = self.queue.lock();
        while !queue.stop && !self.wake.wait_until(&mut queue, deadline).timed_out() {}
    }
}
