//! PURE: decides from the nodes' statuses whether there is a cluster with a leader.

use shared::api::{ClusterStatus, Membership, RaftRole};
use shared::ids::NodeId;

use super::quorum::quorum;

/// Number of entries behind the leader from which a node counts as slow. The documented alert has the same limit.
pub const LAG_LIMIT: u64 = 100;

/// The leader and the term that nodes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Id of the leader.
    pub leader: NodeId,
    /// The leader's term.
    pub term: u64,
}

/// Checks that a majority of `voters` follows one leader, which itself says that it leads.
///
/// # Errors
/// What is missing, as a text for operators.
pub fn leader(statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let leads = |status: &&ClusterStatus| status.state == Some(RaftRole::Leader);
    let Some(head) = statuses.iter().filter(leads).max_by_key(|status| status.term) else {
        return Err(format!("none of the {} nodes that answer is the leader", statuses.len()));
    };
    let agreement = Agreement { leader: head.node_id, term: head.term };
    let follow = statuses.iter().filter(|status| follows(status, agreement)).count();
    if follow < quorum(voters) {
        return Err(format!("n{} leads, but only {follow} of {voters} voters follow it", agreement.leader));
    }
    Ok(agreement)
}

/// Checks that every one of `nodes` answers, is a member, and agrees on cluster id, leader and term.
///
/// # Errors
/// The first disagreement, as a text for operators.
pub fn all(nodes: &[NodeId], statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let agreement = leader(statuses, voters)?;
    let head = statuses.iter().find(|status| status.node_id == agreement.leader);
    let cluster = head.and_then(|status| status.cluster_id).ok_or("the leader has no cluster id yet")?;
    for id in nodes {
        let Some(status) = statuses.iter().find(|status| status.node_id == *id) else {
            return Err(format!("n{id} does not answer"));
        };
        if status.state.is_none() {
            return Err(format!("n{id} has not joined"));
        }
        if !follows(status, agreement) {
            let seen =
                status.leader.map_or_else(|| "no leader".to_owned(), |leader| format!("leader n{leader}"));
            return Err(format!("n{id} follows {seen} in term {}, not {agreement}", status.term));
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

/// Checks that there is one undisputed leader with a majority, one cluster id, and no membership change under way. Only
/// then may a running cluster be changed.
///
/// # Errors
/// The first problem, as a text for operators.
pub fn sound(statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let agreement = leader(statuses, voters)?;
    if statuses.iter().any(|status| status.pending_change) {
        return Err("a membership change is in progress".to_owned());
    }
    let cluster = statuses.iter().find(|s| s.node_id == agreement.leader).and_then(|head| head.cluster_id);
    for status in statuses {
        let id = status.node_id;
        if status.state == Some(RaftRole::Leader) && id != agreement.leader {
            return Err(format!("n{id} says it leads in term {}, n{}", status.term, agreement.leader)
                + &format!(" in term {}", agreement.term));
        }
        if let (Some(own), Some(cluster)) = (status.cluster_id, cluster)
            && own != cluster
        {
            return Err(format!("n{id} belongs to another cluster: {own}, not {cluster}"));
        }
    }
    Ok(agreement)
}

/// Checks that the node answers, follows the leader, and keeps up with it.
///
/// # Errors
/// What is missing, as a text for operators.
pub fn keeps_up(id: NodeId, statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let agreement = leader(statuses, voters)?;
    let Some(status) = statuses.iter().find(|status| status.node_id == id) else {
        return Err(format!("n{id} does not answer"));
    };
    if !follows(status, agreement) {
        let seen = status.leader.map_or_else(|| "no leader".to_owned(), |leader| format!("leader n{leader}"));
        return Err(format!("n{id} follows {seen} in term {}, not {agreement}", status.term));
    }
    let Some(head) = statuses.iter().find(|status| status.node_id == agreement.leader) else {
        return Err("the leader does not answer".to_owned());
    };
    if let Some(peer) = head.peers.iter().find(|peer| peer.id == id) {
        if !peer.connected {
            return Err(format!("n{} has no connection to n{id}", head.node_id));
        }
        if let Some(lag) = peer.lag.filter(|lag| *lag > LAG_LIMIT) {
            return Err(format!("n{id} is {lag} entries behind the leader"));
        }
    }
    let unapplied = head.commit_index.saturating_sub(status.applied_index);
    if unapplied > LAG_LIMIT {
        return Err(format!("n{id} has not yet applied {unapplied} entries"));
    }
    Ok(agreement)
}

/// Returns the voters that follow the leader and keep up with it.
pub fn healthy(statuses: &[ClusterStatus], voters: usize) -> Vec<NodeId> {
    let votes =
        statuses.iter().filter(|status| status.membership == Membership::Voter).map(|status| status.node_id);
    votes.filter(|id| keeps_up(*id, statuses, voters).is_ok()).collect()
}

/// Checks that a majority of healthy voters is left when the node stops.
///
/// # Errors
/// Why it is not, as a text for operators.
pub fn may_stop(id: NodeId, statuses: &[ClusterStatus], voters: usize) -> Result<Agreement, String> {
    let agreement = sound(statuses, voters)?;
    let left = healthy(statuses, voters).into_iter().filter(|other| *other != id).count();
    if left < quorum(voters) {
        return Err(format!(
            "without n{id}, {left} of {voters} voters would be healthy; {} are required",
            quorum(voters)
        ));
    }
    Ok(agreement)
}

/// Returns the number of voters as the leader reports it; `configured` if no leader answers.
pub fn voters(statuses: &[ClusterStatus], configured: usize) -> usize {
    let leads = |status: &&ClusterStatus| status.state == Some(RaftRole::Leader);
    let Some(head) = statuses.iter().filter(leads).max_by_key(|status| status.term) else {
        return configured;
    };
    let peers = head.peers.iter().filter(|peer| peer.membership == Membership::Voter).count();
    peers + usize::from(head.membership == Membership::Voter)
}

fn follows(status: &ClusterStatus, agreement: Agreement) -> bool {
    status.leader == Some(agreement.leader) && status.term == agreement.term
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "leader n{}, term {}", self.leader, self.term)
    }
}
