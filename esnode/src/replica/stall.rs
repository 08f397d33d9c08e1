//! A leader whose disk hangs steps down: it acknowledges nothing, and its heartbeats, which do not wait for the disk, would
//! keep everybody else from leading for as long as that lasts.
//!
//! A writer that is idle while a write counts as on its way to the disk is another matter: nothing will ever come back, and
//! that is a defect of this program. Taken for a hanging disk it would last for ever; a restart ends it.

use super::effect::End;
use super::environment::ReplicaLog;
use super::mistake::{Mistake, makes};
use super::{Environment, Replica};
use crate::consensus::Role;

/// Ticks without any progress after which the disk counts as hanging: above the longest step of the writer on a slow disk,
/// a segment's end with its four syncs at 400 ms each, and far below the timeout of a client. Also the time between
/// two attempts to hand over.
const STALL_TICKS: u64 = 200;
/// Ticks for which the writer must have been idle: what it has just finished is reported within one.
const IDLE_TICKS: u64 = 100;

/// Since when a write waits for a writer that is idle.
#[derive(Debug, Default)]
pub(super) struct LostWrite {
    since: Option<u64>,
}

impl LostWrite {
    /// Whether the write that waits at `tick` will never come back.
    fn is_certain(&mut self, waits: bool, idle: bool, tick: u64) -> bool {
        if !(waits && idle) {
            self.since = None;
        }
        waits && idle && tick >= *self.since.get_or_insert(tick) + IDLE_TICKS
    }
}

impl<E: Environment> Replica<E> {
    /// Hands over to the best follower that responds, if the disk has made no progress for too long. A follower whose own
    /// disk hangs is not caught up, and Raft hands over to nobody else.
    pub(super) fn step_down_if_stalled(&mut self) {
        self.end_if_write_is_lost();
        if self.core.role() == Role::Leader && self.disk_hangs() && !makes(Mistake::LeadOnStalledDisk) {
            self.step_down(
                STALL_TICKS,
                "the disk has not finished a write for two seconds: this leader hands over",
            );
        }
    }

    /// Hands over to the best follower, unless that is under way or was tried in the last `pause` ticks.
    pub(super) fn step_down(&mut self, pause: u64, reason: &str) {
        if self.transfer.is_none() && self.tick >= self.steps_down_from {
            self.steps_down_from = self.tick + pause;
            tracing::warn!("{reason}");
            self.begin_transfer(None, None);
        }
    }

    /// Whether the disk has made no progress for too long. What would have to be written waits in memory then, without
    /// limit: so proposals are refused and entries are ignored, which their leader sends again.
    pub(super) fn disk_hangs(&self) -> bool {
        self.core.disk_wait() >= STALL_TICKS
    }

    fn end_if_write_is_lost(&mut self) {
        let waits = self.core.disk_wait() > 0;
        if self.lost_write.is_certain(waits, self.log.writer_is_idle(), self.tick) {
            self.end(End::LostWrite);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_lost_only_when_the_writer_stays_idle() {
        let mut lost = LostWrite::default();
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
