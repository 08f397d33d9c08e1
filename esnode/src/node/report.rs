//! Builds the status for the admin API from what the node's parts report.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::api::{CatchUp, ClusterStatus, DiskProblem, Membership, PeerStatus, RaftRole};
use shared::ids::{ClusterId, NodeId};
use shared::spec::{ClusterFile, Node};

use crate::consensus::{self, TICK};
use crate::net::peer::PeerStats;
use crate::process::version;

/// A write that takes longer than this is reported as a problem.
const MIN_REPORTED_STALL: Duration = Duration::from_secs(1);

/// What the status is built from.
pub struct Facts<'a> {
    /// Id of this node.
    pub node_id: NodeId,
    /// The configuration that the node runs with.
    pub file: &'a ClusterFile,
    /// The members with their addresses.
    pub roster: &'a [Node],
    /// The cluster's id; `None` before it is bootstrapped.
    pub cluster_id: Option<ClusterId>,
    /// Hash of that configuration.
    pub config_hash: &'a str,
    /// Hash of it without the other nodes.
    pub settings_hash: &'a str,
    /// RFC 3339.
    pub started_at: &'a str,
    /// Consensus; `None` while the node waits to bootstrap or join a cluster.
    pub raft: Option<&'a consensus::Status>,
    /// Term of the log's last entry.
    pub last_term: Option<u64>,
    /// The format that the cluster's data is written in.
    pub active_format: u16,
    /// Progress of receiving files from another node.
    pub catch_up: Option<CatchUp>,
    /// The disk has no space for the next segment.
    pub lacks_room: bool,
    /// The disk is almost full.
    pub low_room: bool,
    /// The node leads, and refuses events because disks are almost full.
    pub refuses_events: bool,
    /// Statistics of the connections to other nodes.
    pub peers: &'a BTreeMap<NodeId, PeerStats>,
}

/// Returns the response to `GET /cluster/status`.
pub fn cluster_status(facts: &Facts<'_>) -> ClusterStatus {
    let idle = consensus::Status::default();
    let raft = facts.raft.unwrap_or(&idle);
    let others = facts.roster.iter().filter(|node| node.id != facts.node_id);
    ClusterStatus {
        node_id: facts.node_id,
        state: facts.raft.map(|raft| raft_role(raft.role)),
        term: raft.term,
        commit_index: raft.commit,
        peers: others.map(|node| peer_status(node, raft, facts.peers.get(&node.id))).collect(),
        cluster_name: facts.file.cluster.name.clone(),
        cluster_id: facts.cluster_id,
        leader: raft.leader,
        membership: membership(facts.node_id, raft),
        applied_index: raft.applied,
        last_index: raft.last_index,
        version: version::build_info().version,
        config_hash: facts.config_hash.to_owned(),
        settings_hash: facts.settings_hash.to_owned(),
        started_at: facts.started_at.to_owned(),
        wal_sync: facts.file.cluster.storage.wal_sync,
        pending_change: raft.pending_change,
        catch_up: facts.catch_up,
        disk: disk(facts.lacks_room, facts.low_room, raft.disk_wait),
        refuses_events: facts.refuses_events,
        protocol: Some(version::PROTOCOL),
        format: Some(version::FORMAT),
        active_format: Some(facts.active_format),
        last_term: facts.last_term,
    }
}

/// Returns what is wrong with the disk, which has made no progress for this number of ticks.
fn disk(lacks_room: bool, low_room: bool, wait: u64) -> Option<DiskProblem> {
    let waited = TICK * u32::try_from(wait).unwrap_or(u32::MAX);
    if lacks_room {
        return Some(DiskProblem::Full);
    }
    if low_room {
        return Some(DiskProblem::AlmostFull);
    }
    (waited >= MIN_REPORTED_STALL).then_some(DiskProblem::Stalled { seconds: waited.as_secs() })
}

fn raft_role(role: consensus::Role) -> RaftRole {
    match role {
        consensus::Role::Follower => RaftRole::Follower,
        consensus::Role::PreCandidate | consensus::Role::Candidate => RaftRole::Candidate,
        consensus::Role::Leader => RaftRole::Leader,
    }
}

fn peer_status(node: &Node, raft: &consensus::Status, stats: Option<&PeerStats>) -> PeerStatus {
    let connected = stats.is_some_and(|stats| stats.inbound && stats.outbound);
    let progress = raft.peers.iter().find(|peer| peer.id == node.id);
    let role = if raft.leader == Some(node.id) { RaftRole::Leader } else { RaftRole::Follower };
    PeerStatus {
        id: node.id,
        state: connected.then_some(role),
        match_index: progress.map(|peer| peer.matched),
        host: node.host.clone(),
        cluster_port: node.cluster_port,
        client_port: node.client_port,
        http_port: node.http_port,
        advertised_host: node.advertised_host.clone(),
        membership: membership(node.id, raft),
        connected,
        last_contact_ms: stats
            .and_then(|stats| stats.last_contact)
            .map(|past| u64::try_from(past.as_millis()).unwrap_or(u64::MAX)),
        lag: progress.map(|peer| raft.last_index.saturating_sub(peer.matched)),
    }
}

fn membership(id: NodeId, raft: &consensus::Status) -> Membership {
    if raft.voters.contains(&id) {
        Membership::Voter
    } else if raft.learners.contains(&id) {
        Membership::Learner
    } else {
        Membership::None
    }
}
