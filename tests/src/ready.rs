//! Decides from their status whether nodes are ready: one leads, and the others have applied what it had
//! committed.

use shared::api::{ClusterStatus, NodeState};
use shared::ids::NodeId;

/// Returns the node that all follow, once they have applied what it had committed at the first of two rounds
/// of questions. `ask` returns the status of each. One round is not enough: under load no node has ever
/// applied what a node that is asked after it has committed.
pub fn leader_of_all(ask: impl Fn() -> Option<Vec<ClusterStatus>>) -> Option<NodeId> {
    let leader = ask()?.into_iter().find(|status| status.state == NodeState::Leader)?;
    let follows = |status: &ClusterStatus| {
        status.leader == Some(leader.node_id)
            && status.applied_index >= leader.commit_index
            && status.cluster_id.is_some()
    };
    ask()?.iter().all(follows).then_some(leader.node_id)
}
