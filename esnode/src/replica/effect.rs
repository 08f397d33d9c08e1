//! What a replica wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::Node;

use super::environment::{Environment, Staged};
use super::{Response, Snapshot, UnreadableFormat};
use crate::consensus::{Implausible, LogRead, Message, MessageType};
use crate::entry::{Entry, HardState};
use crate::state_machine::{Topic, TopicId};

/// One thing to do. Effects are performed in their order, each exactly once.
pub enum Effect<E: Environment> {
    /// Send these messages to this node; loss is tolerated.
    Send(NodeId, Vec<Message>),
    /// Hand this to the disk, which does it in the order in which it is handed over.
    Write(Write<Staged<E>>),
    /// Read these old entries, and answer with [`super::Input::LogRead`].
    ReadLog(LogRead),
    /// Give a response to whoever waits for it.
    Respond(E::Waiter, Response),
    /// Wake the readers of these partitions, which are in order.
    Wake(Vec<(TopicId, u32)>),
    /// Wake whoever waits for these consumer groups, which are in order: they changed.
    WakeGroups(Vec<String>),
    /// The leader changed, or what this node does as leader.
    Leadership(Leadership),
    /// The members changed, or where they are.
    Members(Members),
    /// The cluster's identity is known.
    Cluster(ClusterId),
    /// This node leads and begins, or ceases, to refuse events, because too many disks are almost full.
    RefuseEvents(bool),
    /// Write this snapshot, whose last entry has this term, and answer with [`super::Input::SnapshotWritten`].
    WriteSnapshot(u64, Box<Snapshot>),
    /// Fetch a snapshot, and the log before it, from this node for one that has applied everything up to this index;
    /// answer with [`super::Input::SnapshotFetched`].
    FetchSnapshot(NodeId, u64),
    /// Remove what an earlier, unfinished fetch has left.
    DiscardFetched,
    /// Free the memory of these topics, when there is time.
    Discard(Vec<Topic>),
    /// Delete whole segments of the log before this index.
    DeleteLog(u64),
    /// A message of this node and kind cannot be true, and was ignored.
    Implausible(NodeId, MessageType, Implausible),
    /// End; nothing follows.
    End(End),
}

/// One piece of work for the disk.
#[derive(Debug)]
pub struct Write<S> {
    /// The number to report in [`super::Input::Persisted`] when this is durable, if anybody waits for it.
    pub number: Option<u64>,
    /// What to do.
    pub content: WriteContent<S>,
}

/// What the disk is to do.
#[derive(Clone, Debug)]
pub enum WriteContent<S> {
    /// Write a new persistent state, then these entries, which replace what is at their indices and above.
    Append(Option<HardState>, Vec<Entry>),
    /// Put a fetched snapshot and its log behind this log, or in its place, together with a new persistent state.
    Install(S, Option<HardState>),
    /// Note that what follows may be written in this on-disk format, and answer with [`super::Input::FormatAdopted`].
    AdoptFormat(u16),
}

/// Who leads, as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; `None` during an election.
    pub leader: Option<NodeId>,
    /// This node's term.
    pub term: u64,
    /// This node leads and has applied everything committed before its term: it may serve clients.
    pub serving: bool,
    /// This node is handing over: it takes no more events, and clients had better wait for the next leader.
    pub handing_over: bool,
}

/// The members, and what of them matters to connections.
#[derive(Clone, Debug)]
pub struct Members {
    /// Every member whose address is known.
    pub roster: Arc<[Node]>,
    /// The data directory that each node is bound to.
    pub bindings: BTreeMap<NodeId, StoreId>,
    /// The data directories of removed nodes.
    pub retired: BTreeMap<StoreId, NodeId>,
}

/// Why a replica ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// The node was removed from the cluster.
    Removed,
    /// A write was handed to the disk, and the thread that writes does not know of it: a defect.
    LostWrite,
    /// The cluster has several members, and what this node reports as durable is not.
    NotSynced,
    /// The cluster knows this node by another data directory.
    WrongStore,
    /// The members write an on-disk format that this program does not read.
    UnreadableFormat(UnreadableFormat),
}
