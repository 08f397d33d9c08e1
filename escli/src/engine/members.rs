//! Steps that change the members, and those that see that they have changed.

use futures_util::future::join_all;
use shared::api::{ClusterStatus, NodeState, Role};
use shared::ids::NodeId;

use super::Engine;
use super::ports::{Cluster, Hosts, PortError};
use super::step::{Look, Trouble, failed};
use crate::plan::facts::Reach;
use crate::plan::quorum::quorum;
use crate::plan::{Step, agreement};

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    async fn statuses(&self, nodes: &[NodeId]) -> Vec<ClusterStatus> {
        join_all(nodes.iter().map(|id| self.cluster.status(*id))).await.into_iter().flatten().collect()
    }

    /// The node's part by the leader's account; `None` while nobody of `nodes` leads.
    pub(super) async fn role(&self, id: NodeId, nodes: &[NodeId]) -> Option<Role> {
        let statuses = self.statuses(nodes).await;
        let leads = statuses.iter().filter(|status| status.state == NodeState::Leader);
        leads.max_by_key(|status| status.term).map(|head| role(head, id))
    }

    /// A majority of those who stay knows that the node is no member.
    pub(super) async fn is_gone(&self, id: NodeId, stay: &[NodeId]) -> bool {
        let statuses = self.statuses(stay).await;
        let voters = statuses.iter().filter(|status| status.role == Role::Voter);
        let knows = voters.filter(|status| role(status, id) == Role::None).count();
        // Learners stay too, and are no part of a majority.
        knows >= quorum(agreement::voters(&statuses, stay.len()))
    }

    pub(super) async fn remove(&self, step: &Step, id: NodeId, stay: &[NodeId]) -> Result<String, Trouble> {
        self.cluster.remove(id).await.map_err(|error| failed(step, &error))?;
        let what = format!("node {id} was let go, and a majority does not know yet");
        let hints = ["escli status".to_owned()];
        self.wait(&what, &hints, self.limits.leader, async || {
            if self.is_gone(id, stay).await {
                Look::There("a majority knows".to_owned())
            } else {
                Look::NotYet("fewer than a majority of the others know".to_owned())
            }
        })
        .await
    }

    /// Every node writes its data in this on-disk format, or in the newest that all of them read.
    pub(super) async fn is_raised(&self, to: Option<u16>, nodes: &[NodeId]) -> bool {
        let statuses = self.statuses(nodes).await;
        let common = || statuses.iter().filter_map(|status| status.format).map(|reads| reads.max).min();
        let Some(wanted) = to.or_else(common) else { return false };
        statuses.len() == nodes.len()
            && statuses.iter().all(|status| status.active_format.is_some_and(|active| active >= wanted))
    }

    pub(super) async fn raise_format(
        &self,
        step: &Step,
        to: Option<u16>,
        nodes: &[NodeId],
    ) -> Result<String, Trouble> {
        self.cluster.raise_format(to).await.map_err(|error| failed(step, &error))?;
        let what = "the on-disk format was raised, and not every node writes it yet";
        let hints = ["escli status".to_owned(), "escli logs".to_owned()];
        self.wait(what, &hints, self.limits.leader, async || {
            if self.is_raised(to, nodes).await {
                Look::There("every node writes it".to_owned())
            } else {
                Look::NotYet("some node does not say so".to_owned())
            }
        })
        .await
    }

    pub(super) async fn await_voter(&self, id: NodeId, nodes: &[NodeId]) -> Result<String, Trouble> {
        let what = format!("node {id} was not made a voter");
        let hints = ["escli status".to_owned(), format!("escli logs {id}")];
        self.wait(&what, &hints, self.limits.catch_up, async || match self.role(id, nodes).await {
            Some(Role::Voter) => Look::There(String::new()),
            Some(_) => Look::NotYet(format!("n{id} is still a learner")),
            None => Look::NotYet("nobody leads".to_owned()),
        })
        .await
    }

    /// Every member's host reaches the node's `cluster_port`; hosts on one machine need no proof.
    pub(super) async fn prove_reach(&self, id: NodeId, from: &[NodeId]) -> Result<String, Trouble> {
        let what = format!("not every member reaches node {id}'s cluster_port");
        let hints = ["escli check".to_owned(), "look at firewalls between the hosts".to_owned()];
        self.wait(&what, &hints, self.limits.leader, async || {
            let tried = join_all(from.iter().map(|member| self.hosts.mesh(*member))).await;
            let cut = from.iter().zip(tried).filter_map(|(member, mesh)| cut(*member, id, mesh));
            let cut: Vec<String> = cut.collect();
            if cut.is_empty() {
                Look::There(format!("from {} hosts", from.len()))
            } else {
                Look::NotYet(cut.join("; "))
            }
        })
        .await
    }
}

fn cut(
    from: NodeId,
    to: NodeId,
    mesh: Result<std::collections::BTreeMap<NodeId, Reach>, PortError>,
) -> Option<String> {
    match mesh {
        Ok(mesh) => match mesh.get(&to)? {
            Reach::Silent => Some(format!("n{from} gets no answer from n{to}")),
            Reach::Nameless => Some(format!("n{from} knows no address for the name of n{to}")),
            Reach::Open | Reach::Unknown => None,
        },
        Err(error) => Some(format!("n{from}: {error}")),
    }
}

/// The part of `id` as one node knows it.
fn role(status: &ClusterStatus, id: NodeId) -> Role {
    if status.node_id == id {
        return status.role;
    }
    status.peers.iter().find(|peer| peer.id == id).map_or(Role::None, |peer| peer.role)
}
