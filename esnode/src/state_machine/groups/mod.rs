//! Consumer groups: members, generations, assignments and committed offsets. Those of the classic protocol assign by
//! themselves; to those of the consumer protocol ([`consumer`]) the cluster assigns.
//!
//! All of it is replicated, down to a rebalance under way: a new leader goes on where the last one was, and no member
//! has to join again. What is not here is time as members feel it: the coordinator ([`crate::net::kafka`]) sees who is
//! silent for too long, and has that member removed through the log.

mod change;
mod codec;
pub mod consumer;
mod group;
mod lag;
mod member;
mod offsets;
mod protocol;
pub mod subscription;
#[cfg(test)]
mod tests;

use std::ops::Bound::{Excluded, Unbounded};

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

pub use self::change::{GroupChange, GroupError, GroupReply, Joining, Leaving, OffsetCommit};
use self::consumer::FindTopic;
pub use self::group::{Group, Phase};
pub use self::lag::Lag;
pub use self::member::Member;
pub use self::offsets::CommittedOffset;
pub use self::protocol::Protocol;
use super::TopicId;

/// The on-disk format from which on there are groups.
pub const GROUPS_FORMAT: u16 = 3;
/// The on-disk format from which on a group is forgotten with its last offsets when their topic is deleted.
const FORGOTTEN_GROUPS_FORMAT: u16 = 4;
/// Bytes that all groups may take together, about.
const MAX_BYTES: usize = 256 << 20;

/// All groups. A clone shares them until one of the two changes one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Groups {
    groups: RedBlackTreeMapSync<String, Group>,
    /// What they take, about.
    bytes: usize,
}

impl Groups {
    /// Applies a change to a group, when the log's clock shows `now` (ms since 1970) and there are these topics.
    pub(super) fn apply(
        &mut self,
        name: &str,
        change: GroupChange,
        now: i64,
        topics: FindTopic<'_>,
    ) -> Result<GroupReply, GroupError> {
        let group = self.groups.get(name);
        if group.is_none() && !change.creates() {
            return Err(change.without_group());
        }
        if change.grows() && self.bytes + change.bytes() > MAX_BYTES {
            return Err(GroupError::NoRoom);
        }
        let room = MAX_BYTES.saturating_sub(self.bytes);
        self.change(name, now, |group| group.apply(change, now, topics, room))
    }

    /// Keeps offsets that are committed if the producer's transaction is.
    pub(super) fn commit_in_transaction(
        &mut self,
        name: &str,
        producer: i64,
        commit: OffsetCommit,
        now: i64,
    ) -> Result<(), GroupError> {
        if self.get(name).is_none() && commit.generation >= 0 {
            return Err(GroupError::IllegalGeneration);
        }
        let bytes: usize = commit.offsets.iter().map(|(.., offset)| offset.bytes()).sum();
        if self.bytes + bytes > MAX_BYTES {
            return Err(GroupError::NoRoom);
        }
        self.change(name, now, |group| group.commit_in_transaction(producer, commit))
    }

    /// The producer's transaction, which the group takes part in, has ended.
    pub(super) fn end_transaction(&mut self, name: &str, producer: i64, is_committed: bool, now: i64) {
        if self.groups.contains_key(name) {
            self.change(name, now, |group| group.end_transaction(producer, is_committed, now));
        }
    }

    /// Changes a group, which begins if there is none, and ends if nothing is left of it.
    fn change<T>(&mut self, name: &str, now: i64, change: impl FnOnce(&mut Group) -> T) -> T {
        let Some(group) = self.groups.get_mut(name) else {
            let mut group = Group::new(now);
            let outcome = change(&mut group);
            if !group.is_gone() {
                self.bytes += group.bytes();
                self.groups.insert_mut(name.to_owned(), group);
            }
            return outcome;
        };
        let before = group.bytes();
        let outcome = change(group);
        let (after, gone) = (group.bytes(), group.is_gone());
        self.bytes = self.bytes + if gone { 0 } else { after } - before;
        if gone {
            self.groups.remove_mut(name);
        }
        outcome
    }

    /// The topic is deleted: so are the offsets committed in it, and from format 4 on the groups of which nothing is left.
    pub(super) fn topic_deleted(&mut self, topic: TopicId, format: u16) {
        for name in self.of(|group| group.knows(topic)) {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            let before = group.bytes();
            group.forget_topic(topic);
            self.bytes = self.bytes + group.bytes() - before;
            if group.is_gone() && format >= FORGOTTEN_GROUPS_FORMAT {
                self.bytes -= group.bytes();
                self.groups.remove_mut(&name);
            }
        }
    }

    /// A topic of this name has come or gone, or has more partitions. Returns the groups to which that matters.
    pub(super) fn topic_changed(&mut self, name: &str, topics: FindTopic<'_>) -> Vec<String> {
        let subscribed =
            |group: &Group| group.consumer().is_some_and(|consumer| consumer.is_subscribed(name));
        let changed = self.of(subscribed);
        for name in &changed {
            let Some(group) = self.groups.get_mut(name) else { continue };
            let before = group.bytes();
            group.topic_changed(topics);
            self.bytes = self.bytes + group.bytes() - before;
        }
        changed
    }

    /// The names of those groups.
    fn of(&self, which: impl Fn(&Group) -> bool) -> Vec<String> {
        self.groups.iter().filter(|(_, group)| which(group)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.after(None)
    }

    pub(super) fn after(&self, name: Option<&str>) -> impl Iterator<Item = (&str, &Group)> {
        let after = self.groups.range::<str, _>((name.map_or(Unbounded, Excluded), Unbounded));
        after.map(|(name, group)| (name.as_str(), group))
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(&[u8])) {
        for (name, group) in &self.groups {
            put(name.as_bytes());
            group.fingerprint(&mut put);
        }
    }
}
