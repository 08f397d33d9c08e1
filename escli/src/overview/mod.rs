//! PURE: facts -> one picture of the cluster, as `status`, `health` and `watch` show it. No file, socket, clock or
//! terminal.

use std::collections::BTreeSet;

use serde::Serialize;
use shared::api::{ClusterStatus, Membership, PeerStatus, RaftRole};
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

/// The document of `status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Drawn once by the first leader; of a cluster that does not answer the one that was brought up from here. `null` while
    /// nobody knows it.
    pub cluster_id: Option<ClusterId>,
    /// The verdict.
    pub health: Verdict,
    /// Why the verdict is what it is; never empty.
    pub reasons: Vec<String>,
    /// Worth knowing, and no ill health.
    pub notices: Vec<String>,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// In which term; the highest seen when nobody leads.
    pub term: Option<u64>,
    /// Highest log index known to be committed.
    pub commit_index: Option<u64>,
    /// Members that vote.
    pub voters: usize,
    /// Those of them that follow the leader, itself included.
    pub voters_up: usize,
    /// How many more of them may fail now before writes stop.
    pub tolerates: usize,
    /// What runs; more than one during an upgrade.
    pub versions: Vec<String>,
    /// Every node of cluster.yaml and every other member.
    pub nodes: Vec<NodeRow>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRow {
    /// Its id.
    pub id: NodeId,
    /// Its address in cluster.yaml.
    pub host: String,
    /// What it is in the cluster; `null` when it does not answer.
    pub role: Option<DisplayRole>,
    /// Whether it answers.
    pub state: Liveness,
    /// Version of the running binary.
    pub version: Option<String>,
    /// Its Raft term.
    pub term: Option<u64>,
    /// Highest log index it knows to be committed.
    pub commit_index: Option<u64>,
    /// Highest log index applied there.
    pub applied_index: Option<u64>,
    /// Highest log index the leader knows to be replicated there.
    pub match_index: Option<u64>,
    /// Entries behind the leader, by the leader's own account.
    pub lag: Option<u64>,
    /// Milliseconds since the leader last heard it.
    pub contact_ms: Option<u64>,
    /// Whether it runs with what cluster.yaml says.
    pub config: Option<ConfigState>,
    /// False: acknowledged means written there, not fsynced.
    pub wal_sync: Option<bool>,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    /// For Kafka clients.
    pub client_port: u16,
    /// For the other nodes.
    pub cluster_port: u16,
    /// For the admin API.
    pub http_port: u16,
    /// Why it does not answer.
    pub reason: Option<String>,
}

/// What a node is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DisplayRole {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Votes and stands for election.
    Candidate,
    /// Receives the log, does not vote.
    Learner,
    /// Not a member.
    None,
}

/// Whether a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Answers as a member.
    Up,
    /// Answers, and waits to found the cluster or to be let in.
    Joining,
    /// Does not answer.
    Unreachable,
}

/// The whole picture.
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

/// A member that cluster.yaml does not name: it is not asked, and what the leader knows of it is told.
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
    /// Somebody answered.
    pub fn is_reachable(&self) -> bool {
        self.health != Verdict::Unknown
    }

    /// Nothing is wrong.
    pub fn health_is_good(&self) -> bool {
        self.health == Verdict::Healthy
    }

    /// The row of one node.
    pub fn node(&self, id: NodeId) -> Option<&NodeRow> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

#[cfg(test)]
pub mod tests;
