//! Ids as the Kafka protocol writes them.

use shared::ids::NodeId;
use uuid::Uuid;

use crate::state_machine::{self, StateMachine, TopicId};

/// A node's number as the Kafka protocol writes it; cluster.yaml and the admin API accept none that does not fit.
pub fn broker_id(node: NodeId) -> i32 {
    i32::try_from(node).unwrap_or(i32::MAX)
}

/// A Raft term as a leader epoch.
pub fn leader_epoch(term: u64) -> i32 {
    i32::try_from(term).unwrap_or(i32::MAX)
}

/// A topic's number as the Kafka protocol writes it: the same on every node, different in every cluster.
pub fn topic_id(cluster: Uuid, topic: TopicId) -> Uuid {
    Uuid::from_u128(cluster.as_u128() ^ u128::from(topic))
}

/// The topic that [`topic_id`] gave this id, without looking through all of them: the state is locked meanwhile.
pub fn topic_numbered(
    state_machine: &StateMachine,
    cluster: Uuid,
    id: Uuid,
) -> Option<&state_machine::Topic> {
    state_machine.topic_by_id(TopicId::try_from(cluster.as_u128() ^ id.as_u128()).ok()?)
}
