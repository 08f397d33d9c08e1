//! What reaches a replica: time, the other nodes, the disk and those who ask for something.

use bytes::Bytes;
use shared::ids::NodeId;

use super::Environment;
use super::hello::Hello;
use crate::consensus::{LogRead, Message};
use crate::entry::Entry;
use crate::state_machine::TopicId;
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::members::Change;

/// One input of a replica.
pub enum Input<E: Environment> {
    /// One tick of time passed.
    Tick,
    /// Another node said who it is.
    Hello(Hello),
    /// Another node sent Raft messages.
    Messages(NodeId, Vec<Message>),
    /// The connection to another node is up.
    Connected(NodeId),
    /// The connection to another node is gone.
    Disconnected(NodeId),
    /// Another node refuses this one, which was removed from the cluster.
    RefusedAsRemoved(NodeId),
    /// Another node refuses this one, whose cluster went on without it after a loss of quorum.
    RefusedAsAbandoned(NodeId),
    /// All writes up to this number are durable.
    Persisted(u64),
    /// The data directory says that it is written in this on-disk format.
    FormatAdopted(u16),
    /// The entries that [`super::Effect::ReadLog`] asked for; none if they are gone.
    LogRead(LogRead, Vec<Entry>),
    /// The snapshot of [`super::Effect::WriteSnapshot`] is written, or, if false, there was no room for it.
    SnapshotWritten(bool),
    /// What [`super::Effect::FetchSnapshot`] asked for; `None` if it failed.
    SnapshotFetched(Option<E::Fetched>),
    /// A snapshot is wanted as soon as there is anything new.
    RequestSnapshot,
    /// Somebody asks for something, and waits for the response.
    Request(Request, E::Waiter),
    /// Hand leadership over if leading, then end.
    Stop,
}

/// What may be asked of a replica.
#[derive(Clone, Debug)]
pub enum Request {
    /// Replicate commands.
    Propose(Proposal),
    /// Prove that this node leads, and wait until all that is committed now is applied (read index, Raft thesis 6.4).
    ReadBarrier,
    /// What consensus knows.
    Status,
    /// Hand leadership over: to this voter, or to the most caught-up one.
    TransferLeader(Option<NodeId>),
    /// Change the members.
    ChangeMembers(Change),
    /// Tell to which on-disk format the cluster may be raised: this one, or the newest that all members read.
    RaisableFormat(Option<u16>),
}

/// Commands to be replicated.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The commands, encoded.
    pub payload: Bytes,
    /// How many there are.
    pub commands: usize,
    /// How much there is to do to apply them: [`Command::work`] of all.
    pub work: usize,
    /// Set if the only command appends a batch of an idempotent producer.
    pub claim: Option<Claim>,
}

/// What an idempotent producer says of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The topic that the batch is for.
    pub topic: TopicId,
    /// The partition.
    pub partition: u32,
    /// The batch's header.
    pub header: BatchHeader,
}

impl Claim {
    /// Which producer of which partition.
    pub(super) fn key(&self) -> (TopicId, u32, i64) {
        (self.topic, self.partition, self.header.producer_id)
    }

    /// Whether both are the same batch of the same producer and partition.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        let sequence =
            |header: &BatchHeader| (header.producer_epoch, header.base_sequence, header.last_offset_delta);
        sequence(&self.header) == sequence(&other.header)
    }
}
