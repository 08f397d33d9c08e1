//! Groups of the consumer protocol (KIP-848): the cluster assigns the partitions, and each member gets to its part by
//! itself while the others read on.
//!
//! Whenever members come or go, subscriptions change, or topics that members subscribe to do, the group gets a new epoch
//! and each member a new target. A member gets there by its heartbeats: first it is told what to give up; once it says
//! that it did, or if there is nothing to give up, it gets what it lacks, as far as nobody else has it. So a partition has
//! never two owners, and nobody stops reading what stays with it.

pub mod assignor;
mod change;
mod classic;
mod codec;
mod member;
#[cfg(test)]
mod tests;

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use self::assignor::{Assignor, Subscriber};
use self::change::bytes_of;
pub use self::change::{ConsumerChange, Heartbeat, HeartbeatReply, Pattern};
pub use self::classic::Classic;
pub(super) use self::member::bytes_of_partitions;
pub use self::member::{ConsumerMember, RELEASED};
use super::change::{GroupError, GroupReply, Leaving};
use crate::state_machine::TopicId;

/// The on-disk format from which on there are groups of the consumer protocol.
pub const CONSUMER_GROUPS_FORMAT: u16 = 4;

/// A partition of a topic.
pub type TopicPartition = (TopicId, u32);
/// Partitions of topics.
pub type Partitions = BTreeSet<TopicPartition>;
/// What a member subscribes to: names, and a pattern.
type Subscription<'a> = (&'a BTreeSet<String>, Option<&'a String>);
/// Tells the id of the topic of a name and how many partitions it has, if there is one.
pub type FindTopic<'a> = &'a dyn Fn(&str) -> Option<(TopicId, u32)>;

/// A group of the consumer protocol.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConsumerGroup {
    epoch: i32,
    members: BTreeMap<String, ConsumerMember>,
    /// What each pattern that members subscribe to matches.
    patterns: BTreeMap<String, BTreeSet<String>>,
    /// What all that takes, about.
    bytes: usize,
}

/// A member with what its heartbeat tells, before it goes on towards its target.
struct Told {
    member: ConsumerMember,
    /// The member that it takes the place of; itself if it was one before.
    before: Option<String>,
    /// Whether all members need new targets.
    assigns: bool,
}

impl ConsumerGroup {
    /// Its epoch: how often the targets were assigned.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// All members by their ids.
    pub fn members(&self) -> &BTreeMap<String, ConsumerMember> {
        &self.members
    }

    /// The assignor that most members prefer.
    pub fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        votes
            .into_iter()
            .rev()
            .max_by_key(|(_, count)| *count)
            .map_or(Assignor::default(), |(assignor, _)| assignor)
    }

    /// What it is doing, as Kafka writes it. Targets are assigned at once, so it is never `Assigning`.
    pub fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.members.values().all(|member| member.is_reconciled(self.epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether any member subscribes to the topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let by_pattern = || self.patterns.values().any(|topics| topics.contains(topic));
        self.members.values().any(|member| member.topics.contains(topic)) || by_pattern()
    }

    /// The patterns that members subscribe to, with the names of the topics that they match.
    pub fn patterns(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.patterns
    }

    /// Whether offsets may be committed, or asked for, on behalf of the member in this epoch.
    ///
    /// # Errors
    /// Those of [`ConsumerGroup::member`], and [`GroupError::StaleEpoch`], which a member of the classic protocol knows as
    /// [`GroupError::IllegalGeneration`].
    pub fn check_epoch(&self, epoch: i32, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let member = self.member(member, instance)?;
        match &member.classic {
            _ if member.epoch == epoch => Ok(()),
            Some(_) => Err(GroupError::IllegalGeneration),
            None => Err(GroupError::StaleEpoch),
        }
    }

    /// The member of this id, as its instance or without one.
    ///
    /// # Errors
    /// [`GroupError::UnknownMember`], [`GroupError::FencedInstance`].
    pub fn member(&self, member: &str, instance: Option<&str>) -> Result<&ConsumerMember, GroupError> {
        match instance.map(|instance| self.holder(instance).ok_or(GroupError::UnknownMember)).transpose()? {
            Some(holder) if holder != member => Err(GroupError::FencedInstance),
            _ => self.members.get(member).ok_or(GroupError::UnknownMember),
        }
    }

    /// The id of the static member of this instance.
    fn holder(&self, instance: &str) -> Option<&str> {
        let holder = |(_, member): &(&String, &ConsumerMember)| member.instance.as_deref() == Some(instance);
        self.members.iter().find(holder).map(|(id, _)| id.as_str())
    }

    /// What the member hears on this heartbeat if nothing changes by it; `None` if something does.
    ///
    /// # Errors
    /// Those of [`ConsumerChange::Heartbeat`].
    pub fn answer(&self, heartbeat: &Heartbeat) -> Result<Option<HeartbeatReply>, GroupError> {
        let Told { member, before, assigns } = self.told(heartbeat)?;
        let known = before.filter(|before| *before == heartbeat.member && !assigns);
        let Some(known) = known.and_then(|id| self.members.get(&id)) else { return Ok(None) };
        let next = self.step(&heartbeat.member, heartbeat.owned.as_ref(), member);
        Ok((next == *known).then(|| reply(heartbeat, Some(known), &next)))
    }

    pub(super) fn apply(
        &mut self,
        change: ConsumerChange,
        topics: FindTopic<'_>,
    ) -> Result<GroupReply, GroupError> {
        let outcome = self.change(change, topics);
        self.count();
        outcome
    }

    fn change(&mut self, change: ConsumerChange, topics: FindTopic<'_>) -> Result<GroupReply, GroupError> {
        match change {
            ConsumerChange::Heartbeat(heartbeat) => {
                self.heartbeat(&heartbeat, topics).map(GroupReply::Heartbeat)
            }
            ConsumerChange::Match(pattern) => {
                let known = self.patterns.get_mut(&pattern.regex);
                if let Some(known) = known.filter(|known| **known != pattern.topics) {
                    *known = pattern.topics;
                    self.assign(topics);
                }
                Ok(GroupReply::Done)
            }
            ConsumerChange::ReleaseInstance { member, instance } => self.release(&member, &instance),
            ConsumerChange::Fence { member, epoch } => {
                let slow = self.members.get(&member).filter(|slow| slow.epoch == epoch);
                if slow.is_some_and(|slow| self.waits_for(slow)) {
                    self.members.remove(&member);
                    self.assign_again(topics);
                }
                Ok(GroupReply::Done)
            }
        }
    }

    fn heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        topics: FindTopic<'_>,
    ) -> Result<HeartbeatReply, GroupError> {
        let Told { member, before, assigns } = self.told(heartbeat)?;
        let id = &heartbeat.member;
        let known = before.and_then(|before| self.members.remove(&before));
        self.members.insert(id.clone(), member);
        if let Some(Pattern { regex, topics }) = heartbeat.pattern.iter().flatten().next() {
            self.patterns.insert(regex.clone(), topics.clone());
        }
        if assigns {
            self.assign_again(topics);
        }
        let member = self.members.get(id).cloned().ok_or(GroupError::UnknownMember)?;
        let next = self.step(id, heartbeat.owned.as_ref(), member);
        let reply = reply(heartbeat, known.as_ref(), &next);
        self.members.insert(id.clone(), next);
        Ok(reply)
    }

    fn told(&self, heartbeat: &Heartbeat) -> Result<Told, GroupError> {
        let before = self.before(heartbeat)?;
        let known = before.as_ref().and_then(|id| self.members.get(id));
        let new = || ConsumerMember::new(heartbeat.instance.clone());
        let member = known.cloned().unwrap_or_else(new).with(heartbeat);
        // What belonged to another member of this id has no owner any more.
        let displaces =
            before.as_ref() != Some(&heartbeat.member) && self.members.contains_key(&heartbeat.member);
        let is_news = |pattern: &Pattern| self.patterns.get(&pattern.regex) != Some(&pattern.topics);
        let assigns = displaces
            || heartbeat.pattern.iter().flatten().any(is_news)
            || known.is_none_or(|known| !known.subscribes_like(&member));
        Ok(Told { assigns, member, before })
    }

    /// The id of the member that whoever sends the heartbeat was until now; `None` if it is new.
    fn before(&self, heartbeat: &Heartbeat) -> Result<Option<String>, GroupError> {
        let (id, instance) = (&heartbeat.member, heartbeat.instance.as_deref());
        if !heartbeat.joins() {
            let member = self.member(id, instance)?;
            return if member.classic.is_some() {
                Err(GroupError::UnknownMember)
            } else if is_current(member, heartbeat) {
                Ok(Some(id.clone()))
            } else {
                Err(GroupError::FencedEpoch)
            };
        }
        let holder = instance.and_then(|instance| self.holder(instance));
        match holder {
            Some(holder) if holder != id && !self.members[holder].may_be_replaced() => {
                Err(GroupError::UnreleasedInstance)
            }
            Some(holder) => Ok(Some(holder.to_owned())),
            None => Ok(self.members.contains_key(id).then(|| id.clone())),
        }
    }

    /// The member, which may have said that it has what it `owned`, one step nearer to its target.
    fn step(&self, id: &str, owned: Option<&Partitions>, member: ConsumerMember) -> ConsumerMember {
        let others = || self.members.iter().filter(|(other, _)| *other != id).map(|(_, other)| other);
        member.reconciled(self.epoch, owned, |gained| {
            others().flat_map(ConsumerMember::held).for_each(|partition| {
                gained.remove(partition);
            });
        })
    }

    /// The static member goes for a while. What it had waits for whoever takes its place.
    fn release(&mut self, member: &str, instance: &str) -> Result<GroupReply, GroupError> {
        if self.member(member, Some(instance))?.classic.is_some() {
            return Err(GroupError::UnknownMember);
        }
        if let Some(member) = self.members.get_mut(member) {
            member.epoch = RELEASED;
            member.revoking.clear();
        }
        Ok(GroupReply::Done)
    }

    /// Members leave, or are removed. Returns why each could not.
    pub(super) fn leave(&mut self, leaving: &[Leaving], topics: FindTopic<'_>) -> Vec<Option<GroupError>> {
        let outcomes: Vec<_> = leaving.iter().map(|leaving| self.remove(leaving).err()).collect();
        if outcomes.iter().any(Option::is_none) {
            self.assign_again(topics);
        }
        self.count();
        outcomes
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

    /// Topics that members subscribe to have come or gone, or have more partitions.
    pub(super) fn topics_changed(&mut self, topics: FindTopic<'_>) {
        self.assign(topics);
        self.count();
    }

    /// The members for whom others wait, as far as is known here.
    pub fn waited_for(&self) -> impl Iterator<Item = (&String, &ConsumerMember)> {
        // Few members of a group that changes have nothing but what others have to wait for, and none of one that does not.
        let held = LazyCell::new(|| {
            self.members.values().flat_map(ConsumerMember::held).collect::<HashSet<&TopicPartition>>()
        });
        self.members.iter().filter(move |(_, member)| {
            let has_to_join = || self.has_to_join_unless(member, |partition| held.contains(partition));
            !member.revoking.is_empty() || has_to_join()
        })
    }

    /// Whether others wait for what the member has to do, as far as is known here.
    fn waits_for(&self, member: &ConsumerMember) -> bool {
        !member.revoking.is_empty() || self.has_to_join(member)
    }

    /// Members have come, gone or changed. If only those of the classic protocol are left, the group is about to be theirs.
    fn assign_again(&mut self, topics: FindTopic<'_>) {
        if !self.is_classic() {
            self.assign(topics);
        }
    }

    /// Begins a new epoch: what each member is to have is assigned anew, of these topics.
    fn assign(&mut self, topics: FindTopic<'_>) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        let used: BTreeSet<&String> =
            self.members.values().filter_map(|member| member.pattern.as_ref()).collect();
        self.patterns.retain(|regex, _| used.contains(regex));
        let mut sizes = BTreeMap::new();
        // Most members of a group subscribe alike.
        let mut alike: BTreeMap<Subscription<'_>, Rc<BTreeSet<TopicId>>> = BTreeMap::new();
        let subscribers = self.members.iter().map(|(id, member)| {
            let subscribed = alike.entry((&member.topics, member.pattern.as_ref())).or_insert_with(|| {
                let found: BTreeMap<TopicId, u32> =
                    self.subscribed(member).filter_map(|name| topics(name)).collect();
                let subscribed = Rc::new(found.keys().copied().collect());
                sizes.extend(found);
                subscribed
            });
            let (instance, before) = (member.instance.as_deref(), &member.target);
            Subscriber { member: id, instance, topics: Rc::clone(subscribed), before }
        });
        let subscribers: Vec<_> = subscribers.collect();
        let targets = self.assignor().assign(&subscribers, &sizes);
        self.members.values_mut().zip(targets).for_each(|(member, target)| member.target = target);
    }

    /// Names of all topics that the member subscribes to; some may come twice.
    fn subscribed<'a>(&'a self, member: &'a ConsumerMember) -> impl Iterator<Item = &'a String> {
        let matched = member.pattern.as_ref().and_then(|regex| self.patterns.get(regex));
        member.topics.iter().chain(matched.into_iter().flatten())
    }

    fn count(&mut self) {
        let members = self.members.iter().map(|(id, member)| id.len() + member.bytes());
        let patterns = self.patterns.iter().map(|(regex, topics)| regex.len() + bytes_of(topics));
        self.bytes = members.sum::<usize>() + patterns.sum::<usize>();
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        put(&self.epoch.to_le_bytes());
        for (regex, topics) in &self.patterns {
            put(regex.as_bytes());
            topics.iter().for_each(|topic| put(topic.as_bytes()));
        }
        for (id, member) in &self.members {
            put(id.as_bytes());
            member.fingerprint(put);
        }
    }
}

/// Whether the heartbeat comes from the member as it is. One with the epoch before does too if it has nothing that it may
/// not have: the response that told the new epoch was lost.
fn is_current(member: &ConsumerMember, heartbeat: &Heartbeat) -> bool {
    let owned = || heartbeat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
    heartbeat.epoch == member.epoch
        || (heartbeat.epoch < member.epoch && heartbeat.epoch == member.previous_epoch && owned())
}

/// What the member hears that has become `next`.
fn reply(heartbeat: &Heartbeat, before: Option<&ConsumerMember>, next: &ConsumerMember) -> HeartbeatReply {
    let changed = before.is_none_or(|before| before.assigned != next.assigned);
    // Whoever comes with an older epoch, or tells all, may not have heard what it was told last.
    let tells = changed || heartbeat.is_full() || heartbeat.joins() || heartbeat.epoch != next.epoch;
    HeartbeatReply { epoch: next.epoch, assignment: tells.then(|| next.assigned.clone()) }
}
