//! Groups of the consumer protocol (KIP-848): the cluster assigns, and members hear of it by their heartbeats.

mod describe;
mod heartbeat;
pub mod pattern;

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use uuid::Uuid;

pub use self::describe::handle as describe;
pub use self::heartbeat::{SESSION_TIMEOUT, handle as heartbeat};
use crate::net::kafka::coordinator;
use crate::net::kafka::ids::topic_id;
use crate::net::kafka::session::Session;
use crate::state_machine::groups::consumer::{CONSUMER_GROUPS_FORMAT, Partitions};

/// Whether this node coordinates groups of the consumer protocol now. Clients ask again until the cluster's upgrade has
/// ended.
fn coordinates(session: &Session) -> Result<(), ResponseError> {
    coordinator::coordinates(session, CONSUMER_GROUPS_FORMAT)
}

/// Partitions as the Kafka protocol writes them: by topic.
fn by_topic(partitions: &Partitions, cluster: Uuid) -> Vec<(Uuid, Vec<i32>)> {
    let mut topics: BTreeMap<_, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(i32::try_from(*partition).unwrap_or(i32::MAX));
    }
    topics.into_iter().map(|(topic, partitions)| (topic_id(cluster, topic), partitions)).collect()
}
