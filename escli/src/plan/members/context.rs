//! What every change of the members is planned from.

use shared::api::{ClusterStatus, Membership, PeerStatus};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::plan::Refusal;
use crate::plan::agreement::{self, Agreement};
use crate::plan::desired::DesiredFiles;
use crate::plan::facts::{Facts, HostInspection};

/// The cluster as its members are to be changed.
pub struct Context<'a> {
    /// cluster.yaml with everybody in it: who stays, who comes, who goes.
    pub spec: &'a ClusterFile,
    /// The file that each node gets.
    pub wanted: &'a DesiredFiles,
    /// What was seen.
    pub facts: &'a Facts,
    /// The answers.
    pub statuses: Vec<ClusterStatus>,
    /// How many vote now.
    pub voters: usize,
    /// Who leads.
    pub now: Agreement,
}

impl<'a> Context<'a> {
    /// The cluster, if it may be worked on at all.
    ///
    /// # Errors
    /// Refuses while it is not led, disagrees, or changes already.
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

    /// What the leader says of itself.
    pub fn head(&self) -> Option<&ClusterStatus> {
        self.statuses.iter().find(|status| status.node_id == self.now.leader)
    }

    /// What the leader says of a member other than itself.
    pub fn peer(&self, id: NodeId) -> Option<&PeerStatus> {
        self.head()?.peers.iter().find(|peer| peer.id == id && peer.membership != Membership::None)
    }

    /// The node's part, by the leader's account.
    pub fn membership(&self, id: NodeId) -> Membership {
        match (self.head(), self.peer(id)) {
            (Some(head), _) if head.node_id == id => head.membership,
            (_, Some(peer)) => peer.membership,
            _ => Membership::None,
        }
    }

    /// Every node of cluster.yaml except this one.
    pub fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.spec.cluster.nodes.iter().map(|node| node.id).filter(|id| *id != than).collect()
    }

    /// The host can be worked on.
    pub fn host_is_seen(&self, id: NodeId) -> bool {
        self.facts.nodes.get(&id).is_some_and(|node| matches!(node.host, HostInspection::Seen(_)))
    }
}
