//! Messages of the admin API (default port 8080), JSON on the wire.

#[doc(hidden)]
pub mod example;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeId};
use crate::spec;
use crate::version::Range;

/// `GET /cluster/status`: what one node knows. A follower answers too, and names the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Who answers.
    pub node_id: NodeId,
    /// Its Raft role; `null` while it takes no part in Raft: it waits to bootstrap the cluster or to be added to it.
    pub state: Option<RaftRole>,
    /// Its Raft term.
    pub term: u64,
    /// Highest log index it knows to be committed.
    pub commit_index: u64,
    /// Every other member.
    pub peers: Vec<PeerStatus>,
    /// Name from cluster.yaml.
    pub cluster_name: String,
    /// Identity of the cluster; absent until the first leader's first entry is applied here.
    pub cluster_id: Option<ClusterId>,
    /// The leader, when one is known.
    pub leader: Option<NodeId>,
    /// Voter, learner, or not a member yet.
    pub membership: Membership,
    /// Highest log index applied here.
    pub applied_index: u64,
    /// Highest log index present here.
    pub last_index: u64,
    /// Version of the running binary.
    pub version: String,
    /// Hash of the configuration the node was started with: hex SHA-256 of the canonical JSON of its file.
    pub config_hash: String,
    /// The same of what only its own file tells it: all but the other nodes, which `peers` shows as they are now.
    #[serde(default)]
    pub settings_hash: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// False when `wal_sync: false`: acknowledged then means written, not fsynced, on a majority.
    pub wal_sync: bool,
    /// A membership change is in flight.
    pub pending_change: bool,
    /// It gets the log from another node just now, file by file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// What is wrong with the node's disk; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskProblem>,
    /// The node leads, and takes no events: too many disks are almost full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_events: bool,
    /// Peer protocol versions that the running binary speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Range>,
    /// On-disk format versions that the running binary reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Range>,
    /// The on-disk format that the cluster's data is written in: every node must read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_format: Option<u16>,
    /// Term of the entry at `last_index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_term: Option<u64>,
}

/// How far a node has come that gets the log from another one, file by file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Bytes that are here.
    pub received: u64,
    /// Bytes in all.
    pub total: u64,
}

/// One other member, as the answering node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its id.
    pub id: NodeId,
    /// Its Raft role, as far as the answering node can tell; `null` when it is not `connected`.
    pub state: Option<RaftRole>,
    /// Highest log index known to be replicated there; only the leader knows it.
    pub match_index: Option<u64>,
    /// Where it is.
    pub host: String,
    /// Its peer port.
    pub cluster_port: u16,
    /// Its Kafka port.
    pub client_port: u16,
    /// Its admin port.
    pub http_port: u16,
    /// What Kafka clients are told instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// Voter or learner.
    pub membership: Membership,
    /// Both directions of the peer connection are up.
    pub connected: bool,
    /// Milliseconds since the last message from it.
    pub last_contact_ms: Option<u64>,
    /// Entries behind the answering leader's last index.
    pub lag: Option<u64>,
}

/// A node's role in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaftRole {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A node's part in the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// Counts for the quorum.
    Voter,
    /// Receives the log and does not vote.
    Learner,
    /// Is not a member.
    None,
}

/// What is wrong with a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum DiskProblem {
    /// There is no room for the next segment of the log.
    Full,
    /// There will soon be no room. The leader takes no events while most disks are like this.
    AlmostFull,
    /// A write has not finished yet.
    Stalled {
        /// For how long, in seconds.
        seconds: u64,
    },
}

impl DiskProblem {
    /// Returns whether the node cannot write to its log.
    pub fn blocks_writes(self) -> bool {
        self != Self::AlmostFull
    }

    /// Returns the problem and what an operator can do about it, for people.
    pub fn describe(self) -> String {
        self.advice().map_or_else(|| self.to_string(), |advice| format!("{self}: {advice}"))
    }

    /// Returns what an operator can do about it; `None` where only the node's log and its disk can tell.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::Full => Some(
                "there is no room for the next segment of the log. Free space or enlarge the disk: the node continues as \
                 soon as there is room",
            ),
            Self::AlmostFull => Some(
                "while most disks are like this the cluster takes no events. Delete topics, shorten retention, free space \
                 or enlarge the disk: the node continues as soon as there is room",
            ),
            Self::Stalled { .. } => None,
        }
    }
}

impl fmt::Display for DiskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::AlmostFull => f.write_str("almost full"),
            Self::Stalled { seconds } => write!(f, "a write has not finished for {seconds} s"),
        }
    }
}

/// `POST /cluster/leader/transfer`: hand leadership over, to `to` or to the most caught-up voter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// The wanted leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeId>,
}

/// Who leads after a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferResponse {
    /// The leader now.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
}

/// `POST /cluster/format`: raise the on-disk format that the cluster's data is written in. From then on there is no way
/// back to a program that does not read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRequest {
    /// The wanted format; the newest that every member reads when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
}

/// The on-disk format that data is written in from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatResponse {
    /// Its version.
    pub active_format: u16,
}

/// `POST /cluster/members`: take a node in. It is a learner at first, and votes as soon as it keeps up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// Its id.
    pub id: NodeId,
    /// Name or address that the other members reach it by.
    pub host: String,
    /// Its peer port.
    pub port: u16,
    /// Its Kafka port.
    #[serde(default = "spec::default_client_port")]
    pub client_port: u16,
    /// Its admin port.
    #[serde(default = "spec::default_http_port")]
    pub http_port: u16,
    /// What Kafka clients are told instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// It stays a learner until it is promoted by hand.
    #[serde(default)]
    pub learner: bool,
}

/// What a change of the members has led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberResponse {
    /// The node that was asked for.
    pub id: NodeId,
    /// What it is now.
    pub membership: Membership,
    /// The members that vote.
    pub voters: Vec<NodeId>,
    /// The members that do not.
    pub learners: Vec<NodeId>,
}

/// `GET /health/live` and `GET /health/ready`; status 200 when `ok`, else 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub ok: bool,
    /// Why not, or what is unusual.
    pub reasons: Vec<String>,
}

/// Every error of the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For machines, e.g. `not_leader`.
    pub code: String,
    /// For people: what happened.
    pub message: String,
    /// What to do next.
    pub hint: String,
}
