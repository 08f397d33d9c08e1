//! What every change of the members is planned from.

use shared::api::{ClusterStatus, Membership, PeerStatus};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::plan::Refusal;
use crate::plan::agreement::{self, Agreement};
use crate::plan::desired::DesiredFiles;
use crate::plan::facts::{Facts, HostInspection};

/// The cluster before a change of its members.
pub struct Context<'a> {
    /// A cluster.yaml with all nodes: those that stay, join or leave.
    pub spec: &'a ClusterFile,
    /// The configuration file of each node.
    pub wanted: &'a DesiredFiles,
    /// The facts.
    pub facts: &'a Facts,
    /// The statuses of all nodes that answered.
    pub statuses: Vec<ClusterStatus>,
    /// Number of voters now.
    pub voters: usize,
    /// The leader and its term.
    pub now: Agreement,
}

impl<'a> Context<'a> {
    /// Checks that the members may be changed now.
    ///
    /// # Errors
    /// Refuses while there is no leader, nodes disagree, or another change is under way.
    pub fn of(spec: &'a ClusterFile, wanted: &'a DesiredFiles, facts: &'a Facts) -> Result<Self, Refusal> {
        let statuses: Vec<ClusterStatus> = facts.statuses().map(|(_, status)| status.clone()).collect();
        let voters = agreement::voters(&statuses, spec.cluster.nodes.len());
        let now = agreement::sound(&statuses, voters).map_err(|reason| {
            Refusal::new("members can be changed only while the cluster has a leader; no changes were made")
                .because(reason)
                .hint("see what is wrong:          escli health")
                .hint("start nodes that are down:  escli start")
                .hint("bring a new cluster up:     escli up")
        })?;
        Ok(Self { spec, wanted, facts, statuses, voters, now })
    }

    /// Returns the leader's status.
    pub fn head(&self) -> Option<&ClusterStatus> {
        self.statuses.iter().find(|status| status.node_id == self.now.leader)
    }

    /// Returns what the leader reports about another member.
    pub fn peer(&self, id: NodeId) -> Option<&PeerStatus> {
        self.head()?.peers.iter().find(|peer| peer.id == id && peer.membership != Membership::None)
    }

    /// Returns the node's membership, as the leader reports it.
    pub fn membership(&self, id: NodeId) -> Membership {
        match (self.head(), self.peer(id)) {
            (Some(head), _) if head.node_id == id => head.membership,
            (_, Some(peer)) => peer.membership,
            _ => Membership::None,
        }
    }

    /// Returns all nodes of cluster.yaml except `than`.
    pub fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.spec.cluster.nodes.iter().map(|node| node.id).filter(|id| *id != than).collect()
    }

    /// Returns whether the host could be inspected, so that steps can be run on it.
    pub fn host_is_seen(&self, id: NodeId) -> bool {
        self.facts.nodes.get(&id).is_some_and(|node| matches!(node.host, HostInspection::Seen(_)))
    }
}
