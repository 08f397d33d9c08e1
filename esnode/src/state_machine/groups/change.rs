//! What may happen to a group, and what comes of it.

use bytes::Bytes;

use super::consumer::{ConsumerChange, HeartbeatReply};
use super::offsets::CommittedOffset;
use super::protocol::Protocol;
use crate::state_machine::TopicId;

/// A member that joins, or joins again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Its id; drawn by the coordinator if `is_new`.
    pub member: String,
    /// Whether the coordinator has just given it the id. Else a member of that id must be known.
    pub is_new: bool,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Time without a sign of it after which it is removed, in ms.
    pub session_timeout: i32,
    /// How long a rebalance waits for it, in ms.
    pub rebalance_timeout: i32,
    /// The kind of group: `consumer`, `connect`.
    pub protocol_type: String,
    /// The assignors that it can do, best first, each with what it says of itself.
    pub protocols: Vec<Protocol>,
}

/// A member that leaves by itself, or is made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Its id; empty for a static member that is named by its instance alone.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
}

/// Offsets to commit, and on whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Member id; empty for whoever commits without being a member.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// The member's generation; negative for whoever is no member.
    pub generation: i32,
    /// What to commit.
    pub offsets: Vec<(TopicId, u32, CommittedOffset)>,
}

/// One change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// A member joins, or joins again.
    Join(Joining),
    /// The rebalance of this generation has waited long enough: whoever has not joined is removed.
    CompleteJoin {
        /// The generation before the rebalance.
        generation: i32,
    },
    /// The group's leader has assigned what there is.
    Assign {
        /// The leader.
        member: String,
        /// Its generation.
        generation: i32,
        /// Per member, what it gets.
        assignments: Vec<(String, Bytes)>,
    },
    /// Members leave.
    Leave(Vec<Leaving>),
    /// Offsets are committed.
    Commit(OffsetCommit),
    /// The group is deleted, if it has no members.
    Delete,
    /// Committed offsets are deleted.
    DeleteOffsets(Vec<(TopicId, u32)>),
    /// What was committed up to `committed`, a time of the log in ms since 1970, is forgotten if the group has been
    /// without members since then.
    Expire {
        /// That time.
        committed: i64,
    },
    /// Something happens to a group of the consumer protocol.
    Consumer(ConsumerChange),
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupReply {
    /// It was done.
    Done,
    /// The member has joined: the rebalance is over once the group is past this generation.
    Joined {
        /// The generation to wait for the end of.
        after: i32,
    },
    /// The member has joined without a rebalance: it goes on in the generation that there is.
    Unchanged,
    /// The member of the classic protocol has joined a group of the consumer protocol, and is in this epoch.
    Admitted {
        /// To its client, its generation.
        epoch: i32,
    },
    /// For each of those that leave, why it could not.
    Left(Vec<Option<GroupError>>),
    /// What a member of the consumer protocol hears on its heartbeat.
    Heartbeat(HeartbeatReply),
}

/// Why a group is as it was. Kafka has an error of each of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// `UNKNOWN_MEMBER_ID`.
    #[error("the group has no such member")]
    UnknownMember,
    /// `ILLEGAL_GENERATION`.
    #[error("the group is in another generation")]
    IllegalGeneration,
    /// `FENCED_INSTANCE_ID`.
    #[error("another member has taken the place of this static member")]
    FencedInstance,
    /// `INCONSISTENT_GROUP_PROTOCOL`.
    #[error("the group's members have no protocol in common with this one")]
    InconsistentProtocol,
    /// `FENCED_MEMBER_EPOCH`.
    #[error("the member is in another epoch: it has to join again")]
    FencedEpoch,
    /// `STALE_MEMBER_EPOCH`.
    #[error("the member has not heard of its epoch yet, or has joined again since")]
    StaleEpoch,
    /// `UNRELEASED_INSTANCE_ID`.
    #[error("the static member of this instance has not left")]
    UnreleasedInstance,
    /// `REBALANCE_IN_PROGRESS`.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// `NON_EMPTY_GROUP`.
    #[error("the group has members")]
    NonEmpty,
    /// `GROUP_ID_NOT_FOUND`.
    #[error("no such group")]
    NotFound,
    /// `GROUP_MAX_SIZE_REACHED`.
    #[error("all groups together are as large as the cluster can hold")]
    NoRoom,
}

impl GroupChange {
    /// Whether it may begin a group.
    pub(super) fn creates(&self) -> bool {
        match self {
            Self::Join(joining) => joining.is_new,
            Self::Commit(commit) => commit.generation < 0 && commit.member.is_empty(),
            Self::Consumer(ConsumerChange::Heartbeat(heartbeat)) => heartbeat.joins(),
            _ => false,
        }
    }

    /// What it comes to where there is no such group.
    pub(super) fn without_group(&self) -> GroupError {
        match self {
            Self::Commit(_) => GroupError::IllegalGeneration,
            Self::Join(_) | Self::Assign { .. } | Self::Leave(_) | Self::Consumer(_) => {
                GroupError::UnknownMember
            }
            _ => GroupError::NotFound,
        }
    }

    /// Whether the groups may take more room with it.
    pub fn grows(&self) -> bool {
        match self {
            Self::Join(_) | Self::Assign { .. } | Self::Commit(_) => true,
            Self::Consumer(ConsumerChange::Heartbeat(heartbeat)) => heartbeat.subscribes(),
            Self::Consumer(ConsumerChange::Match(_)) => true,
            _ => false,
        }
    }

    /// Bytes that it adds at most, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Join(joining) => {
                joining.client_id.len() + joining.protocols.iter().map(Protocol::bytes).sum::<usize>()
            }
            Self::Assign { assignments, .. } => assignments.iter().map(|(_, assigned)| assigned.len()).sum(),
            Self::Commit(commit) => commit.offsets.iter().map(|(.., offset)| offset.bytes()).sum(),
            Self::Consumer(change) => change.bytes(),
            _ => 0,
        }
    }
}
