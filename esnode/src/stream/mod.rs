//! The stream state machine: topics, partitions, offsets and producers, as the log's entries make them.
//!
//! Pure and deterministic: every replica that applies the same entries ends with the same state. Events are
//! not kept here but in the log; a partition knows where in the log its batches are.

pub mod command;

use bytes::Bytes;
use shared::ids::{ClusterId, NodeId, StoreId};

use command::Reply;

/// A topic's number: never reused, so that late commands for a deleted topic cannot reach its successor.
pub type TopicId = u32;

/// The state of all topics and producers.
#[derive(Clone, Debug, Default)]
pub struct Stream {}

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its number.
    pub id: TopicId,
    /// Its name, valid by Kafka's rules.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

/// A partition's offsets and where its batches are.
#[derive(Clone, Debug, Default)]
pub struct Partition {}

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
}

impl Stream {
    /// Applies a committed entry's payload; empty payloads change nothing but the applied index.
    pub fn apply(&mut self, _index: u64, _term: u64, _payload: &Bytes) -> Applied {
        unimplemented!()
    }
    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        unimplemented!()
    }
    /// Identity of the cluster, once founded.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        unimplemented!()
    }
    /// The data directory that member `node` is bound to.
    pub fn store_of(&self, _node: NodeId) -> Option<StoreId> {
        unimplemented!()
    }
    /// A topic by name.
    pub fn topic(&self, _name: &str) -> Option<&Topic> {
        unimplemented!()
    }
    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        std::iter::empty()
    }
    /// CRC32C over the whole state, for comparing replicas.
    pub fn digest(&self) -> u32 {
        unimplemented!()
    }
}

impl Partition {
    /// Offset of the oldest event kept.
    pub fn start_offset(&self) -> i64 {
        unimplemented!()
    }
    /// Offset that the next event will get: the high watermark.
    pub fn next_offset(&self) -> i64 {
        unimplemented!()
    }
    /// Where to start scanning for `offset` (start_offset <= offset < next_offset).
    pub fn locate(&self, _offset: i64) -> Option<Position> {
        unimplemented!()
    }
    /// Where to start scanning for the first batch with a record at or after `timestamp` (ms); None when all are older.
    pub fn locate_time(&self, _timestamp: i64) -> Option<Position> {
        unimplemented!()
    }
    /// Whether the `ordinal`-th command of entry `index`, an append to this partition, was refused or a duplicate
    /// when applied, and so has no offsets.
    pub fn is_void(&self, _index: u64, _ordinal: u32) -> bool {
        unimplemented!()
    }
}
