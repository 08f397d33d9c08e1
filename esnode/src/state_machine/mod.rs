//! The state machine: topics, partitions, offsets and producers, as the entries of the log determine them.
//!
//! Pure and deterministic: every replica that applies the same entries has the same state. Events are not kept here but
//! in the log; a partition knows where in the log its batches are.

pub mod clock;
pub mod command;
pub mod groups;
pub mod members;
mod partitions;
mod producers;
#[cfg(test)]
pub(crate) mod tests;
mod topics;
pub mod transactions;

use batch::BatchHeader;
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use shared::ids::ClusterId;

use crate::batch_index::PartitionKey;
use crate::batch_index::recent::RecentBatch;
use clock::{LogClock, Tick};
use command::{Command, Malformed, Refusal, Reply};
use groups::{Group, Groups};
use members::{Change, Members};
use partitions::CommandContext;
pub use partitions::{AbortedTransaction, Partition, Position, batch};
use producers::EXPIRY_MS;
pub use producers::{Producer, SequenceCheck};
pub use topics::{
    MAX_CONFIG_BYTES, MAX_PARTITIONS, MAX_PARTITIONS_IN_ALL, Partitions, Topic, TopicId, config, retention,
    valid_topic_name,
};
use topics::{Place, Topics};
use transactions::Transactions;

/// The on-disk format of new clusters, until it is raised.
pub const FIRST_FORMAT: u16 = 1;
/// The on-disk format from which on the indexes of partitions are pruned in slices.
const SLICES_FORMAT: u16 = 4;
/// Number of index entries of all partitions above which the interval between them is doubled. It bounds the memory for
/// any size of the log, and the time that a snapshot takes to copy and to write.
const MAX_INDEX_ENTRIES: usize = 32 << 10;
/// Initial interval between two index entries of a partition, in bytes of log payload: the most that a reader has to
/// scan.
const INDEX_INTERVAL: u64 = 16 << 10;
/// Partitions whose indexes are pruned after an entry, at most: what one entry costs must not depend on how many
/// partitions there are.
const MAX_PRUNED: usize = 256;

/// The state of all topics and producers. Snapshots are made from a clone, and so are answers about all of it. That
/// costs nothing, whatever the size: a clone shares everything, down to single partitions, until one side changes it.
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
    names: RedBlackTreeMapSync<String, TopicId>,
    topics: Topics,
    last_topic: TopicId,
    /// Partitions of all topics.
    partitions: usize,
    /// Bytes of all topics' configurations.
    config_bytes: usize,
    next_producer: i64,
    #[serde(default)]
    groups: Groups,
    #[serde(default)]
    transactions: Transactions,
    /// Least interval between two index entries of a partition, in bytes of log payload.
    #[serde(rename = "spacing")]
    index_interval: u64,
    /// Number of index entries of all partitions.
    #[serde(rename = "points")]
    index_entries: usize,
    /// Limit of `index_entries`.
    #[serde(rename = "max_points")]
    max_index_entries: usize,
    /// The next partition whose index is to be pruned, while that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pruning: Option<Place>,
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
            names: RedBlackTreeMapSync::new_sync(),
            topics: Topics::default(),
            last_topic: 0,
            partitions: 0,
            config_bytes: 0,
            next_producer: 0,
            groups: Groups::default(),
            transactions: Transactions::default(),
            index_interval: INDEX_INTERVAL,
            index_entries: 0,
            max_index_entries: MAX_INDEX_ENTRIES,
            pruning: None,
        }
    }
}

/// What one applied entry changed.
#[derive(Debug, Default)]
pub struct Applied {
    /// One reply per command, in order.
    pub replies: Vec<Reply>,
    /// Partitions that grew, were created or deleted (for waking readers).
    pub touched: Vec<(TopicId, u32)>,
    /// The batches that partitions got, in order.
    pub batches: Vec<(PartitionKey, RecentBatch)>,
    /// Groups that changed (for waking those who wait for them).
    pub groups: Vec<String>,
    /// Topics were created, extended or deleted. Clients ask any node for them at once.
    pub topics: bool,
    /// From here on the payload could not be decoded. Every replica ignores the same rest.
    pub malformed: Option<Malformed>,
    /// Events were deleted, so that parts of the log may no longer be needed.
    pub freed: bool,
    /// Topics that were deleted. To free the memory of many partitions takes a while.
    pub deleted: Vec<Topic>,
}

/// The id of the topic of this name, and how many partitions it has.
fn sizes(
    names: &RedBlackTreeMapSync<String, TopicId>,
    topics: &Topics,
    name: &str,
) -> Option<(TopicId, u32)> {
    let topic = topics.get(*names.get(name)?)?;
    Some((topic.id, u32::try_from(topic.partitions.len()).ok()?))
}

fn first_format() -> u16 {
    FIRST_FORMAT
}

impl StateMachine {
    /// Applies a committed entry's payload; empty payloads change nothing but the applied index.
    pub fn apply(&mut self, index: u64, term: u64, payload: &Bytes) -> Applied {
        let mut applied = Applied::default();
        let unexpired = self.unexpired();
        for (ordinal, command) in (0..).zip(Command::decode_with_places(payload)) {
            match command {
                Ok((place, command)) => {
                    applied.freed |= matches!(
                        command,
                        Command::DeleteRecords { .. }
                            | Command::DeleteTopic { .. }
                            | Command::DeleteTopicById { .. }
                    );
                    let context = CommandContext {
                        index,
                        term,
                        ordinal,
                        payload: self.payload,
                        index_interval: self.index_interval,
                        format: self.format,
                        unexpired,
                        stored: command.stored_at(place),
                    };
                    let reply = self.apply_command(command, context, &mut applied);
                    applied.replies.push(reply);
                }
                Err(malformed) => applied.malformed = Some(malformed),
            }
        }
        self.applied = index;
        self.payload += payload.len() as u64;
        self.prune_indexes();
        applied
    }

    /// Returns the first entry whose producers have not expired; `None` before the log's clock has ticked.
    fn unexpired(&self) -> Option<u64> {
        let now = self.clock.latest()?;
        self.clock.first_since(now.ms.saturating_sub(EXPIRY_MS))
    }

    /// Applies a committed membership entry. With `None`, only the applied index changes.
    pub fn change_members(&mut self, index: u64, change: Option<&Change>) -> Applied {
        if let Some(change) = change {
            self.members.apply(index, change);
        }
        self.applied = index;
        Applied::default()
    }

    /// Doubles the interval of the indexes when they have too many entries, and then prunes a few of them after each
    /// entry. Depends on the log alone.
    fn prune_indexes(&mut self) {
        if self.pruning.is_none() && self.index_entries > self.max_index_entries {
            self.index_interval = self.index_interval.saturating_mul(2);
            self.pruning = Some((0, 0));
        }
        let Some(from) = self.pruning else { return };
        // Earlier programs prune all of them at once.
        let most = if self.format < SLICES_FORMAT { usize::MAX } else { MAX_PRUNED };
        let (removed, next) = self.topics.prune_indexes(from, most, self.index_interval);
        self.index_entries -= removed;
        self.pruning = next;
        if next.is_none() {
            // Every partition keeps its first entry, so very many partitions need a higher limit.
            self.max_index_entries = MAX_INDEX_ENTRIES.max(self.index_entries + self.index_entries / 2);
        }
    }

    fn apply_command(&mut self, command: Command, context: CommandContext, applied: &mut Applied) -> Reply {
        match command {
            Command::Append { topic, partition, batch } => {
                let header = BatchHeader::parse(&batch).ok_or(Refusal::InvalidBatch);
                let header = header.and_then(|header| {
                    self.transactions.check(topic, partition, &header)?;
                    Ok(header)
                });
                let bytes = batch.len();
                applied.touched.push((topic, partition));
                self.extend((topic, partition), context, applied, |found| {
                    found.append(header, bytes, context)
                })
            }
            Command::Bootstrap { cluster_id } => {
                self.cluster.get_or_insert(cluster_id);
                Reply::Done
            }
            Command::Bind { node, store } => {
                let bound = self.members.bind(context.index, node, store);
                if bound { Reply::Done } else { Reply::Refused(Refusal::BoundElsewhere) }
            }
            Command::RecoverCluster { cluster_id } => {
                self.cluster = Some(cluster_id);
                self.members.retire_all(context.index);
                Reply::Done
            }
            Command::RaiseFormat { to } => {
                self.format = self.format.max(to);
                Reply::Done
            }
            Command::CreateTopic { name, partitions, configs } => {
                self.create(&name, partitions, configs, applied)
            }
            Command::CreatePartitions { name, count } => self.grow(&name, count, applied),
            Command::DeleteTopic { name } => self.delete(self.names.get(&name).copied(), applied),
            Command::DeleteTopicById { topic } => self.delete(Some(topic), applied),
            Command::AlterTopic { name, changes } => self.alter(&name, changes),
            Command::DeleteRecords { topic, partition, start_offset } => {
                self.change(topic, partition, |partition| {
                    partition.delete_records(start_offset);
                    Reply::Done
                })
            }
            Command::Clock(tick) => self.tick(context.index, tick),
            Command::AllocateProducer => {
                self.next_producer += 1;
                Reply::ProducerAllocated(self.next_producer)
            }
            Command::Group { group, change } => {
                let now = self.now();
                let topics = |name: &str| sizes(&self.names, &self.topics, name);
                let outcome = self.groups.apply(&group, change, now, &topics);
                applied.groups.push(group);
                outcome.map_or_else(|error| Reply::Refused(Refusal::Group(error)), Reply::Group)
            }
            Command::Transaction { id, change } => self.change_transaction(id, change, context, applied),
        }
    }

    /// A topic of this name has come or gone, or has more partitions: groups that subscribe to it are assigned anew.
    fn topic_changed(&mut self, name: &str, applied: &mut Applied) {
        applied.topics = true;
        let topics = |name: &str| sizes(&self.names, &self.topics, name);
        applied.groups.extend(self.groups.topic_changed(name, &topics));
    }

    /// What the log's clock shows, in ms since 1970; 0 before it has ticked.
    fn now(&self) -> i64 {
        self.clock.latest().map_or(0, |now| now.ms)
    }

    fn tick(&mut self, index: u64, tick: Tick) -> Reply {
        let mut clock = std::mem::take(&mut self.clock);
        clock.tick(index, tick, || self.low_watermark());
        self.clock = clock;
        Reply::Done
    }

    /// Applies `change` to a partition.
    fn change(
        &mut self,
        topic: TopicId,
        partition: u32,
        change: impl FnOnce(&mut Partition) -> Reply,
    ) -> Reply {
        let outcome = self.topics.change(topic, partition as usize, |partition| {
            let before = partition.index_entries();
            (change(partition), before, partition.index_entries())
        });
        let Some((reply, before, after)) = outcome else { return Reply::Refused(Refusal::UnknownTopic) };
        self.index_entries = self.index_entries + after - before;
        reply
    }

    /// Applies `change` to a partition, which may get a batch by it.
    fn extend(
        &mut self,
        key: PartitionKey,
        context: CommandContext,
        applied: &mut Applied,
        change: impl FnOnce(&mut Partition) -> Reply,
    ) -> Reply {
        let mut added = None;
        let reply = self.change(key.0, key.1, |partition| {
            let base_offset = partition.high_watermark();
            let reply = change(partition);
            added = context.batch(base_offset, partition);
            reply
        });
        applied.batches.extend(added.map(|batch| (key, batch)));
        reply
    }

    /// Returns the oldest entry that holds events; if there are no events, the next entry to be applied.
    pub fn low_watermark(&self) -> u64 {
        self.topics.first_index().unwrap_or(self.applied + 1)
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Payload of all applied entries, in bytes.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Identity of the cluster, once it was bootstrapped.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Returns the on-disk format in which the cluster's data is written. It is never lowered.
    pub fn format(&self) -> u16 {
        self.format
    }

    /// Returns the log's clock, which has not begun to tick before format 2.
    pub fn clock(&self) -> &LogClock {
        &self.clock
    }

    /// Returns what is known about members, apart from who votes.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The group of this name, if there is one.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter()
    }

    /// The groups whose names come after this one, by name; all for `None`.
    pub fn groups_after(&self, name: Option<&str>) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.after(name)
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
        self.groups.fingerprint(&mut put);
        self.transactions.fingerprint(&mut put);
        for topic in self.topics.iter() {
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
