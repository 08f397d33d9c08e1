//! The queue of one peer's sender thread: messages, up to a number of bytes, and signals.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::codec;
use crate::consensus::Message;

/// A queue with many writers and one reader. Writers never wait.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    limit: usize,
}

#[derive(Debug)]
struct State {
    /// The end of a frame that was only partly sent without the queue; it must be written before anything else.
    rest: Bytes,
    messages: Vec<Message>,
    /// Size of the messages that are queued, or taken and not yet written.
    bytes: usize,
    /// The sender has taken work, and not yet written it.
    writing: bool,
    last_write: Instant,
    /// A connection is open. Without one nothing is queued, since messages would be outdated when the peer returns.
    open: bool,
    announce: bool,
    redial: bool,
    lost: bool,
    closed: bool,
}

impl State {
    fn new() -> Self {
        Self {
            rest: Bytes::new(),
            messages: Vec::new(),
            bytes: 0,
            writing: false,
            last_write: Instant::now(),
            open: false,
            announce: false,
            redial: false,
            lost: false,
            closed: false,
        }
    }

    fn has_work(&self) -> bool {
        self.announce || !self.rest.is_empty() || !self.messages.is_empty()
    }
}

/// What the sender has to do.
#[derive(Debug, Default)]
pub struct Work {
    /// Bytes to write first, unchanged.
    pub rest: Bytes,
    /// Messages to write, in order; empty if only the time has passed.
    pub messages: Vec<Message>,
    /// Size of the messages, for [`Queue::written`].
    pub bytes: usize,
}

impl Queue {
    /// Returns a queue of at most `limit` bytes of messages.
    pub fn new(limit: usize) -> Self {
        Self { state: Mutex::new(State::new()), wake: Condvar::new(), limit }
    }

    /// Calls `write` to send something at once, unless messages are queued or being written. `write` returns what the
    /// socket did not accept, which the sender will finish, or an error if nothing was written. Returns `false` if
    /// `write` was not called, or failed.
    pub fn write_past(&self, write: impl FnOnce() -> io::Result<Bytes>) -> bool {
        let mut state = self.state.lock();
        if !state.open || state.lost || state.closed || state.writing || state.has_work() {
            return false;
        }
        let Ok(rest) = write() else { return false };
        state.last_write = Instant::now();
        if !rest.is_empty() {
            state.bytes += rest.len();
            state.rest = rest;
            drop(state);
            self.wake.notify_one();
        }
        true
    }

    /// Queues `messages`, all or none. Returns `false` if no connection is open, or too much is queued already.
    pub fn offer(&self, messages: Vec<Message>) -> bool {
        let bytes: usize = messages.iter().map(codec::encoded_len).sum();
        let mut state = self.state.lock();
        if !state.open || state.bytes + bytes > self.limit {
            return false;
        }
        state.bytes += bytes;
        if state.messages.is_empty() {
            state.messages = messages;
        } else {
            state.messages.extend(messages);
        }
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Waits for messages, for an announcement, or until nothing was written for `pause`. Returns `None` if the
    /// connection or the peer is gone.
    pub fn wait(&self, pause: Duration) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if state.lost || state.closed {
                return None;
            }
            let deadline = state.last_write + pause;
            if state.has_work() || Instant::now() >= deadline {
                (state.announce, state.writing) = (false, true);
                let (rest, messages) = (std::mem::take(&mut state.rest), std::mem::take(&mut state.messages));
                let bytes = rest.len() + messages.iter().map(codec::encoded_len).sum::<usize>();
                return Some(Work { rest, messages, bytes });
            }
            self.wake.wait_until(&mut state, deadline);
        }
    }

    /// Notes that `bytes` were written, which makes room for others.
    pub fn written(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        (state.writing, state.last_write) = (false, Instant::now());
    }

    /// A connection is open: this node's Hello may be sent.
    pub fn begin(&self) {
        let mut state = self.state.lock();
        (state.open, state.lost, state.redial, state.writing, state.bytes) = (false, false, false, false, 0);
        state.last_write = Instant::now();
    }

    /// The peer listens to this node on the connection: messages may be sent.
    pub fn open(&self) {
        let mut state = self.state.lock();
        state.open = true;
        // The sender sends a sign of life at once.
        state.announce = true;
        drop(state);
        self.wake.notify_one();
    }

    /// The connection is closed: drops what is queued. Returns the number of dropped messages.
    pub fn shut(&self) -> u64 {
        let mut state = self.state.lock();
        (state.open, state.bytes, state.rest) = (false, 0, Bytes::new());
        std::mem::take(&mut state.messages).len() as u64
    }

    /// Tells the sender that the other side has closed the connection.
    pub fn lost(&self) {
        self.state.lock().lost = true;
        self.wake.notify_one();
    }

    /// Tells the sender that this node's Hello has changed.
    pub fn announce(&self) {
        self.state.lock().announce = true;
        self.wake.notify_one();
    }

    /// Tells the sender that the peer is there, so that it does not wait until the end of its pause.
    pub fn redial(&self) {
        self.state.lock().redial = true;
        self.wake.notify_one();
    }

    /// Waits between two attempts to connect. Returns `true` if [`Queue::redial`] ended the wait early.
    pub fn pause(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.closed && !state.redial && !self.wake.wait_until(&mut state, deadline).timed_out() {}
        std::mem::take(&mut state.redial)
    }

    /// Ends the sender.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Returns whether the sender must end.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Returns the bytes that are queued or being written.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const LATE: Duration = Duration::from_secs(60);

    fn open(queue: &Queue) {
        queue.begin();
        queue.open();
        queue.wait(LATE).expect("an announcement");
        queue.written(0);
    }

    #[test]
    fn holds_no_more_than_its_limit_until_what_was_taken_is_written() {
        let size = codec::encoded_len(&Message::default());
        let queue = Queue::new(2 * size);
        assert!(!queue.offer(vec![Message::default()]), "nobody is connected");
        open(&queue);
        assert!(queue.offer(vec![Message::default(), Message::default()]));
        assert!(!queue.offer(vec![Message::default()]));
        let work = queue.wait(SOON).unwrap();
        assert_eq!((work.messages.len(), work.bytes), (2, 2 * size));
        assert!(!queue.offer(vec![Message::default()]), "taken is not yet written");
        queue.written(work.bytes);
        assert!(queue.offer(vec![Message::default()]));
        assert_eq!(queue.shut(), 1);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn wakes_for_time_announcements_and_the_end() {
        let queue = Queue::new(1000);
        open(&queue);
        assert!(queue.wait(SOON).unwrap().messages.is_empty());
        queue.announce();
        assert!(queue.wait(LATE).is_some());
        queue.lost();
        assert!(queue.wait(SOON).is_none());
        open(&queue);
        assert!(queue.wait(SOON).is_some());
        queue.redial();
        assert!(queue.pause(LATE));
        assert!(!queue.pause(Duration::from_millis(1)));
        queue.close();
        assert!(!queue.pause(LATE));
        assert!(queue.wait(SOON).is_none());
    }

    #[test]
    fn a_write_past_the_queue_overtakes_nothing() {
        let queue = Queue::new(1000);
        let all = || Ok(Bytes::new());
        assert!(!queue.write_past(all), "nobody is connected");
        open(&queue);
        assert!(queue.write_past(all));
        assert!(!queue.write_past(|| Err(io::ErrorKind::WouldBlock.into())));
        assert!(queue.write_past(|| Ok(Bytes::from_static(b"rest"))));
        assert!(!queue.write_past(all), "half a frame is still to come");
        assert!(queue.offer(vec![Message::default()]));
        let work = queue.wait(LATE).unwrap();
        assert_eq!((&work.rest[..], work.messages.len()), (&b"rest"[..], 1));
        assert!(!queue.write_past(all), "the sender is writing");
        queue.written(work.bytes);
        assert_eq!(queue.bytes(), 0);
        queue.announce();
        assert!(!queue.write_past(all), "what we say of ourselves goes first");
    }

    #[test]
    fn a_write_past_the_queue_is_a_sign_of_life() {
        let queue = Queue::new(1000);
        open(&queue);
        let began = Instant::now();
        std::thread::sleep(SOON);
        assert!(queue.write_past(|| Ok(Bytes::new())));
        assert!(queue.wait(SOON).is_some());
        assert!(began.elapsed() >= SOON * 2);
    }
}
