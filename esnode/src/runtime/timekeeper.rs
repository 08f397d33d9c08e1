//! The log's time, computed from this machine's clocks. Shared by the raft thread and those who ask for the time.

use std::sync::Arc;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use crate::replica::{LogTime, Now};

/// Reads this machine's clocks.
pub fn read_clocks() -> Now {
    let ms = |id| {
        let time = clock_gettime(id);
        time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
    };
    Now { boot: ms(ClockId::Boottime), wall: ms(ClockId::Realtime) }
}

/// The log's time on this node.
#[derive(Clone, Debug, Default)]
pub struct Timekeeper(Arc<Mutex<LogTime>>);

impl Timekeeper {
    /// Returns what the replica updates.
    pub fn log_time(&self) -> Arc<Mutex<LogTime>> {
        Arc::clone(&self.0)
    }

    /// The log's time now, in ms.
    pub fn now(&self) -> i64 {
        self.0.lock().ms(read_clocks())
    }

    /// Trusts the wall clock if it has been ahead by the same amount for long enough.
    pub fn believe_if_steady(&self) {
        self.0.lock().believe_if_steady(read_clocks());
    }
}
