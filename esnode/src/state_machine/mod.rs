//! The stream state machine: topics, partitions, offsets and producers, as the log's entries make them.
//!
//! Pure and deterministic: every replica that applies the same entries ends with the same state. Events are
//! not kept here but in the log; a partition knows where in the log its batches are.

pub mod batch;
pub mod clock;
pub mod command;
pub mod config;
pub mod members;
mod partition;
mod producers;
pub mod retention;
mod terms;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::ids::ClusterId;

use clock::LogClock;
use command::{Command, Malformed, Refusal, Reply};
use members::{Change, Members};
pub use partition::Partition;
use partition::Place;
use producers::EXPIRY_MS;
pub use producers::{Producer, Verdict};

/// A topic's number: never reused, so that late commands for a deleted topic cannot reach its successor.
pub type TopicId = u32;

/// Partitions that one topic may have.
pub const MAX_PARTITIONS: u32 = 1000;
/// Partitions that all topics together may have: each costs memory on every node for as long as it exists, and a
/// command of a few bytes creates a thousand.
pub const MAX_PARTITIONS_IN_ALL: usize = 100_000;
/// Bytes that the configurations of all topics together may take: they are kept in memory whether anybody knows what
/// they mean or not.
pub const MAX_CONFIG_BYTES: usize = 16 << 20;
/// What a setting takes besides its texts.
const SETTING: usize = 64;
/// The on-disk format that every cluster begins with.
pub const FIRST_FORMAT: u16 = 1;
/// Longest name of a topic (Kafka's rule).
const MAX_NAME: usize = 249;

/// Points of all partitions together, from which on their spacing is doubled. Bounds the memory whatever the log's size,
/// and with it what a checkpoint takes to copy and to write.
const MAX_POINTS: usize = 32 << 10;
/// Log payload between two points of a partition, at first: bounds what a reader scans.
const SPACING: u64 = 16 << 10;

/// The state of all topics and producers. A clone is what a checkpoint is made of, so it is cheap: it shares topics and
/// partitions until one of the two changes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateMachine {
    applied: u64,
    /// Payload of all applied entries.
    payload: u64,
    cluster: Option<ClusterId>,
    /// On-disk format that every member's data is written in.
    #[serde(default = "first_format")]
    format: u16,
    #[serde(default)]
    clock: LogClock,
    members: Members,
    names: BTreeMap<String, TopicId>,
    topics: BTreeMap<TopicId, Arc<Topic>>,
    last_topic: TopicId,
    /// Partitions of all topics.
    partitions: usize,
    /// Bytes of all topics' configurations.
    config_bytes: usize,
    next_producer: i64,
    /// Log payload between two points of a partition, at least.
    spacing: u64,
    /// Points of all partitions.
    points: usize,
    /// How many of them there may be.
    max_points: usize,
}

impl Default for StateMachine {
    fn default() -> Self {
        Self {
            applied: 0,
            payload: 0,
            cluster: None,
            format: FIRST_FORMAT,
            clock: LogClock::default(),
            members: Members::default(),
            names: BTreeMap::new(),
            topics: BTreeMap::new(),
            last_topic: 0,
            partitions: 0,
            config_bytes: 0,
            next_producer: 0,
            spacing: SPACING,
            points: 0,
            max_points: MAX_POINTS,
        }
    }
}

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
    pub partitions: Vec<Arc<Partition>>,
}

/// Where to start reading the log for an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Scan the log from this entry.
    pub index: u64,
    /// Offset of the partition's first live batch in that entry.
    pub base_offset: i64,
}

/// What one applied entry changed.
#[derive(Debug, Default)]
pub struct Applied {
    /// One reply per command, in order.
    pub replies: Vec<Reply>,
    /// Partitions that grew, were created or deleted (for waking readers).
    pub touched: Vec<(TopicId, u32)>,
    /// Topics came, grew or went: clients ask any node for them at once.
    pub topics: bool,
    /// The payload was not understood from here on; every replica ignores the same rest.
    pub malformed: Option<Malformed>,
    /// Events were forgotten: part of the log may not be needed any more.
    pub freed: bool,
}

/// Whether Kafka allows a topic of this name.
pub fn valid_topic_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

fn first_format() -> u16 {
    FIRST_FORMAT
}

fn setting(key: &str, value: &str) -> usize {
    key.len() + value.len() + SETTING
}

impl StateMachine {
    /// Applies a committed entry's payload; empty payloads change nothing but the applied index.
    pub fn apply(&mut self, index: u64, term: u64, payload: &Bytes) -> Applied {
        let mut applied = Applied::default();
        let unexpired = self.unexpired();
        for (ordinal, command) in (0..).zip(Command::decode_all(payload)) {
            match command {
                Ok(command) => {
                    applied.freed |= matches!(command, Command::Trim { .. } | Command::DeleteTopic { .. });
                    let place = Place {
                        index,
                        term,
                        ordinal,
                        payload: self.payload,
                        spacing: self.spacing,
                        format: self.format,
                        unexpired,
                    };
                    let reply = self.apply_command(command, place, &mut applied);
                    applied.replies.push(reply);
                }
                Err(malformed) => applied.malformed = Some(malformed),
            }
        }
        self.applied = index;
        self.payload += payload.len() as u64;
        self.thin();
        applied
    }

    /// The first entry whose producers have not expired; `None` while the log has no time.
    fn unexpired(&self) -> Option<u64> {
        let now = self.clock.latest()?;
        self.clock.first_since(now.ms.saturating_sub(EXPIRY_MS))
    }

    /// Applies a committed membership entry; `None`: one that changes nothing here.
    pub fn change_members(&mut self, index: u64, change: Option<&Change>) -> Applied {
        if let Some(change) = change {
            self.members.apply(index, change);
        }
        self.applied = index;
        Applied::default()
    }

    /// Doubles the spacing of the points when there are too many. Depends on the log alone.
    fn thin(&mut self) {
        if self.points <= self.max_points {
            return;
        }
        self.spacing = self.spacing.saturating_mul(2);
        let topics = self.topics.values_mut().map(Arc::make_mut);
        let partitions = topics.flat_map(|topic| &mut topic.partitions).map(Arc::make_mut);
        partitions.for_each(|partition| partition.thin(self.spacing));
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        self.points = partitions.map(|partition| partition.points()).sum();
        // Every partition keeps its first: very many partitions need more.
        self.max_points = MAX_POINTS.max(self.points + self.points / 2);
    }

    fn apply_command(&mut self, command: Command, place: Place, applied: &mut Applied) -> Reply {
        match command {
            Command::Append { topic, partition, batch } => {
                let reply = self.change(topic, partition, |partition| partition.append(&batch, place));
                applied.touched.push((topic, partition));
                reply
            }
            Command::Found { cluster_id } => {
                self.cluster.get_or_insert(cluster_id);
                Reply::Done
            }
            Command::Bind { node, store } => {
                let bound = self.members.bind(place.index, node, store);
                if bound { Reply::Done } else { Reply::Refused(Refusal::BoundElsewhere) }
            }
            Command::CarryOn { cluster_id } => {
                self.cluster = Some(cluster_id);
                self.members.begin_anew(place.index);
                Reply::Done
            }
            Command::RaiseFormat { to } => {
                self.format = self.format.max(to);
                Reply::Done
            }
            Command::CreateTopic { name, partitions, configs } => {
                self.create(name, partitions, configs, applied)
            }
            Command::CreatePartitions { name, count } => self.grow(&name, count, applied),
            Command::DeleteTopic { name } => self.delete(self.names.get(&name).copied(), applied),
            Command::DeleteNumbered { topic } => self.delete(Some(topic), applied),
            Command::AlterTopic { name, changes } => self.alter(&name, changes),
            Command::Trim { topic, partition, start_offset } => self.change(topic, partition, |partition| {
                partition.trim(start_offset);
                Reply::Done
            }),
            Command::Clock(tick) => {
                let mut clock = std::mem::take(&mut self.clock);
                clock.tick(place.index, tick, || self.first_needed());
                self.clock = clock;
                Reply::Done
            }
            Command::AllocateProducer => {
                self.next_producer += 1;
                Reply::ProducerAllocated(self.next_producer)
            }
        }
    }

    /// Lets `change` have its way with a partition.
    fn change(
        &mut self,
        topic: TopicId,
        partition: u32,
        change: impl FnOnce(&mut Partition) -> Reply,
    ) -> Reply {
        let topic = self.topics.get_mut(&topic).map(Arc::make_mut);
        let found = topic.and_then(|topic| topic.partitions.get_mut(partition as usize));
        let Some(partition) = found.map(Arc::make_mut) else { return Reply::Refused(Refusal::UnknownTopic) };
        let before = partition.points();
        let reply = change(partition);
        self.points = self.points + partition.points() - before;
        reply
    }

    fn create(
        &mut self,
        name: String,
        partitions: u32,
        configs: BTreeMap<String, String>,
        applied: &mut Applied,
    ) -> Reply {
        if !valid_topic_name(&name) || !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Reply::Refused(Refusal::InvalidTopic);
        }
        if self.names.contains_key(&name) {
            return Reply::Refused(Refusal::TopicExists);
        }
        let wanted = partitions as usize;
        if wanted > self.room() {
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
        applied.topics = true;
        applied.touched.extend((0..partitions).map(|partition| (id, partition)));
        self.names.insert(name.clone(), id);
        let partitions = (0..partitions).map(|_| Arc::default()).collect();
        self.topics.insert(id, Arc::new(Topic { id, name, configs, partitions }));
        Reply::TopicCreated(id)
    }

    fn grow(&mut self, name: &str, count: u32, applied: &mut Applied) -> Reply {
        let topic = self.names.get(name).and_then(|id| self.topics.get_mut(id));
        let Some(topic) = topic.map(Arc::make_mut) else {
            return Reply::Refused(Refusal::UnknownTopic);
        };
        let (have, wanted) = (topic.partitions.len(), count as usize);
        if wanted <= have || count > MAX_PARTITIONS {
            return Reply::Refused(Refusal::InvalidTopic);
        }
        if wanted - have > MAX_PARTITIONS_IN_ALL.saturating_sub(self.partitions) {
            return Reply::Refused(Refusal::TooManyPartitions);
        }
        self.partitions += wanted - have;
        topic.partitions.resize_with(wanted, Arc::default);
        applied.topics = true;
        applied.touched.extend((0..count).skip(have).map(|partition| (topic.id, partition)));
        Reply::Done
    }

    fn delete(&mut self, id: Option<TopicId>, applied: &mut Applied) -> Reply {
        let Some(topic) = id.and_then(|id| self.topics.remove(&id)) else {
            return Reply::Refused(Refusal::UnknownTopic);
        };
        self.names.remove(&topic.name);
        self.partitions -= topic.partitions.len();
        self.config_bytes -= topic.configs.iter().map(|(key, value)| setting(key, value)).sum::<usize>();
        self.points -= topic.partitions.iter().map(|partition| partition.points()).sum::<usize>();
        applied.topics = true;
        applied.touched.extend((0..).zip(&topic.partitions).map(|(partition, _)| (topic.id, partition)));
        Reply::Done
    }

    fn alter(&mut self, name: &str, changes: BTreeMap<String, Option<String>>) -> Reply {
        let topic = self.names.get(name).and_then(|id| self.topics.get_mut(id));
        let Some(topic) = topic.map(Arc::make_mut) else {
            return Reply::Refused(Refusal::UnknownTopic);
        };
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

    /// The oldest entry of the log that holds events; the next one to be applied when there are none.
    pub fn first_needed(&self) -> u64 {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.filter_map(|partition| partition.first_index()).min().unwrap_or(self.applied + 1)
    }

    /// Partitions that there is room for.
    pub fn room(&self) -> usize {
        MAX_PARTITIONS_IN_ALL.saturating_sub(self.partitions)
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Payload of all applied entries, in bytes.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Identity of the cluster, once founded.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The on-disk format that the cluster's data is written in; it is never lowered.
    pub fn format(&self) -> u16 {
        self.format
    }

    /// When entries were appended; it has not begun to tick before format 2.
    pub fn clock(&self) -> &LogClock {
        &self.clock
    }

    /// What is known of the members beside who votes.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?).map(Arc::as_ref)
    }

    /// A topic by number.
    pub fn topic_numbered(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id).map(Arc::as_ref)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topics.get(id)).map(Arc::as_ref)
    }

    /// Tells one set of topics and partitions from every other that this log leads to. Numbers are given once; while none
    /// is, topics only go; and while neither happens, partitions only grow in number.
    pub fn topics_version(&self) -> (TopicId, usize, usize) {
        (self.last_topic, self.topics.len(), self.partitions)
    }

    /// CRC32C over the whole state, for comparing replicas.
    pub fn digest(&self) -> u32 {
        let mut crc = crc32c::crc32c(&self.applied.to_le_bytes());
        let mut put = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
        put(&self.next_producer.to_le_bytes());
        put(&self.last_topic.to_le_bytes());
        put(&self.format.to_le_bytes());
        self.cluster.iter().for_each(|cluster| put(cluster.0.as_bytes()));
        self.clock.fingerprint(&mut put);
        self.members.fingerprint(&mut put);
        for topic in self.topics.values() {
            put(&topic.id.to_le_bytes());
            put(topic.name.as_bytes());
            topic.configs.iter().flat_map(|(key, value)| [key, value]).for_each(|text| put(text.as_bytes()));
            topic
                .partitions
                .iter()
                .for_each(|partition| partition.fingerprint(|number| put(&number.to_le_bytes())));
        }
        crc
    }
}
