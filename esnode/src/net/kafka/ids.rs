//! Ids as the Kafka protocol writes them.

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
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
    state_machine.topic_by_id(topic_number(cluster, id)?)
}

/// The number that [`topic_id`] made this id from, whether or not there is such a topic.
pub fn topic_number(cluster: Uuid, id: Uuid) -> Option<TopicId> {
    TopicId::try_from(cluster.as_u128() ^ id.as_u128()).ok()
}

/// A topic as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// By its name.
    Name(StrBytes),
    /// By its id.
    Id(Uuid),
}

impl TopicKey {
    /// The topic of the cluster `cluster` that is meant.
    pub fn find<'a>(
        &self,
        state_machine: &'a StateMachine,
        cluster: Uuid,
    ) -> Option<&'a state_machine::Topic> {
        match self {
            Self::Name(name) => state_machine.topic(name),
            Self::Id(id) => topic_numbered(state_machine, cluster, *id),
        }
    }

    /// The error when there is no such topic.
    pub fn unknown(&self) -> ResponseError {
        match self {
            Self::Name(_) => ResponseError::UnknownTopicOrPartition,
            Self::Id(_) => ResponseError::UnknownTopicId,
        }
    }
}
