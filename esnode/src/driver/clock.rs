//! Time as ticks.

use std::time::{Duration, Instant};

use crate::consensus::TICK;

/// Ticks run after a delay, at most: a process that was stopped and goes on must first hear what its peers said
/// meanwhile, not start elections for time it did not live through.
const MAX_CATCH_UP: u32 = 3;

/// Says when the next tick is due.
pub(super) struct Clock {
    next: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { next: Instant::now() + TICK }
    }

    /// How long until the next tick.
    pub(super) fn until_next(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Ticks that are due now.
    pub(super) fn due(&mut self) -> u32 {
        let now = Instant::now();
        let mut ticks = 0;
        while self.next <= now {
            ticks += 1;
            self.next += TICK;
            if ticks == MAX_CATCH_UP {
                self.next = self.next.max(now);
                break;
            }
        }
        ticks
    }
}
