//! PURE: turns facts into the view of a cluster that `status`, `health` and `watch` show. Touches no file, socket,
//! clock or terminal.

use std::collections::BTreeSet;

use serde::Serialize;
use shared::api::{ClusterStatus, ConsumerGroups, Membership, PeerStatus, RaftRole};
use shared::ids::{ClusterId, NodeId};
use shared::spec::ClusterFile;

use crate::output::SCHEMA_VERSION;
use crate::plan::desired::DesiredFiles;
use crate::plan::facts::{ApiAnswer, Facts};
use crate::plan::quorum::quorum;

pub mod alerts;
pub mod assess;
pub mod context;
pub mod metrics;
pub mod rollout;
pub mod until;

pub use assess::Verdict;
pub use context::ConfigState;
use context::Context;
pub use until::Until;

/// The document of `status`: a cluster at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// The version of this document: [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Identity of the cluster; if no node answers, the one that is remembered for this cluster.yaml. `null` if neither
    /// is known.
    pub cluster_id: Option<ClusterId>,
    /// The verdict.
    pub health: Verdict,
    /// Why the verdict is what it is; never empty.
    pub reasons: Vec<String>,
    /// What the operator should know although it does not affect the verdict.
    pub notices: Vec<String>,
    /// Id of the leader; `null` if there is none.
    pub leader: Option<NodeId>,
    /// The leader's term; the highest term of all nodes if there is no leader.
    pub term: Option<u64>,
    /// Highest log index known to be committed.
    pub commit_index: Option<u64>,
    /// Number of voters.
    pub voters: usize,
    /// Number of voters that follow the leader, itself included.
    pub voters_up: usize,
    /// Number of further voters that may fail before writes stop.
    pub tolerates: usize,
    /// Versions that the nodes run; more than one during an upgrade.
    pub versions: Vec<String>,
    /// Every node of cluster.yaml, and every other member.
    pub nodes: Vec<NodeRow>,
    /// The consumer groups with the most lag; `null` if the leader does not tell, because it does not answer or is of the
    /// previous version.
    pub groups: Option<ConsumerGroups>,
}

/// One node at one moment. `null` means that the value is not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRow {
    /// Its id.
    pub id: NodeId,
    /// Its address in cluster.yaml.
    pub host: String,
    /// Its role or membership.
    pub role: Option<DisplayRole>,
    /// Whether it answers.
    pub state: Liveness,
    /// Version of the running program.
    pub version: Option<String>,
    /// Its Raft term.
    pub term: Option<u64>,
    /// Highest log index it knows to be committed.
    pub commit_index: Option<u64>,
    /// Highest log index that it has applied.
    pub applied_index: Option<u64>,
    /// Highest log index that, as the leader reports, is replicated to it.
    pub match_index: Option<u64>,
    /// Entries behind the leader, as the leader reports it.
    pub lag: Option<u64>,
    /// Milliseconds since the leader last heard from it.
    pub contact_ms: Option<u64>,
    /// Whether it runs with its configuration from cluster.yaml.
    pub config: Option<ConfigState>,
    /// False if what it acknowledges is written, but not fsynced.
    pub wal_sync: Option<bool>,
    /// When its process was started, RFC 3339, UTC.
    pub started_at: Option<String>,
    /// Port for Kafka clients.
    pub client_port: u16,
    /// Port for the other nodes.
    pub cluster_port: u16,
    /// Port of the admin API.
    pub http_port: u16,
    /// Why it does not answer; `null` if it does.
    pub reason: Option<String>,
}

/// A node's role or membership, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DisplayRole {
    /// It leads.
    Leader,
    /// A voter that follows.
    Follower,
    /// A voter that stands for election.
    Candidate,
    /// It receives the log and does not vote.
    Learner,
    /// It is not a member.
    None,
}

/// Whether a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// It answers, and is a member.
    Up,
    /// It answers, and waits to bootstrap the cluster or to be added to it.
    Joining,
    /// It does not answer.
    Unreachable,
}

/// Returns the view of a cluster, without its consumer groups.
pub fn overview(spec: &ClusterFile, facts: &Facts, wanted: &DesiredFiles) -> Overview {
    let context = Context::new(spec, facts, wanted);
    let voters = context.voters();
    let up = voters.iter().filter(|id| context.follows(**id)).count();
    let assessment = assess::assess(&context);
    let versions: BTreeSet<_> = facts.statuses().map(|(_, status)| status.version.clone()).collect();
    let strangers = context.head.into_iter().flat_map(|head| &head.peers);
    let strangers =
        strangers.filter(|peer| peer.membership != Membership::None && spec.node(peer.id).is_none());
    let known = spec.cluster.nodes.iter().map(|node| row(&context, node.id));
    Overview {
        schema_version: SCHEMA_VERSION,
        cluster: spec.cluster.name.clone(),
        cluster_id: facts
            .statuses()
            .find_map(|(_, status)| status.cluster_id)
            .or(facts.remembered.first().copied()),
        health: assessment.verdict,
        reasons: assessment.reasons,
        notices: assessment.notices,
        leader: context.leader,
        term: context.term,
        commit_index: facts.statuses().map(|(_, status)| status.commit_index).max(),
        voters: voters.len(),
        voters_up: up,
        tolerates: up.saturating_sub(quorum(voters.len())),
        versions: versions.into_iter().collect(),
        nodes: known.chain(strangers.map(stranger)).collect(),
        groups: None,
    }
}

fn row(context: &Context<'_>, id: NodeId) -> NodeRow {
    let answer = context.facts.nodes.get(&id).map(|node| &node.api);
    let (status, reason) = match answer {
        Some(ApiAnswer::Status(status)) => (Some(status), None),
        Some(ApiAnswer::Silent { reason, .. }) => (None, Some(reason.clone())),
        None => (None, Some("not asked".to_owned())),
    };
    let peer = context.seen_by_head(id).filter(|peer| status.is_some() || peer.connected);
    let leads = context.head.is_some_and(|head| head.node_id == id);
    let node = context.spec.node(id);
    NodeRow {
        id,
        host: node.map(|node| node.host.clone()).unwrap_or_default(),
        role: status.map(|status| role(status)),
        state: match status {
            None => Liveness::Unreachable,
            Some(status) if status.state.is_none() => Liveness::Joining,
            Some(_) => Liveness::Up,
        },
        version: status.map(|status| status.version.clone()),
        term: status.map(|status| status.term),
        commit_index: status.map(|status| status.commit_index),
        applied_index: status.map(|status| status.applied_index),
        match_index: if leads { status.map(|s| s.last_index) } else { peer.and_then(|p| p.match_index) },
        lag: if leads { Some(0) } else { peer.and_then(|peer| peer.lag) },
        contact_ms: peer.and_then(|peer| peer.last_contact_ms),
        config: status.and_then(|status| context.config_state(status)),
        wal_sync: status.map(|status| status.wal_sync),
        started_at: status.map(|status| status.started_at.clone()),
        client_port: node.map_or(0, |node| node.client_port),
        cluster_port: node.map_or(0, |node| node.cluster_port),
        http_port: node.map_or(0, |node| node.http_port),
        reason,
    }
}

/// Returns the row of a member that is not in cluster.yaml. It was not asked itself, so the row has what the leader
/// knows of it.
fn stranger(peer: &PeerStatus) -> NodeRow {
    NodeRow {
        id: peer.id,
        host: peer.host.clone(),
        role: Some(match peer.membership {
            Membership::Voter => DisplayRole::Follower,
            Membership::Learner => DisplayRole::Learner,
            Membership::None => DisplayRole::None,
        }),
        state: if peer.connected { Liveness::Up } else { Liveness::Unreachable },
        version: None,
        term: None,
        commit_index: None,
        applied_index: None,
        match_index: peer.match_index,
        lag: peer.lag,
        contact_ms: peer.last_contact_ms,
        config: None,
        wal_sync: None,
        started_at: None,
        client_port: peer.client_port,
        cluster_port: peer.cluster_port,
        http_port: peer.http_port,
        reason: Some("a member that is not in cluster.yaml".to_owned()),
    }
}

fn role(status: &ClusterStatus) -> DisplayRole {
    match (status.membership, status.state) {
        (_, Some(RaftRole::Leader)) => DisplayRole::Leader,
        (Membership::None, _) => DisplayRole::None,
        (Membership::Learner, _) => DisplayRole::Learner,
        (Membership::Voter, Some(RaftRole::Candidate)) => DisplayRole::Candidate,
        (Membership::Voter, _) => DisplayRole::Follower,
    }
}

impl Overview {
    /// Returns whether any node answered.
    pub fn is_reachable(&self) -> bool {
        self.health != Verdict::Unknown
    }

    /// Returns whether the verdict is HEALTHY.
    pub fn health_is_good(&self) -> bool {
        self.health == Verdict::Healthy
    }

    /// Returns the leader, if it answers.
    pub fn answering_leader(&self) -> Option<NodeId> {
        self.leader.filter(|id| self.node(*id).is_some_and(|node| node.state == Liveness::Up))
    }

    /// Returns the row of one node.
    pub fn node(&self, id: NodeId) -> Option<&NodeRow> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

#[cfg(test)]
pub mod tests;
