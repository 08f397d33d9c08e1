//! Members of the classic protocol in a group of the consumer protocol, while its clients go over from one to the other.
//!
//! To its client such a member is in a group of the classic protocol whose generation is the member's epoch. It is told to
//! join again whenever that would take it nearer to its target. With a join it says what it has kept, so a join is what a
//! heartbeat is to the others; its assignment is what it may have after that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::bytes_of;
use super::member::bytes_of_partitions;
use super::{ConsumerGroup, ConsumerMember, FindTopic, Partitions, TopicPartition};
use crate::state_machine::groups::change::{GroupError, GroupReply, Joining};
use crate::state_machine::groups::member::Member;
use crate::state_machine::groups::protocol::Protocol;
use crate::state_machine::groups::subscription::{CONSUMER, Subscription, assigned};

/// What a member of the classic protocol is besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classic {
    /// Time without a sign of it after which it is removed, in ms.
    pub session_timeout: i32,
    /// The assignors that it can do, best first.
    pub protocols: Vec<Protocol>,
}

impl Classic {
    /// The assignor that its client is told of. Any that it can do does, as nobody assigns by it.
    pub fn protocol(&self) -> &str {
        self.protocols.first().map_or("", |protocol| protocol.name.as_str())
    }

    fn subscription(&self) -> Option<Subscription> {
        Subscription::read(self.protocols.first()?.metadata.clone())
    }
}

impl ConsumerMember {
    /// A member of the classic protocol that has nothing yet.
    fn joining(joining: Joining, subscription: &Subscription) -> Self {
        Self {
            client_id: joining.client_id,
            client_host: joining.client_host,
            rebalance_timeout: joining.rebalance_timeout,
            topics: subscription.topics.clone(),
            classic: Some(Classic { session_timeout: joining.session_timeout, protocols: joining.protocols }),
            ..Self::new(joining.instance)
        }
    }
}

impl ConsumerGroup {
    /// The group that a group of the classic protocol in this generation becomes. A member has what it was assigned and
    /// what it said that it had: whether it has heard of the one, and of whatever takes the other from it, is not known.
    ///
    /// # Errors
    /// [`GroupError::NotFound`] if members are not consumers as Kafka's are, and [`GroupError::NoRoom`] if what they have
    /// said takes more than `room` bytes once it is read: that is many times what it takes unread.
    pub(in crate::state_machine::groups) fn of_classic(
        generation: i32,
        classic: BTreeMap<String, Member>,
        topics: FindTopic<'_>,
        mut room: usize,
    ) -> Result<Self, GroupError> {
        let (mut members, mut said, mut taken) = (BTreeMap::new(), BTreeMap::new(), Partitions::new());
        let mut take = |mut partitions: Partitions| {
            partitions.retain(|partition| taken.insert(*partition));
            partitions
        };
        for (id, mut member) in classic {
            let mut told = assigned(member.assignment.clone(), topics).ok_or(GroupError::NotFound)?;
            told.append(&mut member.held);
            let part = Classic { session_timeout: member.session_timeout, protocols: member.protocols };
            let subscription = part.subscription().ok_or(GroupError::NotFound)?;
            let owned = subscription.owned(topics);
            let read = bytes_of(&subscription.topics) + bytes_of_partitions(owned.len());
            room = room.checked_sub(read).ok_or(GroupError::NoRoom)?;
            said.insert(id.clone(), owned);
            let member = ConsumerMember {
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout: member.rebalance_timeout,
                topics: subscription.topics,
                epoch: member.behind.unwrap_or(generation),
                assigned: take(told),
                classic: Some(part),
                ..ConsumerMember::new(member.instance)
            };
            members.insert(id, member);
        }
        for (member, owned) in members.values_mut().zip(said.into_values()) {
            member.assigned.append(&mut take(owned));
            member.target.clone_from(&member.assigned);
        }
        let mut group = Self { epoch: generation, members, ..Self::default() };
        group.assign(topics);
        Ok(group)
    }

    /// The members, as those of a group of the classic protocol that prepares a rebalance.
    pub(in crate::state_machine::groups) fn into_classic(self) -> BTreeMap<String, Member> {
        let members = self.members.into_iter().filter_map(|(id, mut member)| {
            member.assigned.append(&mut member.revoking);
            let classic = member.classic?;
            let member = Member {
                instance: member.instance,
                client_id: member.client_id,
                client_host: member.client_host,
                session_timeout: classic.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
                protocols: classic.protocols,
                assignment: bytes::Bytes::new(),
                joined: false,
                held: member.assigned,
                behind: Some(member.epoch).filter(|epoch| *epoch != self.epoch),
            };
            Some((id, member))
        });
        members.collect()
    }

    /// Whether it has members, and all are of the classic protocol.
    pub(in crate::state_machine::groups) fn is_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }

    /// A member of the classic protocol joins, or joins again.
    pub(in crate::state_machine::groups) fn join(
        &mut self,
        joining: Joining,
        topics: FindTopic<'_>,
        room: usize,
    ) -> Result<GroupReply, GroupError> {
        let joined = self.joined(joining, topics, room);
        self.count();
        joined
    }

    fn joined(
        &mut self,
        joining: Joining,
        topics: FindTopic<'_>,
        room: usize,
    ) -> Result<GroupReply, GroupError> {
        let before = self.place_of(&joining)?;
        let subscription = self.check(&joining, before.as_deref())?;
        if bytes_of(&subscription.topics) > room {
            return Err(GroupError::NoRoom);
        }
        let id = joining.member.clone();
        // What belonged to another member of this id has no owner any more.
        let displaces = before.as_ref() != Some(&id) && self.members.contains_key(&id);
        let mut member = ConsumerMember::joining(joining, &subscription);
        let known = before.and_then(|before| self.members.remove(&before).map(|known| (known, before)));
        let assigns = displaces || known.as_ref().is_none_or(|(known, _)| !known.subscribes_like(&member));
        if let Some((known, before)) = known {
            member.target = known.target;
            if before == id && known.classic.is_some() {
                member.epoch = known.epoch;
                member.previous_epoch = known.previous_epoch;
                member.assigned = known.assigned;
                member.revoking = known.revoking;
            }
        }
        self.members.insert(id.clone(), member.clone());
        if assigns {
            self.assign_again(topics);
            member.target = self.members.get(&id).map(|member| member.target.clone()).unwrap_or_default();
        }
        let next = self.step(&id, Some(&subscription.owned(topics)), member);
        let epoch = next.epoch;
        self.members.insert(id, next);
        Ok(GroupReply::Admitted { epoch })
    }

    /// The id of the member that whoever joins was until now, or takes the place of; `None` if it is new.
    fn place_of(&self, joining: &Joining) -> Result<Option<String>, GroupError> {
        match joining.instance.as_deref().and_then(|instance| self.holder(instance)) {
            Some(holder) if !joining.is_new && holder != joining.member => Err(GroupError::FencedInstance),
            Some(holder) => Ok(Some(holder.to_owned())),
            None => {
                let known = self.members.get(&joining.member).filter(|known| known.classic.is_some());
                match known {
                    None if !joining.is_new => Err(GroupError::UnknownMember),
                    known => Ok(known.map(|_| joining.member.clone())),
                }
            }
        }
    }

    /// What a consumer says that joins, if it has an assignor in common with all other members of the classic protocol:
    /// they may be on their own again.
    fn check(&self, joining: &Joining, before: Option<&str>) -> Result<Subscription, GroupError> {
        let others = || {
            let others = self.members.iter().filter(|(id, _)| Some(id.as_str()) != before);
            others.filter_map(|(_, member)| member.classic.as_ref())
        };
        let can = |classic: &Classic, name: &str| classic.protocols.iter().any(|each| each.name == name);
        let is_common = |protocol: &Protocol| others().all(|classic| can(classic, &protocol.name));
        let metadata = joining.protocols.first().map(|protocol| protocol.metadata.clone());
        metadata
            .filter(|_| joining.protocol_type == CONSUMER && joining.protocols.iter().any(is_common))
            .and_then(Subscription::read)
            .ok_or(GroupError::InconsistentProtocol)
    }

    /// The member of the classic protocol that is in this generation.
    ///
    /// # Errors
    /// [`GroupError::UnknownMember`], [`GroupError::FencedInstance`] and [`GroupError::IllegalGeneration`].
    pub fn classic_member(
        &self,
        generation: i32,
        id: &str,
        instance: Option<&str>,
    ) -> Result<(&ConsumerMember, &Classic), GroupError> {
        let member = self.member(id, instance)?;
        let classic = member.classic.as_ref().ok_or(GroupError::UnknownMember)?;
        if member.epoch == generation { Ok((member, classic)) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Whether the member is of the classic protocol and has to join again: to say what it gave up, or to get what it
    /// lacks, or only to hear of the group's epoch.
    pub fn has_to_join(&self, member: &ConsumerMember) -> bool {
        let has = |partition: &TopicPartition| self.members.values().any(|member| member.holds(partition));
        self.has_to_join_unless(member, has)
    }

    /// The same, where `is_held` tells whether any member has a partition. That may take long, and is asked last.
    pub(in crate::state_machine::groups) fn has_to_join_unless(
        &self,
        member: &ConsumerMember,
        is_held: impl Fn(&TopicPartition) -> bool,
    ) -> bool {
        let gives_up = || !member.revoking.is_empty() || !member.assigned.is_subset(&member.target);
        let gains = || member.target.difference(&member.assigned).any(|partition| !is_held(partition));
        member.classic.is_some() && (member.epoch != self.epoch || gives_up() || gains())
    }
}
