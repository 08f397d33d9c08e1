//! PURE: when nodes' answers amount to a cluster with a leader.

use shared::api::{ClusterStatus, NodeState};
use shared::ids::NodeId;

use super::quorum::quorum;

/// What the nodes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Who leads.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
}

/// A majority of `voters` follows one leader, which says so itself.
///
/// # Errors
/// What is missing, for people.
pub fn leader(statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let leads = |status: &&ClusterStatus| status.state == NodeState::Leader;
    let Some(head) = statuses.iter().filter(leads).max_by_key(|status| status.term) else {
        return Err(format!("no node of {} that answer leads", statuses.len()));
    };
    let agreement = Agreement { leader: head.node_id, term: head.term };
    let follow = statuses.iter().filter(|status| follows(status, agreement)).count();
    if follow < quorum(voters) {
        return Err(format!("n{} leads, and {follow} of {voters} follow it", agreement.leader));
    }
    Ok(agreement)
}

/// Every one of `nodes` answers, is a member, and agrees on cluster id, leader and term.
///
/// # Errors
/// The first disagreement, for people.
pub fn all(nodes: &[NodeId], statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let agreement = leader(statuses, voters)?;
    let head = statuses.iter().find(|status| status.node_id == agreement.leader);
    let cluster = head.and_then(|status| status.cluster_id).ok_or("the leader has no cluster id yet")?;
    for id in nodes {
        let Some(status) = statuses.iter().find(|status| status.node_id == *id) else {
            return Err(format!("n{id} does not answer"));
        };
        if status.state == NodeState::Joining {
            return Err(format!("n{id} has not joined"));
        }
        if !follows(status, agreement) {
            let seen =
                status.leader.map_or_else(|| "no leader".to_owned(), |leader| format!("leader n{leader}"));
            return Err(format!("n{id} knows {seen} in term {}, not {agreement}", status.term));
        }
        match status.cluster_id {
            Some(other) if other != cluster => {
                return Err(format!("n{id} belongs to another cluster: {other}, not {cluster}"));
            }
            Some(_) => {}
            None => return Err(format!("n{id} has no cluster id yet")),
        }
    }
    Ok(agreement)
}

fn follows(status: &ClusterStatus, agreement: Agreement) -> bool {
    status.leader == Some(agreement.leader) && status.term == agreement.term
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "leader n{}, term {}", self.leader, self.term)
    }
}
