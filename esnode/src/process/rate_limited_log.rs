//! Limits how often a message is logged, because strangers could otherwise fill the log with it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Least time between two messages.
const PAUSE: Duration = Duration::from_secs(10);

/// The state of one kind of message.
#[derive(Debug)]
pub struct RateLimitedLog(Mutex<State>);

#[derive(Debug)]
struct State {
    unsaid: u64,
    said: Option<Instant>,
}

impl Default for RateLimitedLog {
    fn default() -> Self {
        Self::new()
    }
}

impl RateLimitedLog {
    /// Returns a state in which nothing was logged yet.
    pub const fn new() -> Self {
        Self(Mutex::new(State { unsaid: 0, said: None }))
    }

    /// Returns `None` if the message must not be logged now; otherwise how often it was due since it was last logged,
    /// this time included.
    pub fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.unsaid += 1;
        if state.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_are_counted() {
        let (seldom, now) = (RateLimitedLog::default(), Instant::now());
        assert_eq!(seldom.due_at(now), Some(1));
        assert_eq!([1, 2, 9].map(|later| seldom.due_at(now + Duration::from_secs(later))), [None; 3]);
        assert_eq!(seldom.due_at(now + PAUSE), Some(4));
        assert_eq!(seldom.due_at(now + PAUSE), None);
    }
}
