//! Converts time to ticks.

use std::time::{Duration, Instant};

use crate::consensus::TICK;

/// Largest number of ticks after an unplanned delay. A process that was suspended must first receive what its peers
/// have sent meanwhile, and not start elections for time in which it did not run.
const MAX_CATCH_UP: u32 = 3;

/// Says when the next tick is due.
pub(super) struct Clock {
    next: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { next: Instant::now() + TICK }
    }

    /// Returns the time until the first tick after `quiet` ones.
    pub(super) fn until_after(&self, quiet: u32) -> Duration {
        (self.next + TICK * quiet).saturating_duration_since(Instant::now())
    }

    /// Returns the ticks that have passed since the last call, of which `quiet` were slept through on purpose.
    pub(super) fn passed(&mut self, quiet: u32) -> u32 {
        self.passed_at(Instant::now(), quiet)
    }

    fn passed_at(&mut self, now: Instant, quiet: u32) -> u32 {
        let Some(late) = now.checked_duration_since(self.next) else { return 0 };
        let ticks = u32::try_from(late.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX - 1) + 1;
        if ticks > quiet + 1 + MAX_CATCH_UP {
            self.next = now + TICK;
            return MAX_CATCH_UP;
        }
        self.next += TICK * ticks;
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_sleep_counts_in_full_and_a_stopped_process_does_not_age() {
        let start = Instant::now();
        let mut clock = Clock { next: start + TICK };
        assert_eq!(clock.passed_at(start, 0), 0);
        assert_eq!(clock.passed_at(start + TICK, 0), 1);
        assert_eq!(clock.passed_at(start + TICK * 21, 19), 20);
        assert_eq!(clock.passed_at(start + TICK * 25, 0), 4, "a little late");
        assert_eq!(clock.passed_at(start + TICK * 1000, 20), MAX_CATCH_UP);
        assert_eq!(clock.passed_at(start + TICK * 1001, 0), 1);
    }
}
