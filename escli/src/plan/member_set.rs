//! The members when an operation began. It can only be resumed while they are the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::api::Membership;
use shared::ids::{ClusterId, NodeId};

use super::facts::Facts;

/// The members, as the best informed node reported them; empty if none answered, or before there was a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSet {
    /// The cluster's id.
    pub cluster: Option<ClusterId>,
    /// The membership of each member.
    #[serde(with = "super::listed")]
    pub members: BTreeMap<NodeId, Membership>,
}

impl MemberSet {
    /// Returns the members that the node reports which knows of a leader in the highest term.
    pub fn seen(facts: &Facts) -> Self {
        let statuses = facts.statuses().map(|(_, status)| status);
        let Some(best) = statuses.max_by_key(|status| (status.leader.is_some(), status.term)) else {
            return Self::default();
        };
        let peers = best.peers.iter().map(|peer| (peer.id, peer.membership));
        let all = peers.chain([(best.node_id, best.membership)]);
        Self {
            cluster: best.cluster_id,
            members: all.filter(|(_, part)| *part != Membership::None).collect(),
        }
    }

    /// Returns the same set without some nodes.
    #[must_use]
    pub fn without(mut self, nodes: &[NodeId]) -> Self {
        self.members.retain(|id, _| !nodes.contains(id));
        self
    }

    /// Returns the differences, as texts for operators. What one of the two does not know is no difference.
    pub fn drift(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if let (Some(before), Some(now)) = (self.cluster, now.cluster)
            && before != now
        {
            found.push(format!("it was cluster {before}, and is now {now}"));
        }
        if self.members.is_empty() || now.members.is_empty() {
            return found;
        }
        let gone = self.members.keys().filter(|id| !now.members.contains_key(id));
        found.extend(gone.map(|id| format!("n{id} was a member and no longer is")));
        let came = now.members.keys().filter(|id| !self.members.contains_key(id));
        found.extend(came.map(|id| format!("n{id} has become a member")));
        for (id, part) in &self.members {
            let now = now.members.get(id).filter(|now| *now != part);
            found.extend(now.map(|now| format!("n{id} was a {}, and is now a {}", word(*part), word(*now))));
        }
        found
    }
}

fn word(membership: Membership) -> &'static str {
    match membership {
        Membership::Voter => "voter",
        Membership::Learner => "learner",
        Membership::None => "non-member",
    }
}
