//! Topics: how they are created, extended, altered and deleted, within limits for all topics together.

pub mod config;
pub mod retention;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::{Refusal, Reply};
use super::{Applied, Partition, StateMachine};
pub use table::Partitions;
pub(super) use table::{Place, Topics};

/// A topic's number: never reused, so that late commands for a deleted topic cannot reach its successor.
pub type TopicId = u32;

/// Largest number of partitions of one topic.
pub const MAX_PARTITIONS: u32 = 1000;
/// Largest number of partitions of all topics. Each takes memory on every node as long as it exists, and a command of a
/// few bytes creates a thousand.
pub const MAX_PARTITIONS_IN_ALL: usize = 100_000;
/// Largest size of the configurations of all topics, in bytes. They are kept in memory, whether or not a setting is
/// known.
pub const MAX_CONFIG_BYTES: usize = 16 << 20;
/// Bytes that a setting takes in memory besides its texts.
const SETTING: usize = 64;
/// Longest name of a topic (Kafka's rule).
const MAX_NAME: usize = 249;

/// A topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Topic {
    /// Its number.
    pub id: TopicId,
    /// Its name, valid by Kafka's rules.
    pub name: String,
    /// Kafka's topic configuration, verbatim.
    pub configs: BTreeMap<String, String>,
    /// Its partitions, by number.
    pub partitions: Partitions,
}

/// Whether Kafka allows a topic of this name.
pub fn valid_topic_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

impl Topic {
    /// Adds partitions until there are so many.
    fn extend_to(&mut self, count: usize) {
        let empty = Partition::default();
        (self.partitions.len()..count).for_each(|_| self.partitions.push_back_mut(empty.clone()));
    }
}

fn setting(key: &str, value: &str) -> usize {
    key.len() + value.len() + SETTING
}

impl StateMachine {
    pub(super) fn create(
        &mut self,
        name: &str,
        partitions: u32,
        configs: BTreeMap<String, String>,
        applied: &mut Applied,
    ) -> Reply {
        if !valid_topic_name(name) || !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Reply::Refused(Refusal::InvalidTopic);
        }
        if self.names.contains_key(name) {
            return Reply::Refused(Refusal::TopicExists);
        }
        let wanted = partitions as usize;
        if wanted > self.remaining_partitions() {
            return Reply::Refused(Refusal::TooManyPartitions);
        }
        let config: usize = configs.iter().map(|(key, value)| setting(key, value)).sum();
        if config > MAX_CONFIG_BYTES - self.config_bytes {
            return Reply::Refused(Refusal::TooMuchConfig);
        }
        self.config_bytes += config;
        self.partitions += wanted;
        self.last_topic += 1;
        let id = self.last_topic;
        applied.touched.extend((0..partitions).map(|partition| (id, partition)));
        self.names.insert_mut(name.to_owned(), id);
        let mut topic = Topic { id, name: name.to_owned(), configs, partitions: Partitions::new_sync() };
        topic.extend_to(wanted);
        self.topics.insert(topic);
        self.topic_changed(name, applied);
        Reply::TopicCreated(id)
    }

    pub(super) fn grow(&mut self, name: &str, count: u32, applied: &mut Applied) -> Reply {
        let topic = self.names.get(name).and_then(|id| self.topics.get_mut(*id));
        let Some(topic) = topic else { return Reply::Refused(Refusal::UnknownTopic) };
        let (have, wanted) = (topic.partitions.len(), count as usize);
        if wanted <= have || count > MAX_PARTITIONS {
            return Reply::Refused(Refusal::InvalidTopic);
        }
        if wanted - have > MAX_PARTITIONS_IN_ALL.saturating_sub(self.partitions) {
            return Reply::Refused(Refusal::TooManyPartitions);
        }
        self.partitions += wanted - have;
        topic.extend_to(wanted);
        applied.touched.extend((0..count).skip(have).map(|partition| (topic.id, partition)));
        self.topic_changed(name, applied);
        Reply::Done
    }

    pub(super) fn delete(&mut self, id: Option<TopicId>, applied: &mut Applied) -> Reply {
        let Some(topic) = id.and_then(|id| self.topics.remove(id)) else {
            return Reply::Refused(Refusal::UnknownTopic);
        };
        self.names.remove_mut(&topic.name);
        self.groups.topic_deleted(topic.id, self.format);
        self.partitions -= topic.partitions.len();
        self.config_bytes -= topic.configs.iter().map(|(key, value)| setting(key, value)).sum::<usize>();
        self.index_entries -= topic.partitions.iter().map(Partition::index_entries).sum::<usize>();
        applied.touched.extend((0..).zip(&topic.partitions).map(|(partition, _)| (topic.id, partition)));
        self.topic_changed(&topic.name, applied);
        applied.deleted.push(topic);
        Reply::Done
    }

    pub(super) fn alter(&mut self, name: &str, changes: BTreeMap<String, Option<String>>) -> Reply {
        let topic = self.names.get(name).and_then(|id| self.topics.get_mut(*id));
        let Some(topic) = topic else { return Reply::Refused(Refusal::UnknownTopic) };
        let old = changes.keys().filter_map(|key| topic.configs.get(key).map(|value| setting(key, value)));
        let rest = self.config_bytes - old.sum::<usize>();
        let new = changes.iter().filter_map(|(key, value)| value.as_ref().map(|value| setting(key, value)));
        let after = rest + new.sum::<usize>();
        if after > MAX_CONFIG_BYTES {
            return Reply::Refused(Refusal::TooMuchConfig);
        }
        self.config_bytes = after;
        for (key, value) in changes {
            match value {
                Some(value) => topic.configs.insert(key, value),
                None => topic.configs.remove(&key),
            };
        }
        Reply::Done
    }

    /// Returns how many partitions can still be created.
    pub fn remaining_partitions(&self) -> usize {
        MAX_PARTITIONS_IN_ALL.saturating_sub(self.partitions)
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(*self.names.get(name)?)
    }

    /// A topic by number.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topics.get(*id))
    }

    /// Returns a value that differs for any two different sets of topics and partitions in this log's history. Topic
    /// numbers are never reused; while none is given, topics can only disappear; and while none disappears, partitions
    /// can only increase.
    pub fn topics_version(&self) -> (TopicId, usize, usize) {
        (self.last_topic, self.topics.len(), self.partitions)
    }
}
