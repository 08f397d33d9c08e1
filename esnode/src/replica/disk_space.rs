//! What a cluster does about disks that are almost full: it refuses events early enough for what frees space to be
//! written still, and deletes dead segments soon.

use std::collections::BTreeSet;

use bytes::Bytes;
use shared::ids::NodeId;

use super::effect::Effect;
use super::environment::ReplicaLog;
use super::{Environment, Replica};
use crate::consensus::{Message, MessageType, Role};

/// Ticks between two checks.
const CHECK_TICKS: u64 = 10;
/// Ticks between two attempts to hand over.
const STEP_DOWN_TICKS: u64 = 200;
/// In a heartbeat's response, in a field that Raft does not use there: the follower's disk is almost full. Older nodes
/// ignore it.
const LOW: u64 = 1;

/// The followers whose disks are almost full, as they say themselves.
#[derive(Debug, Default)]
pub(super) struct LowFollowers {
    nodes: BTreeSet<NodeId>,
}

impl LowFollowers {
    pub(super) fn note(&mut self, message: &Message) {
        if message.kind == MessageType::HeartbeatResponse {
            match message.reject_hint == LOW {
                true => self.nodes.insert(message.from),
                false => self.nodes.remove(&message.from),
            };
        }
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether most of `voters` have room, this node, `own`, included.
    fn most_have_room(&self, voters: &[NodeId], own: NodeId, own_is_low: bool) -> bool {
        let room = voters.iter().filter(|id| if **id == own { !own_is_low } else { !self.contains(**id) });
        room.count() > voters.len() / 2
    }
}

/// A follower tells its leader whether its disk is almost full.
pub(super) fn tell(low: bool, message: &mut Message) {
    if low && message.kind == MessageType::HeartbeatResponse {
        message.reject_hint = LOW;
    }
}

impl<E: Environment> Replica<E> {
    /// As leader: takes events or refuses them; one that is alone in having no room hands over.
    pub(super) fn follow_disk_space(&mut self) {
        if !self.tick.is_multiple_of(CHECK_TICKS) {
            return;
        }
        let (leads, own) = (self.core.role() == Role::Leader, self.config.own.0);
        let low = self.log.low_on_space();
        let majority = self.low_followers.most_have_room(&self.core.conf_state().voters, own, low);
        let refuses = leads && (low || !majority);
        if std::mem::replace(&mut self.refuses_events, refuses) != refuses {
            tracing::warn!(refuses, "events are refused while too many disks are almost full");
            self.effects.push(Effect::RefuseEvents(refuses));
        }
        if leads && low && majority {
            self.step_down(
                STEP_DOWN_TICKS,
                "the disk is almost full: this leader hands over to one with room",
            );
        }
    }

    /// Deleted segments leave the disk with snapshots that do without them: these come soon, even if nothing else does.
    pub(super) fn free_soon(&mut self) {
        if std::mem::take(&mut self.freed) && self.log.would_delete(self.state.read().low_watermark()) {
            self.snapshots.request();
        }
        if !self.tick.is_multiple_of(CHECK_TICKS) {
            return;
        }
        self.delete_packed();
        if !self.log.awaits_snapshot() {
            return;
        }
        self.snapshots.request();
        let last = self.core.status().last_index;
        if self.serves() && self.transfer.is_none() && self.snapshots.covers(last) {
            // A snapshot is of an entry of its own. Dropped means that leadership is gone: the next leader sees to it.
            let _ = self.core.propose(vec![Bytes::new()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_with_room_goes_on() {
        let mut low = LowFollowers::default();
        let mut says = |node, hint| {
            let kind = MessageType::HeartbeatResponse;
            let message = Message { kind, from: node, reject_hint: hint, ..Message::default() };
            low.note(&message);
            [low.most_have_room(&[1, 2, 3], 1, false), low.most_have_room(&[1, 2, 3], 1, true)]
        };
        assert_eq!(says(4, LOW), [true, true], "no voter");
        assert_eq!(says(2, LOW), [true, false]);
        assert_eq!(says(3, LOW), [false, false]);
        assert_eq!(says(2, 0), [true, false]);
        assert_eq!(says(3, 0), [true, true]);
    }
}
