//! Commands that the log's entries carry, their encoding, and the state machine's replies.
//!
//! ```text
//! 1 Bootstrap        cluster id, 16 bytes
//! 2 Bind             node u64 | store id, 16 bytes
//! 3 CreateTopic      name | partitions u32 | count u32, then per configuration: key | value
//! 4 DeleteTopic      name
//! 5 AllocateProducer
//! 6 Append           topic u32 | partition u32 | batch
//! 7 DeleteRecords    topic u32 | partition u32 | offset i64
//! 8 AlterTopic       name | count u32, then per configuration: key | 1 and value, or 0
//! 9 RaiseFormat      version u16
//! 10 RecoverCluster  cluster id, 16 bytes
//! 11 Clock           ms i64 | time of day i64 | doubted u8 | made up i64
//! 12 CreatePartitions  name | count u32
//! 13 DeleteTopicById  topic u32
//! 14 Group          name | change, as in `groups`
//! 15 Transaction    transactional id | change, as in `transactions`
//! ```
//!
//! Programs that read only on-disk format 1 know the commands up to 10: those behind it are proposed in later
//! formats. Each begins with its number, one byte. Texts and the batch are a u32 length and bytes. Little
//! endian throughout.

mod codec;
pub(super) mod wire;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use shared::ids::{ClusterId, NodeId, StoreId};

use super::clock::Tick;
use super::groups::{GroupChange, GroupError, GroupReply};
use super::transactions::{ProducerIdentity, TransactionChange, TransactionError, marker};
use super::{MAX_PARTITIONS, MAX_PARTITIONS_IN_ALL, TopicId};
use crate::batch_index::Content;

/// One change of the state machine. An entry's payload is one or more of them, back to back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives the new cluster its id: the first leader's first command. Later ones change nothing.
    Bootstrap {
        /// Drawn at random by that leader.
        cluster_id: ClusterId,
    },
    /// Binds a member to its data directory; refused when it is bound to another one.
    Bind {
        /// The member.
        node: NodeId,
        /// Its data directory.
        store: StoreId,
    },
    /// Creates a topic.
    CreateTopic {
        /// Valid by Kafka's rules; checked again when applied.
        name: String,
        /// At least one.
        partitions: u32,
        /// Kafka's topic configuration, verbatim.
        configs: BTreeMap<String, String>,
    },
    /// Deletes a topic and its events.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Draws a new producer id.
    AllocateProducer,
    /// Appends one record batch (magic 2) to a partition.
    Append {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: u32,
        /// The batch as the producer sent it.
        batch: Bytes,
    },
    /// Deletes the oldest events of a partition.
    DeleteRecords {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: u32,
        /// First offset to keep.
        start_offset: i64,
    },
    /// Changes a topic's configuration.
    AlterTopic {
        /// Its name.
        name: String,
        /// Values to set; `None` removes a setting.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Raises the on-disk format in which data is written. Every member reads it. It is never lowered.
    RaiseFormat {
        /// The format's version.
        to: u16,
    },
    /// Starts a new cluster from this log, because its cluster has lost its quorum for good, or this is a copy of its
    /// log.
    RecoverCluster {
        /// Id of the new cluster.
        cluster_id: ClusterId,
    },
    /// Advances the log's clock. From on-disk format 2 on, because older programs do not know it.
    Clock(Tick),
    /// Gives a topic more partitions. From on-disk format 2 on.
    CreatePartitions {
        /// Its name.
        name: String,
        /// The new number of partitions.
        count: u32,
    },
    /// Deletes the topic with this number, even if another topic has its name by now. From on-disk format 2 on.
    DeleteTopicById {
        /// Its number.
        topic: TopicId,
    },
    /// Changes a consumer group. From on-disk format 3 on.
    Group {
        /// Its name.
        group: String,
        /// What happens to it.
        change: GroupChange,
    },
    /// Changes a transactional id. From on-disk format 4 on.
    Transaction {
        /// The transactional id.
        id: String,
        /// What happens to it.
        change: TransactionChange,
    },
}

impl Command {
    /// Returns how much there is to do to apply it, at most: the number of partitions that it is about.
    pub fn work(&self) -> usize {
        match self {
            Self::CreateTopic { partitions: count, .. } | Self::CreatePartitions { count, .. } => {
                *count as usize
            }
            Self::DeleteTopic { .. } | Self::DeleteTopicById { .. } => MAX_PARTITIONS as usize,
            Self::Transaction { change: TransactionChange::End(ending), .. } => 1 + ending.partitions.len(),
            _ => 1,
        }
    }

    /// The batches that the command appends if it is not refused, each with its topic and partition.
    pub fn batches(self) -> impl Iterator<Item = (TopicId, u32, Bytes)> {
        let (one, marked) = match self {
            Self::Append { topic, partition, batch } => (Some((topic, partition, batch)), None),
            Self::Transaction { change: TransactionChange::End(ending), .. } => (None, Some(ending)),
            _ => (None, None),
        };
        let markers = marked.into_iter().flat_map(|ending| {
            let marker = marker(&ending);
            ending.partitions.into_iter().map(move |(topic, partition)| (topic, partition, marker.clone()))
        });
        one.into_iter().chain(markers)
    }

    /// What the batches of the command are read from, when it lies at `place` in a payload.
    pub fn stored_at(&self, place: Range<usize>) -> Stored {
        let (content, start) = match self {
            Self::Append { batch, .. } => (Content::Batch, place.end - batch.len()),
            _ => (Content::EndOfTransaction, place.start),
        };
        let number = |length| u32::try_from(length).expect("a payload is far smaller than 4 GiB");
        Stored { content, offset: number(start), length: number(place.end - start) }
    }
}

/// What the batches of a command are read from.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Whether it is a batch, or the command that markers are made from.
    pub content: Content,
    /// Offset in the payload of the entry.
    pub offset: u32,
    /// Its bytes.
    pub length: u32,
}

/// The result of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The command was applied, and has nothing to return.
    Done,
    /// The new topic's number.
    TopicCreated(TopicId),
    /// The new producer id; its epoch is 0.
    ProducerAllocated(i64),
    /// Who the newest instance of a transactional id is.
    ProducerInitialized(ProducerIdentity),
    /// The batch was appended, now or, if it is a retry of an idempotent producer, earlier.
    Appended {
        /// Offset of its first record.
        base_offset: i64,
        /// Oldest offset kept in the partition.
        log_start_offset: i64,
    },
    /// The group was changed.
    Group(GroupReply),
    /// Nothing changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is bound to another data directory.
    #[error("the node is bound to another data directory")]
    BoundElsewhere,
    /// A topic of that name exists.
    #[error("the topic exists")]
    TopicExists,
    /// No such topic or partition.
    #[error("no such topic or partition")]
    UnknownTopic,
    /// Name or number of partitions is not allowed.
    #[error("the topic's name or number of partitions is not allowed")]
    InvalidTopic,
    /// The cluster has the largest number of partitions that is allowed.
    #[error("all topics together can have {MAX_PARTITIONS_IN_ALL} partitions")]
    TooManyPartitions,
    /// The configurations of all topics have the largest size that is allowed.
    #[error("the configurations of all topics are as large as the cluster can hold")]
    TooMuchConfig,
    /// The batch is not one that the log accepts.
    #[error("the record batch is malformed")]
    InvalidBatch,
    /// An idempotent producer skipped or repeated sequence numbers.
    #[error("sequence number out of order")]
    OutOfOrderSequence,
    /// A newer instance of the producer is known.
    #[error("the producer's epoch is fenced")]
    FencedEpoch,
    /// The group is not changed.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The transaction is not changed, or does not include the partition.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

/// A payload that is not a sequence of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed command at byte {at}")]
pub struct Malformed {
    /// Offset in the payload of the command.
    pub at: usize,
}
