//! When nodes are ready: one leads, and the others have come as far as it had.

use shared::api::{ClusterStatus, RaftRole};
use shared::ids::NodeId;

/// The node that all nodes follow, everything applied that it had committed when it was asked first; `ask` returns what
/// each of them says. They are asked twice: under load, no node has ever applied what one that is asked after it commits.
pub fn leader_of_all(ask: impl Fn() -> Option<Vec<ClusterStatus>>) -> Option<NodeId> {
    let leader = ask()?.into_iter().find(|status| status.state == Some(RaftRole::Leader))?;
    let follows = |status: &ClusterStatus| {
        status.leader == Some(leader.node_id)
            && status.applied_index >= leader.commit_index
            && status.cluster_id.is_some()
    };
    ask()?.iter().all(follows).then_some(leader.node_id)
}
