//! PURE: the facts, with what follows from them before anything is judged.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::api::{ClusterStatus, DiskProblem, Membership, PeerStatus, RaftRole};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::plan::desired::DesiredFiles;
use crate::plan::facts::Facts;

/// Whether a node runs with what cluster.yaml says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigState {
    /// It does.
    InSync,
    /// It was started with something else.
    RestartNeeded,
}

/// The facts with what follows from them at first sight.
pub struct Context<'a> {
    /// cluster.yaml.
    pub spec: &'a ClusterFile,
    /// What was seen.
    pub facts: &'a Facts,
    /// What each node should run with.
    pub wanted: &'a DesiredFiles,
    /// The leader's own word, when it answers.
    pub head: Option<&'a ClusterStatus>,
    /// Who leads, by the highest term that names a leader.
    pub leader: Option<NodeId>,
    /// Its term, or the highest seen.
    pub term: Option<u64>,
    /// Every member and its part.
    pub members: BTreeMap<NodeId, Membership>,
}

impl<'a> Context<'a> {
    /// Looks at the facts once.
    pub fn new(spec: &'a ClusterFile, facts: &'a Facts, wanted: &'a DesiredFiles) -> Self {
        let statuses = || facts.statuses().map(|(_, status)| status);
        // The highest term is right: a leader that was cut off is still in an older one. In the same term its own word
        // counts more than that of others.
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

    /// The ids of the members that vote.
    pub fn voters(&self) -> Vec<NodeId> {
        self.members.iter().filter(|(_, role)| **role == Membership::Voter).map(|(id, _)| *id).collect()
    }

    /// What the leader says of another node.
    pub fn seen_by_head(&self, id: NodeId) -> Option<&'a PeerStatus> {
        self.head?.peers.iter().find(|peer| peer.id == id)
    }

    /// What is wrong with a node's disk, by its own word.
    pub fn disk(&self, id: NodeId) -> Option<DiskProblem> {
        self.facts.nodes.get(&id)?.status()?.disk
    }

    /// The node follows the leader, or is it; one that does not answer here does when the leader hears it.
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

/// The members by the best source there is; before there is a cluster, the nodes of cluster.yaml.
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
