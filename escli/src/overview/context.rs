//! PURE: the facts about a cluster, with the first conclusions from them.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::api::{ClusterStatus, DiskProblem, Membership, PeerStatus, RaftRole};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::plan::desired::DesiredFiles;
use crate::plan::facts::Facts;

/// Whether a node runs with its configuration from cluster.yaml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigState {
    /// It does.
    InSync,
    /// It was started with another configuration.
    RestartNeeded,
}

/// The facts about a cluster, with the first conclusions from them.
pub struct Context<'a> {
    /// The cluster.yaml.
    pub spec: &'a ClusterFile,
    /// The facts.
    pub facts: &'a Facts,
    /// The configuration that each node should run with.
    pub wanted: &'a DesiredFiles,
    /// The leader's status; `None` if it does not answer.
    pub head: Option<&'a ClusterStatus>,
    /// The leader, according to the highest term in which one is named.
    pub leader: Option<NodeId>,
    /// The leader's term; the highest term of all nodes if there is no leader.
    pub term: Option<u64>,
    /// The membership of every member.
    pub members: BTreeMap<NodeId, Membership>,
}

impl<'a> Context<'a> {
    /// Draws the conclusions.
    pub fn new(spec: &'a ClusterFile, facts: &'a Facts, wanted: &'a DesiredFiles) -> Self {
        let statuses = || facts.statuses().map(|(_, status)| status);
        // The status with the highest term counts, because a leader that was cut off is still in an older term. Within
        // one term the leader's own status counts most.
        let rank = |status: &&ClusterStatus| (status.term, status.state == Some(RaftRole::Leader));
        let named = statuses().filter(|status| status.leader.is_some()).max_by_key(rank);
        let leader = named.and_then(|status| status.leader);
        let head = named.filter(|status| status.state == Some(RaftRole::Leader));
        let source = head.or(named).or_else(|| statuses().max_by_key(rank));
        Self {
            spec,
            facts,
            wanted,
            head,
            leader,
            term: source.map(|s| s.term),
            members: members(spec, source),
        }
    }

    /// Returns the ids of all voters.
    pub fn voters(&self) -> Vec<NodeId> {
        self.members.iter().filter(|(_, role)| **role == Membership::Voter).map(|(id, _)| *id).collect()
    }

    /// Returns what the leader reports about another node.
    pub fn seen_by_head(&self, id: NodeId) -> Option<&'a PeerStatus> {
        self.head?.peers.iter().find(|peer| peer.id == id)
    }

    /// Returns the problem that a node reports of its disk.
    pub fn disk(&self, id: NodeId) -> Option<DiskProblem> {
        self.facts.nodes.get(&id)?.status()?.disk
    }

    /// Returns whether the node leads or follows the leader. Of a node that does not answer here, the leader's
    /// connection to it decides.
    pub fn follows(&self, id: NodeId) -> bool {
        match self.facts.nodes.get(&id).and_then(|node| node.status()) {
            Some(status) => {
                self.leader.is_some() && status.leader == self.leader && Some(status.term) == self.term
            }
            None => self.seen_by_head(id).is_some_and(|peer| peer.connected),
        }
    }

    /// Returns whether the node that reported `status` runs with what cluster.yaml says; `None` when that is not known.
    pub fn config_state(&self, status: &ClusterStatus) -> Option<ConfigState> {
        self.wanted.hash(status.node_id)?;
        Some(if self.wanted.is_run_by(status) { ConfigState::InSync } else { ConfigState::RestartNeeded })
    }
}

/// Returns the members from the best source there is; the nodes of cluster.yaml before there is a cluster.
fn members(spec: &ClusterFile, source: Option<&ClusterStatus>) -> BTreeMap<NodeId, Membership> {
    let told = source.into_iter().flat_map(|status| {
        let peers = status.peers.iter().map(|peer| (peer.id, peer.membership));
        peers.chain([(status.node_id, status.membership)])
    });
    let told: BTreeMap<_, _> = told.filter(|(_, role)| *role != Membership::None).collect();
    if told.is_empty() {
        return spec.cluster.nodes.iter().map(|node| (node.id, Membership::Voter)).collect();
    }
    told
}
