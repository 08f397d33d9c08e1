//! How a group goes over from one protocol to the other while it has members, as Kafka does with
//! `group.consumer.migration.policy=bidirectional`: with the first member of the consumer protocol it becomes a group of
//! that one, and with the last one's end a group of the classic protocol again.

use super::{Group, Phase};
use crate::state_machine::groups::change::{GroupError, GroupReply};
use crate::state_machine::groups::consumer::{ConsumerChange, ConsumerGroup, FindTopic};
use crate::state_machine::groups::member::Member;
use crate::state_machine::groups::subscription::CONSUMER;

impl Group {
    /// Something happens to a group of the consumer protocol. A member of it that joins makes this one.
    pub(super) fn consume(
        &mut self,
        change: ConsumerChange,
        now: i64,
        topics: FindTopic<'_>,
        room: usize,
    ) -> Result<GroupReply, GroupError> {
        let joins = matches!(&change, ConsumerChange::Heartbeat(heartbeat) if heartbeat.joins());
        if self.phase != Phase::Empty {
            return if joins { self.upgrade(change, topics, room) } else { Err(GroupError::UnknownMember) };
        }
        let consumer =
            if joins { Some(self.consumer.get_or_insert_default()) } else { self.consumer.as_mut() };
        let consumer = consumer.ok_or(GroupError::UnknownMember)?;
        let had_members = !consumer.members().is_empty();
        let outcome = consumer.apply(change, topics);
        if had_members && consumer.members().is_empty() {
            self.empty_since = now;
        }
        self.downgrade();
        outcome
    }

    /// The first member of the consumer protocol joins those of the classic one, which stay.
    fn upgrade(
        &mut self,
        joins: ConsumerChange,
        topics: FindTopic<'_>,
        room: usize,
    ) -> Result<GroupReply, GroupError> {
        if self.protocol_type != CONSUMER {
            return Err(GroupError::NotFound);
        }
        let mut consumer = ConsumerGroup::of_classic(self.generation, self.members.clone(), topics, room)?;
        let joined = consumer.apply(joins, topics)?;
        if consumer.bytes() > self.members.values().map(Member::bytes).sum::<usize>() + room {
            return Err(GroupError::NoRoom);
        }
        self.members.clear();
        self.phase = Phase::Empty;
        self.protocol = None;
        self.leader = None;
        self.consumer = Some(consumer);
        Ok(joined)
    }

    /// If no member of the consumer protocol is left, but others are, these go on by themselves, with a rebalance.
    pub(super) fn downgrade(&mut self) {
        let Some(consumer) = self.consumer.take_if(|consumer| consumer.is_classic()) else { return };
        self.generation = consumer.epoch();
        CONSUMER.clone_into(&mut self.protocol_type);
        self.members = consumer.into_classic();
        self.begin_rebalance();
    }
}
