//! What a replica answers to requests, and why it refuses them.

use shared::ids::NodeId;
use shared::spec::MAX_NODES;

use crate::consensus::{NoQuorum, Status};
use crate::state_machine::command::Reply;

/// The response to a [`super::Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// One reply per command.
    Proposed(Result<Vec<Reply>, ProposeError>),
    /// The read barrier holds.
    ReadBarrier(Result<(), ProposeError>),
    /// What consensus knows; `None` while the node waits for a cluster.
    Status(Option<Status>),
    /// The new leader and its term.
    LeaderTransferred(Result<(NodeId, u64), TransferError>),
    /// The members are changed.
    MembersChanged(Result<(), ChangeError>),
    /// The format to raise the cluster to.
    RaisableFormat(Result<u16, FormatError>),
}

/// Everybody who gets a response, in order.
pub(super) type Responses<W> = Vec<(W, Response)>;

/// Why a proposal has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The proposal never entered the log here; the named node may take it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// The proposal entered the log, but this node lost leadership before it was committed: it may or may not happen.
    #[error("the outcome is unknown: leadership was lost")]
    Unknown,
    /// Too much is in flight; try again.
    #[error("too many proposals in flight")]
    Busy,
    /// Too many disks are almost full; try again once there is room.
    #[error("the disks are almost full")]
    NoRoom,
    /// The payload exceeds one entry.
    #[error("larger than one log entry")]
    TooLarge,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can; the named node may be it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// The target is not a voter, or does not respond.
    #[error("node {0} cannot take over: {1}")]
    BadTarget(NodeId, String),
    /// It did not happen in time; this node still leads.
    #[error("the transfer did not finish in time")]
    TimedOut,
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can; the named node may be it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// This node leads, and knows in a moment what was committed before.
    #[error("the leader has just been elected")]
    JustElected,
    /// The leader does not remove itself: it hands over first.
    #[error("this node leads; it has to hand over before it can be removed")]
    Leads,
    /// Another change is not applied yet.
    #[error("another membership change is in flight")]
    InFlight,
    /// What remains could commit nothing.
    #[error(transparent)]
    NoQuorum(#[from] NoQuorum),
    /// The only voter cannot go.
    #[error("node {0} is the only voter")]
    LastVoter(NodeId),
    /// The id is that of a member elsewhere.
    #[error("node {0} is a member already, at {1}")]
    IdTaken(NodeId, String),
    /// Another member has the address.
    #[error("node {0} has that address")]
    AddressTaken(NodeId),
    /// There are as many members as there may be.
    #[error("the cluster has {MAX_NODES} members, the most there may be")]
    Full,
    /// No such member, now or earlier.
    #[error("node {0} is not a member")]
    NotAMember(NodeId),
    /// The learner cannot vote yet.
    #[error("node {0} is {1} entries behind, or does not respond")]
    Behind(NodeId, u64),
    /// The change may or may not happen.
    #[error("the outcome is unknown: leadership was lost")]
    Unknown,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Why the format cannot be raised now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Only the leader can; the named node may be it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// What it reads is not known.
    #[error("node {0} is not connected to the leader, so it is not known which on-disk formats it reads")]
    Away(NodeId),
    /// It reads older formats only.
    #[error("node {node} reads on-disk formats up to {max}")]
    TooOld {
        /// The member.
        node: NodeId,
        /// The newest format that it reads.
        max: u16,
    },
}
