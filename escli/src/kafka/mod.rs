//! A small Kafka client for what operators do with topics, events, consumer groups and transactions.
//!
//! From the bottom up: `dial` reaches a node's client port, `connection` speaks to one node, `client` to the cluster:
//! it finds coordinators, and asks again while they change. `metadata` finds leaders; `topics`, `offsets` and `groups` are
//! the other calls. `producer` writes events, `consumer` reads them. `records`, `partitioner`, `position` and `reset` are
//! PURE.

pub mod client;
pub mod connection;
pub mod consumer;
pub mod dial;
pub mod error;
pub mod groups;
pub mod metadata;
pub mod offsets;
pub mod partitioner;
pub mod position;
pub mod producer;
pub mod records;
pub mod reset;
pub mod topics;
pub mod transactions;

pub use client::KafkaClient;
pub use error::KafkaError;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of this topic.
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.to_owned(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} of {}", self.partition, self.topic)
    }
}
