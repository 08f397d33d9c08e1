//! The messages of one peer that the raft thread has not handled yet, up to a limit. A peer that sends faster than that
//! has to wait, which TCP tells it; the raft thread never waits.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::consensus::Message;
use crate::entry::Entry;

/// Largest size of the waiting messages of one peer, in bytes. A single larger frame is accepted if nothing else waits.
const LIMIT: usize = 16 << 20;

/// The size of the messages that wait.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Mutex<usize>,
    room: Condvar,
}

/// Messages of a peer. They count as waiting until the value is dropped.
#[derive(Debug)]
pub struct Messages {
    messages: Vec<Message>,
    bytes: usize,
    inbox: Arc<Inbox>,
}

impl Inbox {
    /// Adds the messages of a frame of `length` bytes, as soon as there is room. Returns them as an error if there is
    /// none within `longest`.
    pub fn put(
        self: &Arc<Self>,
        messages: Vec<Message>,
        length: usize,
        longest: Duration,
    ) -> Result<Messages, Vec<Message>> {
        let deadline = Instant::now() + longest;
        let entries: usize = messages.iter().map(|message| message.entries.len()).sum();
        let bytes = length + messages.len() * size_of::<Message>() + entries * size_of::<Entry>();
        let mut waiting = self.bytes.lock();
        while *waiting > 0 && *waiting + bytes > LIMIT {
            if self.room.wait_until(&mut waiting, deadline).timed_out() {
                return Err(messages);
            }
        }
        *waiting += bytes;
        drop(waiting);
        Ok(Messages { messages, bytes, inbox: Arc::clone(self) })
    }
}

impl Messages {
    /// Returns the messages. They count as waiting until `self` is dropped.
    pub fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }
}

impl Deref for Messages {
    type Target = Vec<Message>;

    fn deref(&self) -> &Self::Target {
        &self.messages
    }
}

impl DerefMut for Messages {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.messages
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        *self.inbox.bytes.lock() -= self.bytes;
        self.inbox.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_sends_too_much_waits_until_some_of_it_is_dealt_with() {
        let inbox = Arc::new(Inbox::default());
        let put = |length| inbox.put(vec![Message::default()], length, Duration::ZERO);
        let large = put(2 * LIMIT).expect("a frame may be as large as it likes, alone");
        assert!(put(1).is_err());
        drop(large);
        let mut waiting: Vec<_> = (0..).map_while(|_| put(LIMIT / 10).ok()).collect();
        assert_eq!(waiting.len(), 9, "messages take more room than their bytes");
        assert_eq!(waiting[0].take().len(), 1);
        assert!(put(LIMIT / 10).is_err(), "what is taken out is not dealt with yet");
        waiting.remove(0);
        assert!(put(LIMIT / 10).is_ok());
        drop(waiting);
        assert_eq!(*inbox.bytes.lock(), 0);
    }
}
