//! The key of cached metadata: what all topics' metadata is made from.

use std::sync::Arc;

use shared::ids::NodeId;
use shared::spec::Node;
use uuid::Uuid;

use crate::state_machine::TopicId;

/// What all topics' metadata is made from: as long as it is the same, so is the answer.
#[derive(Clone, Debug)]
pub struct MetadataKey {
    /// Version of the answer.
    pub version: i16,
    /// Whether it tells what the client may do.
    pub operations: Operations,
    /// The cluster's id.
    pub cluster: Uuid,
    /// [`topics_version`](crate::state_machine::StateMachine::topics_version).
    pub topics: (TopicId, usize, usize),
    /// The leader that clients are sent to, and its term.
    pub leader: Option<(NodeId, u64)>,
    /// The members.
    pub nodes: Arc<[Node]>,
}

impl PartialEq for MetadataKey {
    fn eq(&self, other: &Self) -> bool {
        let Self { version, operations, cluster, topics, leader, nodes } = other;
        (self.version, self.operations, self.cluster) == (*version, *operations, *cluster)
            && (self.topics, self.leader) == (*topics, *leader)
            && Arc::ptr_eq(&self.nodes, nodes)
    }
}

/// Whether a client wants to know what it may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// With the cluster.
    pub with_cluster: bool,
    /// With the topics.
    pub with_topics: bool,
}
