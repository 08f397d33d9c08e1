//! What nodes send each other, and who the members are.

use bytes::Bytes;
use shared::ids::NodeId;

use crate::entry::Entry;

/// What a message asks or answers: Raft's own names, and the numbers that stand for them on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// `AppendEntries`.
    Append = 1,
    /// Up to where the log matches, or that it does not.
    AppendResponse = 2,
    /// An empty `AppendEntries`: the leader is there.
    #[default]
    Heartbeat = 3,
    /// The follower is there.
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
    /// The entry before `entries`; the sender's last entry in votes; the last that matches in responses.
    pub index: u64,
    /// The sender's commit index.
    pub commit: u64,
    /// Term of the entry at `commit`, in votes.
    pub commit_term: u64,
    /// A response that says no.
    pub reject: bool,
    /// Where a follower that rejects an append may match.
    pub reject_hint: u64,
    /// Read barriers, and why a candidate campaigns.
    pub context: Bytes,
    /// Entries to append.
    pub entries: Vec<Entry>,
    /// The snapshot that [`MessageType::Snapshot`] names.
    pub snapshot: Option<SnapshotMetadata>,
}

/// Which snapshot. Its content travels on a connection of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The last entry that it stands for.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The members as of that entry.
    pub conf_state: ConfState,
}

/// Voters and learners, as Raft counts them. The last three fields belong to joint consensus, which no node here enters;
/// they are kept so that a snapshot that has them is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Members that vote.
    pub voters: Vec<NodeId>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<NodeId>,
    /// Voters of the configuration that a joint one leaves.
    pub voters_outgoing: Vec<NodeId>,
    /// Learners once a joint configuration has been left.
    pub learners_next: Vec<NodeId>,
    /// A joint configuration leaves itself.
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
    /// What Raft does not look at.
    pub context: Bytes,
}
