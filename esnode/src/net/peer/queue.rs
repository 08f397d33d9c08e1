//! What waits for one peer's sender thread: messages up to a number of bytes, and calls to attention.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raft::eraftpb::Message;

use super::codec;

/// A mailbox with many writers and one reader. Writers never wait.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Message>,
    /// Of the messages queued and of those taken but not yet written.
    bytes: usize,
    /// A connection is up: messages for a peer that is not there would only be stale when it comes.
    open: bool,
    announce: bool,
    redial: bool,
    lost: bool,
    closed: bool,
}

/// What the sender has to do.
#[derive(Debug, Default)]
pub struct Work {
    /// To be written, in order; empty when only the time came.
    pub messages: Vec<Message>,
    /// Their size, to be given back to [`Queue::written`].
    pub bytes: usize,
}

impl Queue {
    /// A queue of at most `limit` bytes of messages.
    pub fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), limit }
    }

    /// Queues `messages`, all or none. `false`: nobody is connected, or too much waits already.
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

    /// Waits for messages, for an announcement, or for `deadline`. `None`: the connection, or the peer, is gone.
    pub fn wait_until(&self, deadline: Instant) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if state.lost || state.closed {
                return None;
            }
            let timed_out = state.messages.is_empty()
                && !state.announce
                && self.wake.wait_until(&mut state, deadline).timed_out();
            if timed_out || state.announce || !state.messages.is_empty() {
                state.announce = false;
                let messages = std::mem::take(&mut state.messages);
                let bytes = messages.iter().map(codec::encoded_len).sum();
                return (!state.lost && !state.closed).then_some(Work { messages, bytes });
            }
        }
    }

    /// Makes room again for `bytes` that have left.
    pub fn written(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// A connection is up.
    pub fn open(&self) {
        let mut state = self.state.lock();
        (state.open, state.lost, state.redial, state.bytes) = (true, false, false, 0);
    }

    /// The connection is gone, and what still waited for it. Returns how many messages that were.
    pub fn shut(&self) -> u64 {
        let mut state = self.state.lock();
        (state.open, state.bytes) = (false, 0);
        std::mem::take(&mut state.messages).len() as u64
    }

    /// Tells the sender that its connection has ended on the other side.
    pub fn lost(&self) {
        self.state.lock().lost = true;
        self.wake.notify_one();
    }

    /// Tells the sender that there is something new to introduce itself with.
    pub fn announce(&self) {
        self.state.lock().announce = true;
        self.wake.notify_one();
    }

    /// Tells the sender that the peer is there: do not sit out the pause between attempts.
    pub fn redial(&self) {
        self.state.lock().redial = true;
        self.wake.notify_one();
    }

    /// Sleeps between two attempts to connect. `true`: woken early by [`Queue::redial`].
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

    /// Whether the sender must end.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Bytes queued or being written.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(5)
    }

    #[test]
    fn holds_no_more_than_its_limit_until_what_was_taken_is_written() {
        let size = codec::encoded_len(&Message::new());
        let queue = Queue::new(2 * size);
        assert!(!queue.offer(vec![Message::new()]), "nobody is connected");
        queue.open();
        assert!(queue.offer(vec![Message::new(), Message::new()]));
        assert!(!queue.offer(vec![Message::new()]));
        let work = queue.wait_until(soon()).unwrap();
        assert_eq!((work.messages.len(), work.bytes), (2, 2 * size));
        assert!(!queue.offer(vec![Message::new()]), "taken is not yet written");
        queue.written(work.bytes);
        assert!(queue.offer(vec![Message::new()]));
        assert_eq!(queue.shut(), 1);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn wakes_for_time_announcements_and_the_end() {
        let queue = Queue::new(1000);
        queue.open();
        assert!(queue.wait_until(soon()).unwrap().messages.is_empty());
        queue.announce();
        assert!(queue.wait_until(Instant::now() + Duration::from_secs(60)).is_some());
        queue.lost();
        assert!(queue.wait_until(soon()).is_none());
        queue.open();
        assert!(queue.wait_until(soon()).is_some());
        queue.redial();
        assert!(queue.pause(Duration::from_secs(60)));
        assert!(!queue.pause(Duration::from_millis(1)));
        queue.close();
        assert!(!queue.pause(Duration::from_secs(60)));
        assert!(queue.wait_until(soon()).is_none());
    }
}
