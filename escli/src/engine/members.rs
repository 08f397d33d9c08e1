//! Steps that change the members, and checks that they have changed.

use futures_util::future::join_all;
use shared::api::{ClusterStatus, Membership, RaftRole};
use shared::ids::NodeId;

use super::Engine;
use super::error::{Awaited, StepError};
use super::ports::{Cluster, Hosts, PortError};
use super::step::{Poll, failed};
use crate::plan::facts::Reachability;
use crate::plan::quorum::quorum;
use crate::plan::{Step, agreement};

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    async fn statuses(&self, nodes: &[NodeId]) -> Vec<ClusterStatus> {
        join_all(nodes.iter().map(|id| self.cluster.status(*id))).await.into_iter().flatten().collect()
    }

    /// Returns the node's membership as the leader reports it; `None` as long as none of `nodes` leads.
    pub(super) async fn membership(&self, id: NodeId, nodes: &[NodeId]) -> Option<Membership> {
        let statuses = self.statuses(nodes).await;
        let leads = statuses.iter().filter(|status| status.state == Some(RaftRole::Leader));
        leads.max_by_key(|status| status.term).map(|head| membership(head, id))
    }

    /// Returns whether a majority of the remaining members knows that the node is no member.
    pub(super) async fn is_gone(&self, id: NodeId, stay: &[NodeId]) -> bool {
        let statuses = self.statuses(stay).await;
        let voters = statuses.iter().filter(|status| status.membership == Membership::Voter);
        let knows = voters.filter(|status| membership(status, id) == Membership::None).count();
        // Learners remain too, but do not count for a majority.
        knows >= quorum(agreement::voters(&statuses, stay.len()))
    }

    pub(super) async fn remove(&self, step: &Step, id: NodeId, stay: &[NodeId]) -> Result<String, StepError> {
        self.cluster.remove(id).await.map_err(|error| failed(step, error))?;
        self.wait(Awaited::Removed(id), self.limits.leader, async || {
            if self.is_gone(id, stay).await {
                Poll::Done("a majority knows".to_owned())
            } else {
                Poll::NotYet("fewer than a majority of the other nodes know".to_owned())
            }
        })
        .await
    }

    /// Returns whether every node writes this on-disk format; without one, the newest that all of them read.
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
    ) -> Result<String, StepError> {
        self.cluster.raise_format(to).await.map_err(|error| failed(step, error))?;
        self.wait(Awaited::Format, self.limits.leader, async || {
            if self.is_raised(to, nodes).await {
                Poll::Done("every node writes it".to_owned())
            } else {
                Poll::NotYet("some node does not report it yet".to_owned())
            }
        })
        .await
    }

    pub(super) async fn await_voter(&self, id: NodeId, nodes: &[NodeId]) -> Result<String, StepError> {
        self.wait(Awaited::Voter(id), self.limits.catch_up, async || match self.membership(id, nodes).await {
            Some(Membership::Voter) => Poll::Done(String::new()),
            Some(_) => Poll::NotYet(format!("n{id} is still a learner")),
            None => Poll::NotYet("there is no leader".to_owned()),
        })
        .await
    }

    /// Verifies that every member's host reaches the node's `cluster_port`. Hosts of a local cluster need no check.
    pub(super) async fn prove_reach(&self, id: NodeId, from: &[NodeId]) -> Result<String, StepError> {
        self.wait(Awaited::Reachable(id), self.limits.leader, async || {
            let tried = join_all(from.iter().map(|member| self.hosts.peer_reachability(*member))).await;
            let cut = from.iter().zip(tried).filter_map(|(member, links)| cut(*member, id, links));
            let cut: Vec<String> = cut.collect();
            if cut.is_empty() {
                Poll::Done(format!("from {} hosts", from.len()))
            } else {
                Poll::NotYet(cut.join("; "))
            }
        })
        .await
    }
}

fn cut(
    from: NodeId,
    to: NodeId,
    links: Result<std::collections::BTreeMap<NodeId, Reachability>, PortError>,
) -> Option<String> {
    match links {
        Ok(links) => match links.get(&to)? {
            Reachability::Silent => Some(format!("n{from} gets no answer from n{to}")),
            Reachability::Unresolved => Some(format!("n{from} cannot resolve the host name of n{to}")),
            Reachability::Open | Reachability::Unknown => None,
        },
        Err(error) => Some(format!("n{from}: {error}")),
    }
}

/// Returns the membership of `id` as one node reports it.
fn membership(status: &ClusterStatus, id: NodeId) -> Membership {
    if status.node_id == id {
        return status.membership;
    }
    status.peers.iter().find(|peer| peer.id == id).map_or(Membership::None, |peer| peer.membership)
}
