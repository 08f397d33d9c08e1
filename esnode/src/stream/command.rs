//! Commands that the log's entries carry, their encoding, and the state machine's replies.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use shared::ids::{ClusterId, NodeId, StoreId};

use super::TopicId;

/// One change of the stream's state. An entry's payload is one or more of them, back to back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Founds the cluster: the first leader's first command. Later ones change nothing.
    Found {
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
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Founded (now or before), bound, deleted.
    Done,
    /// The new topic's number.
    TopicCreated(TopicId),
    /// The new producer id; its epoch is 0.
    ProducerAllocated(i64),
    /// Where the batch begins; for a retry of an idempotent producer, where it began the first time.
    Appended {
        /// Offset of its first record.
        base_offset: i64,
        /// Oldest offset kept in the partition.
        log_start_offset: i64,
    },
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
    /// The batch is not one that the log accepts.
    #[error("the record batch is malformed")]
    InvalidBatch,
    /// An idempotent producer skipped or repeated sequence numbers.
    #[error("sequence number out of order")]
    OutOfOrderSequence,
    /// A newer instance of the producer is known.
    #[error("the producer's epoch is fenced")]
    FencedEpoch,
}

/// A payload that is not a sequence of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed command at byte {at}")]
pub struct Malformed {
    /// Offset in the payload.
    pub at: usize,
}

impl Command {
    /// Appends the encoding to `out`.
    pub fn encode(&self, _out: &mut BytesMut) {
        unimplemented!()
    }
    /// The commands of a payload, in order; batches are slices of it, not copies.
    pub fn decode_all(_payload: &Bytes) -> impl Iterator<Item = Result<Command, Malformed>> {
        std::iter::empty()
    }
}
