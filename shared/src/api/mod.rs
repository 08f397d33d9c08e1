//! Messages of the admin API (default port 8080), as JSON.

#[doc(hidden)]
pub mod example;
mod groups;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::groups::{ConsumerGroup, ConsumerGroups};
use crate::ids::{ClusterId, NodeId};
use crate::spec;
use crate::version::Range;

/// `GET /cluster/status`: what one node knows of itself and of the cluster. Followers answer as well as leaders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Id of the node that answers. The fields below are about this node unless they say otherwise.
    pub node_id: NodeId,
    /// Its Raft role; `null` as long as it takes no part in Raft, because it waits for the cluster to bootstrap or to
    /// be added to it.
    pub state: Option<RaftRole>,
    /// Its current Raft term.
    pub term: u64,
    /// Highest log index that it knows to be committed.
    pub commit_index: u64,
    /// Every other member of the cluster.
    pub peers: Vec<PeerStatus>,
    /// The cluster's name in cluster.yaml.
    pub cluster_name: String,
    /// Identity of the cluster; `null` until the node has applied the first entry of the cluster's first leader.
    pub cluster_id: Option<ClusterId>,
    /// The leader of the current term; `null` if the node knows of none.
    pub leader: Option<NodeId>,
    /// Whether it is a voter, a learner, or no member.
    pub membership: Membership,
    /// Highest log index that it has applied.
    pub applied_index: u64,
    /// Highest index in its log.
    pub last_index: u64,
    /// Release version of the running program, e.g. `1.4.2`.
    pub version: String,
    /// Hash of the configuration it was started with: SHA-256 of the canonical JSON of its cluster.yaml, in hex.
    pub config_hash: String,
    /// As `config_hash`, but without the other nodes of the file: a running node learns of those from the log, and
    /// `peers` shows them.
    #[serde(default)]
    pub settings_hash: String,
    /// When its process was started, RFC 3339, UTC.
    pub started_at: String,
    /// False if it was started with `wal_sync: false`: an acknowledged event is then written on a majority, but not
    /// fsynced.
    pub wal_sync: bool,
    /// A change of the members has begun and is not yet complete.
    pub pending_change: bool,
    /// Progress of receiving the log as files from another node; absent when it receives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// What is wrong with its disk; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskProblem>,
    /// It leads, but refuses events because too many nodes' disks are almost full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_events: bool,
    /// Versions of the peer protocol that the running program speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Range>,
    /// Versions of the on-disk format that the running program reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Range>,
    /// The version of the on-disk format that the cluster writes; every member must read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_format: Option<u16>,
    /// Term of the entry at `last_index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_term: Option<u64>,
}

/// Progress of a node that receives the log as files from another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Bytes received.
    pub received: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// Another member, as the answering node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its id.
    pub id: NodeId,
    /// Its Raft role, as far as the answering node can tell; `null` if it is not `connected`.
    pub state: Option<RaftRole>,
    /// Highest log index known to be replicated to it; `null` unless the answering node leads.
    pub match_index: Option<u64>,
    /// The name or address by which the other members reach it.
    pub host: String,
    /// Port for its connections with the other nodes.
    pub cluster_port: u16,
    /// Port for Kafka clients.
    pub client_port: u16,
    /// Port of its admin API.
    pub http_port: u16,
    /// Host name that Kafka clients get instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// Whether it is a voter or a learner.
    pub membership: Membership,
    /// The connections between it and the answering node are up in both directions.
    pub connected: bool,
    /// Milliseconds since its last message; `null` if there was none.
    pub last_contact_ms: Option<u64>,
    /// Number of entries by which it is behind the leader's last index; `null` unless the answering node leads.
    pub lag: Option<u64>,
}

/// A node's role in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaftRole {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks the others for their votes.
    Candidate,
    /// It appends to the log and replicates it to the others.
    Leader,
}

/// A node's part in the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// It counts for the quorum.
    Voter,
    /// It receives the log, and does not vote.
    Learner,
    /// It is not a member.
    None,
}

/// What is wrong with a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum DiskProblem {
    /// There is no space for the next segment of the log, so the node cannot write.
    Full,
    /// There is little space left. While most disks are like this, the leader refuses events.
    AlmostFull,
    /// A write to the log has not returned yet.
    Stalled {
        /// Seconds since the write began.
        seconds: u64,
    },
}

impl DiskProblem {
    /// Returns whether the node cannot write to its log at the moment.
    pub fn blocks_writes(self) -> bool {
        self != Self::AlmostFull
    }

    /// Returns one line for operators: the problem, and what they can do about it.
    pub fn describe(self) -> String {
        self.advice().map_or_else(|| self.to_string(), |advice| format!("{self}: {advice}"))
    }

    /// Returns what an operator can do about the problem; `None` if that cannot be told without the node's log and its
    /// disk.
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

/// `POST /cluster/leader/transfer`: transfers leadership to the voter `to`, or to the one whose log is most complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Id of the voter that is to lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeId>,
}

/// The leader after a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferResponse {
    /// Id of the new leader.
    pub leader: NodeId,
    /// The term in which it leads.
    pub term: u64,
}

/// `POST /cluster/format`: raises the on-disk format that the cluster writes. Afterwards no node can return to a
/// program that does not read that format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRequest {
    /// Version of the wanted format; if it is absent, the newest that every member reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
}

/// The on-disk format after a request to raise it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatResponse {
    /// The version that the cluster writes from now on.
    pub active_format: u16,
}

/// `POST /cluster/members`: adds a node. It begins as a learner, and becomes a voter once it has caught up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// Id of the new node.
    pub id: NodeId,
    /// Name or address by which the other members reach it.
    pub host: String,
    /// Its port for connections with the other nodes.
    pub port: u16,
    /// Its port for Kafka clients.
    #[serde(default = "spec::default_client_port")]
    pub client_port: u16,
    /// Port of its admin API.
    #[serde(default = "spec::default_http_port")]
    pub http_port: u16,
    /// Host name that Kafka clients get instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// The node stays a learner until an operator promotes it.
    #[serde(default)]
    pub learner: bool,
}

/// The members after a node was added, promoted or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberResponse {
    /// Id of the node that was added, promoted or removed.
    pub id: NodeId,
    /// Its membership after the change.
    pub membership: Membership,
    /// Ids of all voters.
    pub voters: Vec<NodeId>,
    /// Ids of all learners.
    pub learners: Vec<NodeId>,
}

/// Response to `GET /health/live` and `GET /health/ready`; its status is 200 if `ok`, else 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The node is live, or ready for clients.
    pub ok: bool,
    /// Why it is not, or what is unusual although it is.
    pub reasons: Vec<String>,
}

/// Body of every error of the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Name of the error for programs, e.g. `not_leader`.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// What to do next, for people.
    pub hint: String,
}
