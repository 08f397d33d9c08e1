//! The offsets that a group has committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state_machine::TopicId;

/// Bytes of a committed offset besides its metadata, about.
const OVERHEAD: usize = 64;

/// Where a group goes on in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// Offset of the next event to read.
    pub offset: i64,
    /// Epoch of the leader that the event before it was read from; -1 if the client does not say.
    pub leader_epoch: i32,
    /// Whatever the client wants to keep with it.
    pub metadata: String,
    /// The log's time of the commit, ms since 1970. Filled in when it is applied.
    pub committed: i64,
}

impl CommittedOffset {
    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.metadata.len()
    }
}

/// All of a group's, by topic and partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(TopicId, u32, CommittedOffset)>", into = "Vec<(TopicId, u32, CommittedOffset)>")]
pub struct Offsets {
    offsets: BTreeMap<(TopicId, u32), CommittedOffset>,
    bytes: usize,
}

impl Offsets {
    /// The partition's, if one was committed.
    pub fn get(&self, topic: TopicId, partition: u32) -> Option<&CommittedOffset> {
        self.offsets.get(&(topic, partition))
    }

    /// All, ordered by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = ((TopicId, u32), &CommittedOffset)> {
        self.offsets.iter().map(|(key, offset)| (*key, offset))
    }

    /// Those of one topic.
    pub fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = (u32, &CommittedOffset)> {
        self.offsets
            .range((topic, 0)..=(topic, u32::MAX))
            .map(|((_, partition), offset)| (*partition, offset))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn set(&mut self, topic: TopicId, partition: u32, offset: CommittedOffset) {
        self.bytes += offset.bytes();
        if let Some(before) = self.offsets.insert((topic, partition), offset) {
            self.bytes -= before.bytes();
        }
    }

    /// Keeps those that `keeps` wants.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut((TopicId, u32), &CommittedOffset) -> bool) {
        self.offsets.retain(|key, offset| keeps(*key, offset));
        self.bytes = self.offsets.values().map(CommittedOffset::bytes).sum();
    }
}

impl From<Vec<(TopicId, u32, CommittedOffset)>> for Offsets {
    fn from(all: Vec<(TopicId, u32, CommittedOffset)>) -> Self {
        let mut offsets = Self::default();
        all.into_iter().for_each(|(topic, partition, offset)| offsets.set(topic, partition, offset));
        offsets
    }
}

impl From<Offsets> for Vec<(TopicId, u32, CommittedOffset)> {
    fn from(offsets: Offsets) -> Self {
        offsets.offsets.into_iter().map(|((topic, partition), offset)| (topic, partition, offset)).collect()
    }
}
