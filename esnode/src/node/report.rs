//! The admin API's view of the node, put together from what its parts know.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::api::{CatchUp, ClusterStatus, NodeState, PeerStatus, Role};
use shared::ids::{ClusterId, NodeId};
use shared::spec::{ClusterFile, Node};

use crate::consensus::{self, TICK};
use crate::net::peer::PeerStats;
use crate::process::version;

/// A disk that needs longer than this for a write is worth a word.
const SLOW: Duration = Duration::from_secs(1);

/// What the status is made of.
pub struct Facts<'a> {
    /// Who reports.
    pub node_id: NodeId,
    /// The configuration it runs with.
    pub file: &'a ClusterFile,
    /// The members, and where they are.
    pub roster: &'a [Node],
    /// The cluster, once founded.
    pub cluster_id: Option<ClusterId>,
    /// Hash of that configuration.
    pub config_hash: &'a str,
    /// Hash of it without the other nodes.
    pub settings_hash: &'a str,
    /// RFC 3339.
    pub started_at: &'a str,
    /// Consensus; `None` while the node waits to found or join a cluster.
    pub raft: Option<&'a consensus::Status>,
    /// Term of the log's last entry.
    pub last_term: Option<u64>,
    /// The format that the cluster's data is written in.
    pub active_format: u16,
    /// How far it has come with the files that it gets from another node.
    pub catch_up: Option<CatchUp>,
    /// There is no room on the disk for more log.
    pub lacks_room: bool,
    /// There soon will be none.
    pub low_room: bool,
    /// As leader it takes no events for that.
    pub refuses_events: bool,
    /// The connections to the other nodes.
    pub peers: &'a BTreeMap<NodeId, PeerStats>,
}

/// `GET /cluster/status`.
pub fn cluster_status(facts: &Facts<'_>) -> ClusterStatus {
    let idle = consensus::Status::default();
    let raft = facts.raft.unwrap_or(&idle);
    let others = facts.roster.iter().filter(|node| node.id != facts.node_id);
    ClusterStatus {
        node_id: facts.node_id,
        state: own_state(facts.raft),
        term: raft.term,
        commit_index: raft.commit,
        peers: others.map(|node| peer_status(node, raft, facts.peers.get(&node.id))).collect(),
        cluster_name: facts.file.cluster.name.clone(),
        cluster_id: facts.cluster_id,
        leader: raft.leader,
        role: member_role(facts.node_id, raft),
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

/// What is wrong with the disk, which has not got on with its work for so many ticks.
fn disk(lacks_room: bool, low_room: bool, wait: u64) -> Option<String> {
    let waited = TICK * u32::try_from(wait).unwrap_or(u32::MAX);
    if lacks_room {
        let what = "full: there is no room for the next segment of the log. Free space or enlarge the disk: the node \
             goes on as soon as there is room";
        return Some(what.to_owned());
    }
    if low_room {
        let what = "almost full: with most disks like this the cluster takes no more events. Delete topics, shorten \
             retention, free space or enlarge the disk: the node goes on as soon as there is room";
        return Some(what.to_owned());
    }
    (waited >= SLOW).then(|| format!("it has not finished a write for {:.0} s", waited.as_secs_f64()))
}

fn own_state(raft: Option<&consensus::Status>) -> NodeState {
    match raft.map(|raft| raft.role) {
        None => NodeState::Joining,
        Some(consensus::Role::Follower) => NodeState::Follower,
        Some(consensus::Role::PreCandidate | consensus::Role::Candidate) => NodeState::Candidate,
        Some(consensus::Role::Leader) => NodeState::Leader,
    }
}

fn peer_status(node: &Node, raft: &consensus::Status, stats: Option<&PeerStats>) -> PeerStatus {
    let connected = stats.is_some_and(|stats| stats.inbound && stats.outbound);
    let progress = raft.peers.iter().find(|peer| peer.id == node.id);
    let state = match (connected, raft.leader == Some(node.id)) {
        (false, _) => NodeState::Unreachable,
        (true, true) => NodeState::Leader,
        (true, false) => NodeState::Follower,
    };
    PeerStatus {
        id: node.id,
        state,
        match_index: progress.map(|peer| peer.matched),
        host: node.host.clone(),
        cluster_port: node.cluster_port,
        client_port: node.client_port,
        http_port: node.http_port,
        advertised_host: node.advertised_host.clone(),
        role: member_role(node.id, raft),
        connected,
        last_contact_ms: stats
            .and_then(|stats| stats.last_contact)
            .map(|past| u64::try_from(past.as_millis()).unwrap_or(u64::MAX)),
        lag: progress.map(|peer| raft.last_index.saturating_sub(peer.matched)),
    }
}

fn member_role(id: NodeId, raft: &consensus::Status) -> Role {
    if raft.voters.contains(&id) {
        Role::Voter
    } else if raft.learners.contains(&id) {
        Role::Learner
    } else {
        Role::None
    }
}
