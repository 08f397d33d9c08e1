//! The messages between nodes, and the types for members and their changes.

use bytes::Bytes;
use shared::ids::NodeId;

use crate::entry::Entry;

/// The type of a message: Raft's names, with their numbers on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// `AppendEntries`.
    Append = 1,
    /// The index up to which the logs match, or that they do not.
    AppendResponse = 2,
    /// An empty `AppendEntries`: tells followers that the leader is alive.
    #[default]
    Heartbeat = 3,
    /// Tells the leader that the follower is alive.
    HeartbeatResponse = 4,
    /// Asks for a vote.
    RequestVote = 5,
    /// Grants or denies a vote.
    RequestVoteResponse = 6,
    /// Asks whether a vote would be granted (Raft thesis 9.6).
    RequestPreVote = 7,
    /// Whether a vote would be granted.
    RequestPreVoteResponse = 8,
    /// Names a snapshot, because the entries that the follower lacks are gone.
    Snapshot = 9,
    /// Tells a voter to campaign at once, because leadership is transferred to it.
    TimeoutNow = 10,
}

impl MessageType {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Append,
        Self::AppendResponse,
        Self::Heartbeat,
        Self::HeartbeatResponse,
        Self::RequestVote,
        Self::RequestVoteResponse,
        Self::RequestPreVote,
        Self::RequestPreVoteResponse,
        Self::Snapshot,
        Self::TimeoutNow,
    ];

    /// The type with this number on the wire.
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A Raft message from one node to another. Fields that a type does not use are 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it asks or answers.
    pub kind: MessageType,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; of a pre-vote the term that it would campaign in.
    pub term: u64,
    /// Term of the entry at `index`.
    pub log_term: u64,
    /// In an append the entry before `entries`, in a vote request the sender's last entry, in a response the last entry
    /// that matches.
    pub index: u64,
    /// The sender's commit index.
    pub commit: u64,
    /// Term of the entry at `commit`, in votes.
    pub commit_term: u64,
    /// Whether a response is negative.
    pub reject: bool,
    /// In a rejected append, an index at which the follower's log may match.
    pub reject_hint: u64,
    /// Identifies a read barrier, or says why a candidate campaigns.
    pub context: Bytes,
    /// Entries to append.
    pub entries: Vec<Entry>,
    /// The snapshot that [`MessageType::Snapshot`] names.
    pub snapshot: Option<SnapshotMetadata>,
}

/// Identifies a snapshot. Its content is sent on another connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The last entry that it stands for.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The members as of that entry.
    pub conf_state: ConfState,
}

/// The voters and learners, as Raft counts them. The last three fields belong to joint consensus, which no node here
/// uses. They exist so that a snapshot which has them can be refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Members that vote.
    pub voters: Vec<NodeId>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<NodeId>,
    /// The voters before a joint configuration.
    pub voters_outgoing: Vec<NodeId>,
    /// The learners after a joint configuration.
    pub learners_next: Vec<NodeId>,
    /// Whether a joint configuration ends by itself.
    pub auto_leave: bool,
}

/// What happens to the node of a [`ConfChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeType {
    /// It becomes a voter.
    AddVoter,
    /// It becomes a learner, also if it was a voter.
    AddLearner,
    /// It is no member any more.
    Remove,
}

/// A change of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// What happens.
    pub kind: ConfChangeType,
    /// Which node.
    pub node: NodeId,
    /// Data for the caller, which Raft ignores.
    pub context: Bytes,
}
