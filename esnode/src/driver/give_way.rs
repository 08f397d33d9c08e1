//! A leader whose disk does not come back gives way: it acknowledges nothing, and its heartbeats, which do not wait for
//! the disk, would keep everybody else from leading for as long as it lasts.

use super::run::Driver;
use crate::consensus::Role;

/// Ticks without any progress after which the disk counts as hanging: above the longest step of the writer on a slow disk,
/// a segment's end with its four syncs at 400 ms each, and far below the patience of a client. Also the time between two
/// attempts to hand over.
const HANGS_TICKS: u64 = 200;

impl Driver {
    /// Hands over to the best follower that answers, if the disk has not got on for too long. One whose own
    /// disk hangs is not caught up, and Raft hands over to nobody else.
    pub(super) fn give_way_if_the_disk_hangs(&mut self) {
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
}
