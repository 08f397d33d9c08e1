//! What reaches the raft thread.

use std::io;

use bytes::Bytes;
use shared::ids::NodeId;
use tokio::sync::oneshot;

use super::catch_up::Pulled;
use super::formats::FormatReply;
use super::membership::ChangeReply;
use crate::consensus::{Fetch, Status};
use crate::entry::Entry;
use crate::net::peer::PeerEvent;
use crate::node::handle::{Budget, ProposeError, TransferError};
use crate::state_machine::TopicId;
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::command::Reply;
use crate::state_machine::members::Change;

/// Where a proposal's outcome goes.
pub type ReplyTo = oneshot::Sender<Result<Vec<Reply>, ProposeError>>;

/// What an idempotent producer says of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The topic that the batch is for.
    pub topic: TopicId,
    /// The partition.
    pub partition: u32,
    /// What the batch says of itself.
    pub header: BatchHeader,
}

impl Claim {
    /// Which producer of which partition.
    pub(super) fn key(&self) -> (TopicId, u32, i64) {
        (self.topic, self.partition, self.header.producer_id)
    }

    /// Whether both are of the same batch, of the same producer and partition.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        let sequence =
            |header: &BatchHeader| (header.producer_epoch, header.base_sequence, header.last_offset_delta);
        sequence(&self.header) == sequence(&other.header)
    }
}

/// Commands to be replicated.
#[derive(Debug)]
pub struct Proposal {
    /// The commands, encoded.
    pub payload: Bytes,
    /// How many there are.
    pub commands: usize,
    /// That the only one appends a batch of an idempotent producer.
    pub claim: Option<Claim>,
    /// Gets one reply per command.
    pub reply: ReplyTo,
    /// Its share of what may be in flight.
    pub budget: Budget,
}

/// One input of the raft thread.
#[derive(Debug)]
pub enum Input {
    /// From a client.
    Propose(Proposal),
    /// From another node.
    Peer(PeerEvent),
    /// From the disk: everything up to this number is durable.
    Persisted(u64),
    /// From the disk: it can no longer be trusted.
    DiskFailed(io::Error),
    /// From the checkpoint thread: it can take another one; whether it could write the last.
    Checkpointed(bool),
    /// From the thread that gets files from another node: it is done.
    Pulled(io::Result<Pulled>),
    /// From the reader: old entries for a lagging follower.
    Fetched(Fetch, Vec<Entry>),
    /// Write a checkpoint soon, if there is anything new.
    Checkpoint,
    /// Prove leadership and wait until all that is committed now is applied.
    ReadBarrier(oneshot::Sender<Result<(), ProposeError>>),
    /// What consensus knows; `None` while joining.
    Status(oneshot::Sender<Option<Status>>),
    /// Hand leadership over.
    Transfer {
        /// To whom; to the most caught-up voter when absent.
        to: Option<NodeId>,
        /// The new leader and its term.
        reply: oneshot::Sender<Result<(NodeId, u64), TransferError>>,
    },
    /// To which on-disk format the cluster may be raised: this one, or the newest that all members read.
    RaisableFormat(Option<u16>, FormatReply),
    /// Change the members.
    Change(Change, ChangeReply),
    /// Hand leadership over if leading, make everything durable, and end.
    Stop,
}
