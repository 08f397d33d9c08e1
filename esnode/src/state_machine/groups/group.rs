//! One group: its members, its rebalances and its offsets.

mod migration;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::change::{GroupChange, GroupError, GroupReply, Joining, Leaving, OffsetCommit};
use super::consumer::{ConsumerGroup, FindTopic};
use super::member::Member;
use super::offsets::{CommittedOffset, Offsets};
use crate::state_machine::TopicId;

/// Bytes of a group besides its members and offsets, about.
const OVERHEAD: usize = 256;

/// What a group is doing. The names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It has no members.
    Empty,
    /// It waits for its members to join the next generation.
    PreparingRebalance {
        /// It had no members before: it waits for a moment whether more come.
        initial: bool,
    },
    /// All have joined, and its leader assigns.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
}

impl Phase {
    /// As Kafka writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance { .. } => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    offsets: Offsets,
    /// Offsets that transactions under way will commit, by producer id.
    #[serde(default)]
    pending: BTreeMap<i64, Vec<(TopicId, u32, CommittedOffset)>>,
    /// Since when it has had no members: the log's time, ms since 1970.
    empty_since: i64,
    /// What it is besides its offsets while it is a group of the consumer protocol. All else is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consumer: Option<ConsumerGroup>,
}

impl Group {
    pub(super) fn new(now: i64) -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            offsets: Offsets::default(),
            pending: BTreeMap::new(),
            empty_since: now,
            consumer: None,
        }
    }

    /// What it is doing; [`Phase::Empty`] if it is a group of the consumer protocol.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Its generation; that before the rebalance while it is being prepared.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The kind of group, `consumer` for one; empty if it never had members.
    pub fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The assignor of its generation.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Id of the member that assigns.
    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// All members by their ids.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// What it has committed.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The partitions whose offset a transaction under way will commit.
    pub fn pending(&self) -> impl Iterator<Item = (TopicId, u32)> {
        self.pending.values().flatten().map(|(topic, partition, _)| (*topic, *partition))
    }

    /// What it is doing, as Kafka writes it.
    pub fn state(&self) -> &'static str {
        self.consumer.as_ref().map_or_else(|| self.phase.name(), ConsumerGroup::state)
    }

    /// Number of its members, of either protocol.
    pub fn member_count(&self) -> usize {
        self.consumer.as_ref().map_or(self.members.len(), |consumer| consumer.members().len())
    }

    /// What it is if it is a group of the consumer protocol.
    pub fn consumer(&self) -> Option<&ConsumerGroup> {
        self.consumer.as_ref()
    }

    /// Since when it has had no members, if so: the log's time, ms since 1970.
    pub fn empty_since(&self) -> Option<i64> {
        self.is_empty().then_some(self.empty_since)
    }

    /// Whether it has no members.
    fn is_empty(&self) -> bool {
        self.phase == Phase::Empty && self.consumer.as_ref().is_none_or(|group| group.members().is_empty())
    }

    /// The member, if it is this one still, and not one that another has taken the place of.
    ///
    /// # Errors
    /// [`GroupError::UnknownMember`] and [`GroupError::FencedInstance`].
    pub fn member(&self, member: &str, instance: Option<&str>) -> Result<&Member, GroupError> {
        if instance.and_then(|instance| self.holder(instance)).is_some_and(|holder| holder != member) {
            return Err(GroupError::FencedInstance);
        }
        self.members.get(member).ok_or(GroupError::UnknownMember)
    }

    /// The member of this generation. While a group that was of the consumer protocol prepares its first rebalance, that
    /// is the epoch of each member that has not joined.
    ///
    /// # Errors
    /// Those of [`Group::member`], and [`GroupError::IllegalGeneration`].
    pub fn member_of(
        &self,
        generation: i32,
        member: &str,
        instance: Option<&str>,
    ) -> Result<&Member, GroupError> {
        let found = self.member(member, instance)?;
        if generation == found.behind.unwrap_or(self.generation) {
            Ok(found)
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    /// Whether a member of the classic protocol may go on in its generation.
    ///
    /// # Errors
    /// Those of [`Group::member_of`], and [`GroupError::RebalanceInProgress`]: it has to join again.
    pub fn heartbeat(&self, generation: i32, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let has_to_join = match &self.consumer {
            Some(consumer) => {
                let (found, _) = consumer.classic_member(generation, member, instance)?;
                consumer.has_to_join(found)
            }
            None => {
                self.member_of(generation, member, instance)?;
                matches!(self.phase, Phase::PreparingRebalance { .. })
            }
        };
        if has_to_join { Err(GroupError::RebalanceInProgress) } else { Ok(()) }
    }

    /// How long a rebalance waits for its members, in ms.
    pub fn rebalance_timeout(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> usize {
        let pending = self.pending.values().flatten().map(|(.., offset)| offset.bytes());
        OVERHEAD
            + self.offsets.bytes()
            + pending.sum::<usize>()
            + self.members.values().map(Member::bytes).sum::<usize>()
            + self.consumer.as_ref().map_or(0, ConsumerGroup::bytes)
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.is_empty() && self.offsets.is_empty() && self.pending.is_empty()
    }

    /// Whether it has committed offsets in the topic, or will.
    pub(super) fn knows(&self, topic: TopicId) -> bool {
        self.offsets.of_topic(topic).next().is_some() || self.pending().any(|(of, _)| of == topic)
    }

    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        self.offsets.retain(|(of, _), _| of != topic);
        self.pending.values_mut().for_each(|pending| pending.retain(|(of, ..)| *of != topic));
    }

    /// Topics that members of a group of the consumer protocol subscribe to have changed.
    pub(super) fn topic_changed(&mut self, topics: FindTopic<'_>) {
        if let Some(consumer) = &mut self.consumer {
            consumer.topics_changed(topics);
        }
    }

    /// Applies a change. What it makes of what members have said before may take `room` bytes more than the group takes.
    pub(super) fn apply(
        &mut self,
        change: GroupChange,
        now: i64,
        topics: FindTopic<'_>,
        room: usize,
    ) -> Result<GroupReply, GroupError> {
        match change {
            GroupChange::Consumer(change) => self.consume(change, now, topics, room),
            GroupChange::Join(joining) => self.join(joining, topics, room),
            GroupChange::CompleteJoin { generation } => self.complete_join(generation, now),
            GroupChange::Assign { member, generation, assignments } => {
                self.assign(&member, generation, assignments)
            }
            GroupChange::Leave(leaving) => Ok(self.leave(&leaving, now, topics)),
            GroupChange::Commit(commit) => self.commit(commit, now),
            GroupChange::Delete => self.delete(),
            GroupChange::DeleteOffsets(partitions) => {
                self.offsets.retain(|key, _| !partitions.contains(&key));
                Ok(GroupReply::Done)
            }
            GroupChange::Expire { committed } => {
                if self.empty_since().is_some_and(|since| since <= committed) {
                    self.offsets.retain(|_, offset| offset.committed > committed);
                }
                Ok(GroupReply::Done)
            }
        }
    }

    /// The id of the static member of this instance.
    fn holder(&self, instance: &str) -> Option<&str> {
        let holder = |(_, member): &(&String, &Member)| member.instance.as_deref() == Some(instance);
        self.members.iter().find(holder).map(|(id, _)| id.as_str())
    }

    /// A group without members is of the protocol of whoever joins next.
    fn join(
        &mut self,
        mut joining: Joining,
        topics: FindTopic<'_>,
        room: usize,
    ) -> Result<GroupReply, GroupError> {
        if let Some(consumer) = self.consumer.as_mut().filter(|consumer| !consumer.members().is_empty()) {
            let joined = consumer.join(joining, topics, room);
            self.downgrade();
            return joined;
        }
        let holder =
            joining.instance.as_deref().and_then(|instance| self.holder(instance)).map(str::to_owned);
        match &holder {
            Some(holder) if !joining.is_new && *holder != joining.member => {
                return Err(GroupError::FencedInstance);
            }
            None if !joining.is_new && !self.members.contains_key(&joining.member) => {
                return Err(GroupError::UnknownMember);
            }
            _ => {}
        }
        let before = holder.unwrap_or_else(|| joining.member.clone());
        if !self.has_common_protocol(&joining, &before) {
            return Err(GroupError::InconsistentProtocol);
        }
        let id = std::mem::take(&mut joining.member);
        self.protocol_type.clone_from(&joining.protocol_type);
        if let Some(consumer) = self.consumer.take() {
            self.generation = self.generation.max(consumer.epoch());
        }
        let same = self.members.get(&before).is_some_and(|known| known.protocols == joining.protocols);
        let replaced = self.members.remove(&before);
        let moved = id != before;
        let mut member = Member::new(joining);
        member.assignment = replaced.map(|known| known.assignment).unwrap_or_default();
        let leads = self.leader.as_deref() == Some(before.as_str());
        if leads {
            self.leader = Some(id.clone());
        }
        self.members.insert(id.clone(), member);
        // A static member that starts again and whoever asks twice go on in the generation that there is. A leader that
        // joins again by itself wants to assign anew.
        let goes_on = match self.phase {
            Phase::CompletingRebalance => same && !moved,
            Phase::Stable => same && (moved || !leads),
            Phase::Empty | Phase::PreparingRebalance { .. } => false,
        };
        if goes_on {
            return Ok(GroupReply::Unchanged);
        }
        self.prepare(&id);
        let after = self.generation;
        self.complete_if_all_joined();
        Ok(GroupReply::Joined { after })
    }

    /// Whether all members, with this one in the place of `before`, are of one kind and have a protocol in common.
    fn has_common_protocol(&self, joining: &Joining, before: &str) -> bool {
        let mut others =
            self.members.iter().filter(|(id, _)| *id != before).map(|(_, member)| member).peekable();
        if others.peek().is_none() {
            return !joining.protocols.is_empty() && !joining.protocol_type.is_empty();
        }
        let others: Vec<_> = others.collect();
        let common = |name: &str| others.iter().all(|member| member.metadata(name).is_some());
        self.protocol_type == joining.protocol_type
            && joining.protocols.iter().any(|protocol| common(&protocol.name))
    }

    /// Begins a rebalance, or goes on with it, now that this member has joined.
    fn prepare(&mut self, joined: &str) {
        match self.phase {
            Phase::PreparingRebalance { .. } => {}
            Phase::Empty => self.phase = Phase::PreparingRebalance { initial: true },
            Phase::CompletingRebalance | Phase::Stable => self.begin_rebalance(),
        }
        if let Some(member) = self.members.get_mut(joined) {
            member.joined = true;
        }
    }

    fn begin_rebalance(&mut self) {
        self.phase = Phase::PreparingRebalance { initial: false };
        self.members.values_mut().for_each(|member| member.joined = false);
    }

    fn complete_if_all_joined(&mut self) {
        let waits = self.phase == Phase::PreparingRebalance { initial: false };
        if waits && self.members.values().all(|member| member.joined) {
            self.next_generation();
        }
    }

    fn complete_join(&mut self, generation: i32, now: i64) -> Result<GroupReply, GroupError> {
        if generation == self.generation && matches!(self.phase, Phase::PreparingRebalance { .. }) {
            self.members.retain(|_, member| member.joined);
            self.next_generation();
            self.empty_if_left(now);
        }
        Ok(GroupReply::Done)
    }

    fn next_generation(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.phase = Phase::CompletingRebalance;
        self.protocol = self.elect_protocol();
        if self.leader.as_ref().is_none_or(|leader| !self.members.contains_key(leader)) {
            self.leader = self.members.keys().next().cloned();
        }
        self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
    }

    /// Of the protocols that all members can do, the one that most of them prefer.
    fn elect_protocol(&self) -> Option<String> {
        let common = |name: &str| self.members.values().all(|member| member.metadata(name).is_some());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().map(|each| each.name.as_str()).find(|name| common(name));
            *votes.entry(vote?).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn assign(
        &mut self,
        member: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<GroupReply, GroupError> {
        if let Some(consumer) = &self.consumer {
            // The group went over to the consumer protocol since its leader heard what to assign.
            consumer.classic_member(generation, member, None)?;
            return Err(GroupError::RebalanceInProgress);
        }
        self.member_of(generation, member, None)?;
        match self.phase {
            Phase::CompletingRebalance if self.leader.as_deref() == Some(member) => {
                for (id, assignment) in assignments {
                    if let Some(member) = self.members.get_mut(&id) {
                        member.assignment = assignment;
                    }
                }
                self.phase = Phase::Stable;
                Ok(GroupReply::Done)
            }
            Phase::Stable => Ok(GroupReply::Done),
            _ => Err(GroupError::RebalanceInProgress),
        }
    }

    fn leave(&mut self, leaving: &[Leaving], now: i64, topics: FindTopic<'_>) -> GroupReply {
        if let Some(consumer) = &mut self.consumer {
            let outcomes = consumer.leave(leaving, topics);
            if consumer.members().is_empty() && outcomes.contains(&None) {
                self.empty_since = now;
            }
            self.downgrade();
            return GroupReply::Left(outcomes);
        }
        let outcomes = leaving.iter().map(|leaving| self.remove(leaving).err()).collect::<Vec<_>>();
        if outcomes.iter().any(Option::is_none) && !self.empty_if_left(now) {
            match self.phase {
                Phase::PreparingRebalance { .. } => self.complete_if_all_joined(),
                _ => self.begin_rebalance(),
            }
        }
        GroupReply::Left(outcomes)
    }

    fn remove(&mut self, Leaving { member, instance }: &Leaving) -> Result<(), GroupError> {
        let id = match instance.as_deref() {
            Some(instance) if member.is_empty() => {
                self.holder(instance).ok_or(GroupError::UnknownMember)?.to_owned()
            }
            instance => self.member(member, instance).map(|_| member.clone())?,
        };
        self.members.remove(&id);
        Ok(())
    }

    /// Whether the last member has left.
    fn empty_if_left(&mut self, now: i64) -> bool {
        let empty = self.members.is_empty();
        if empty {
            self.phase = Phase::Empty;
            self.protocol = None;
            self.leader = None;
            self.empty_since = now;
        }
        empty
    }

    fn commit(&mut self, commit: OffsetCommit, now: i64) -> Result<GroupReply, GroupError> {
        self.may_commit(&commit)?;
        for (topic, partition, offset) in commit.offsets {
            self.offsets.set(topic, partition, CommittedOffset { committed: now, ..offset });
        }
        Ok(GroupReply::Done)
    }

    /// Keeps offsets that are committed if the producer's transaction is. Whoever commits them need not be a member, as
    /// producers of old did not say.
    pub(super) fn commit_in_transaction(
        &mut self,
        producer: i64,
        commit: OffsetCommit,
    ) -> Result<(), GroupError> {
        let OffsetCommit { member, instance, generation, offsets } = commit;
        if generation >= 0 || !member.is_empty() || instance.is_some() {
            self.check_committer(generation, &member, instance.as_deref())?;
        }
        let pending = self.pending.entry(producer).or_default();
        pending.retain(|(topic, partition, _)| {
            !offsets.iter().any(|(of, number, _)| (of, number) == (topic, partition))
        });
        pending.extend(offsets);
        Ok(())
    }

    /// The producer's transaction has ended.
    pub(super) fn end_transaction(&mut self, producer: i64, is_committed: bool, now: i64) {
        let pending = self.pending.remove(&producer).unwrap_or_default();
        for (topic, partition, offset) in pending.into_iter().filter(|_| is_committed) {
            self.offsets.set(topic, partition, CommittedOffset { committed: now, ..offset });
        }
    }

    /// Whether offsets are committed by a member as it is now.
    fn check_committer(
        &self,
        generation: i32,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), GroupError> {
        match &self.consumer {
            Some(consumer) => consumer.check_epoch(generation, member, instance),
            None => self.member_of(generation, member, instance).map(drop),
        }
    }

    fn may_commit(
        &self,
        OffsetCommit { member, instance, generation, .. }: &OffsetCommit,
    ) -> Result<(), GroupError> {
        if *generation < 0 && member.is_empty() && instance.is_none() {
            return if self.is_empty() { Ok(()) } else { Err(GroupError::UnknownMember) };
        }
        self.check_committer(*generation, member, instance.as_deref())?;
        match self.phase {
            Phase::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn delete(&mut self) -> Result<GroupReply, GroupError> {
        if !self.is_empty() {
            return Err(GroupError::NonEmpty);
        }
        self.offsets = Offsets::default();
        self.pending.clear();
        Ok(GroupReply::Done)
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        put(self.phase.name().as_bytes());
        put(&[u8::from(self.phase == Phase::PreparingRebalance { initial: true })]);
        put(&self.generation.to_le_bytes());
        put(self.protocol_type.as_bytes());
        put(self.protocol.as_deref().unwrap_or_default().as_bytes());
        put(self.leader.as_deref().unwrap_or_default().as_bytes());
        put(&self.empty_since.to_le_bytes());
        self.consumer.iter().for_each(|consumer| consumer.fingerprint(put));
        for (id, member) in &self.members {
            put(id.as_bytes());
            member.fingerprint(put);
        }
        let mut put_offset = |topic: TopicId, partition: u32, offset: &CommittedOffset| {
            put(&topic.to_le_bytes());
            put(&partition.to_le_bytes());
            put(&offset.offset.to_le_bytes());
            put(&offset.leader_epoch.to_le_bytes());
            put(offset.metadata.as_bytes());
            put(&offset.committed.to_le_bytes());
        };
        self.offsets.iter().for_each(|((topic, partition), offset)| put_offset(topic, partition, offset));
        let pending = self.pending.values().flatten();
        pending.for_each(|(topic, partition, offset)| put_offset(*topic, *partition, offset));
    }
}
