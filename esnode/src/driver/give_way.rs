//! A leader whose disk does not come back gives way: it acknowledges nothing, and its heartbeats, which do not wait for
//! the disk, would keep everybody else from leading for as long as it lasts.

use super::run::Driver;
use crate::consensus::Role;

/// Ticks without any progress after which the disk counts as hanging. A segment's end takes four syncs in a row: at 400 ms
/// each that is still a slow disk, and handing over would only add an election. It is far below the patience of a client.
/// Also the time between two attempts to hand over.
pub(super) const HANGS_TICKS: u64 = 200;

impl Driver {
    /// Hands over to the best follower that answers, if the oldest write has been at the disk for too long. One whose own
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
