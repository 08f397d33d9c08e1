//! What a cluster does about disks that are almost full: it takes no more events in time, so that what makes room can still
//! be written, and lets go of dead segments soon.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use shared::ids::NodeId;

use super::run::Driver;
use crate::consensus::{Message, MessageType, Role};

/// Ticks between two looks.
const LOOK_TICKS: u64 = 10;
/// Ticks between two attempts to hand over.
const GIVE_WAY_TICKS: u64 = 200;
/// In the answer to a heartbeat, where Raft has no use for the field: the follower has little room. Older nodes ignore it.
const LOW: u64 = 1;

/// The followers with little room, as they said themselves.
#[derive(Debug, Default)]
pub(super) struct LowRoom {
    nodes: BTreeSet<NodeId>,
}

impl LowRoom {
    fn note(&mut self, message: &Message) {
        if message.get_msg_type() == MessageType::MsgHeartbeatResponse {
            match message.reject_hint == LOW {
                true => self.nodes.insert(message.from),
                false => self.nodes.remove(&message.from),
            };
        }
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether most of `voters` have room, with or without this node, `own`.
    fn most_have_room(&self, voters: &[NodeId], own: NodeId, own_is_low: bool) -> bool {
        let room = voters.iter().filter(|id| if **id == own { !own_is_low } else { !self.has(**id) });
        room.count() > voters.len() / 2
    }
}

impl Driver {
    /// The leader learns whether a follower has room.
    pub(super) fn note_room(&mut self, messages: &[Message]) {
        messages.iter().for_each(|message| self.low.note(message));
    }

    /// A follower tells the leader.
    pub(super) fn tell_room(&self, message: &mut Message) {
        let low = self.parts.log.stats().low_room.load(Relaxed);
        if low && message.get_msg_type() == MessageType::MsgHeartbeatResponse {
            message.reject_hint = LOW;
        }
    }

    /// As leader: takes events or refuses them; one that is alone in having no room hands over.
    pub(super) fn follow_room(&mut self) {
        if !self.tick.is_multiple_of(LOOK_TICKS) {
            return;
        }
        let (leads, own) = (self.parts.core.role() == Role::Leader, self.parts.own.0);
        let stats = self.parts.log.stats();
        let low = stats.low_room.load(Relaxed);
        let voters = self.parts.core.conf_state().voters;
        let majority = self.low.most_have_room(&voters, own, low);
        let refuses = leads && (low || !majority);
        if stats.refuses_events.swap(refuses, Relaxed) != refuses {
            tracing::warn!(refuses, "events are refused while too many disks are almost full");
        }
        if leads && low && majority && self.transfer.is_none() && self.tick >= self.gives_way_from {
            self.gives_way_from = self.tick + GIVE_WAY_TICKS;
            tracing::warn!("the disk is almost full: this leader hands over to one with room");
            self.begin_transfer(None, None);
        }
    }

    /// What was forgotten leaves the disk after checkpoints that do without it: they come soon, even if nothing else does.
    pub(super) fn free_soon(&mut self) {
        if std::mem::take(&mut self.freed) {
            let needed = self.parts.stream.read().low_watermark();
            if self.parts.log.would_delete(needed) {
                self.checkpointing.hurry();
            }
        }
        if !self.tick.is_multiple_of(LOOK_TICKS)
            || !self.parts.checkpoints.files.awaits_deletion(&self.parts.log)
        {
            return;
        }
        self.checkpointing.hurry();
        let serves = self.parts.core.role() == Role::Leader && self.serves_from.is_none();
        if serves && self.transfer.is_none() && self.checkpointing.covers(self.parts.core.status().last_index)
        {
            // A checkpoint is of an entry of its own. Dropped means that leadership is gone: the next leader sees to it.
            let _ = self.parts.core.propose(vec![Bytes::new()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_with_room_goes_on() {
        let mut low = LowRoom::default();
        let mut says = |node, hint| {
            let mut message = Message { from: node, reject_hint: hint, ..Message::default() };
            message.set_msg_type(MessageType::MsgHeartbeatResponse);
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
