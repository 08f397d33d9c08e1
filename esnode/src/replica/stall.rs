//! A leader whose disk does not come back gives way: it acknowledges nothing, and its heartbeats, which do not wait for
//! the disk, would keep everybody else from leading for as long as it lasts.
//!
//! A writer that is idle while work counts as on its way to the disk is another matter: nothing will ever come back, and
//! that is a defect of this program. Taken for a hanging disk it would last for ever; a restart ends it.

use std::sync::atomic::Ordering::Relaxed;

use super::run::{Driver, Ended};
use crate::consensus::Role;

/// Ticks without any progress after which the disk counts as hanging: above the longest step of the writer on a slow disk,
/// a segment's end with its four syncs at 400 ms each, and far below the patience of a client. Also the time between two
/// attempts to hand over.
const HANGS_TICKS: u64 = 200;
/// Ticks for which the writer must have been idle: what it has just finished is reported within one.
const IDLE_TICKS: u64 = 100;

/// Since when work waits for a writer that is idle.
#[derive(Debug, Default)]
pub(super) struct LostWork {
    since: Option<u64>,
}

impl LostWork {
    /// Whether the work that waits at `tick` will never come back.
    fn is_certain(&mut self, waits: bool, idle: bool, tick: u64) -> bool {
        if !(waits && idle) {
            self.since = None;
        }
        waits && idle && tick >= *self.since.get_or_insert(tick) + IDLE_TICKS
    }
}

impl Driver {
    /// Hands over to the best follower that answers, if the disk has not got on for too long. One whose own
    /// disk hangs is not caught up, and Raft hands over to nobody else.
    pub(super) fn give_way_if_the_disk_hangs(&mut self) {
        self.end_if_work_is_lost();
        let leads = self.parts.core.role() == Role::Leader;
        if !(leads && self.disk_hangs()) || self.transfer.is_some() || self.tick < self.gives_way_from {
            return;
        }
        self.gives_way_from = self.tick + HANGS_TICKS;
        tracing::warn!("the disk has not finished a write for two seconds: this leader hands over");
        self.begin_transfer(None, None);
    }

    /// What would have to be written waits in memory, with no end to how much: proposals are refused then, and entries are
    /// passed over, which their leader sends again.
    pub(super) fn disk_hangs(&self) -> bool {
        self.parts.core.disk_wait() >= HANGS_TICKS
    }

    fn end_if_work_is_lost(&mut self) {
        let waits = self.parts.core.disk_wait() > 0;
        let idle = self.parts.wal.is_empty() && !self.parts.log.stats().busy.load(Relaxed);
        if self.lost_work.is_certain(waits, idle, self.tick) {
            self.ended.get_or_insert(Ended::LostWork);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_lost_only_when_the_writer_stays_idle() {
        let mut lost = LostWork::default();
        let mut at = |tick, waits, idle| lost.is_certain(waits, idle, tick);
        assert!(!at(10, true, true));
        assert!(!at(9 + IDLE_TICKS, true, true));
        assert!(!at(10 + IDLE_TICKS, true, false), "it has taken it up after all");
        assert!(!at(11 + IDLE_TICKS, true, true));
        assert!(!at(12 + IDLE_TICKS, false, true), "it was about to be reported");
        assert!(!at(13 + IDLE_TICKS, true, true));
        assert!(at(13 + 2 * IDLE_TICKS, true, true));
    }
}
