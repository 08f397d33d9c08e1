//! What the listeners know of the node: propose, read, ask. Cheap to clone; safe from any thread.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use shared::api::ClusterStatus;
use shared::ids::NodeId;
use shared::spec::ClusterFile;
use tokio::sync::{Notify, watch};

use crate::storage::Log;
use crate::stream::command::{Command, Reply};
use crate::stream::{Stream, TopicId};

/// The node, seen from a listener.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    node_id: NodeId,
    file: ClusterFile,
    log: Log,
    stream: Arc<RwLock<Stream>>,
    leadership: watch::Receiver<Leadership>,
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
}

/// Why a proposal has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Never entered the log here; the named node may take it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// Entered the log, but this node lost leadership before it was committed: it may or may not happen.
    #[error("the outcome is unknown: leadership was lost")]
    Unknown,
    /// Too much is in flight; try again.
    #[error("too many proposals in flight")]
    Busy,
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
    /// Only the leader can.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// The target is not a voter, or not connected.
    #[error("node {0} cannot take over: {1}")]
    BadTarget(NodeId, String),
    /// It did not happen in time; this node still leads.
    #[error("the transfer did not finish in time")]
    TimedOut,
}

impl Handle {
    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.inner.node_id
    }
    /// The configuration that the node was started with.
    pub fn file(&self) -> &ClusterFile {
        &self.inner.file
    }
    /// Durable entries, for readers.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }
    /// The state machine. Hold the guard briefly and never across an await: the raft thread waits for it.
    pub fn stream(&self) -> RwLockReadGuard<'_, Stream> {
        self.inner.stream.read()
    }
    /// Who leads, now and when it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }
    /// Proposes `commands` as one unit and waits until they are committed and applied here. Sending happens before
    /// the first await (call order = log order); dropping the future does not take the proposal back.
    pub fn propose(
        &self,
        _commands: &[Command],
    ) -> impl Future<Output = Result<Vec<Reply>, ProposeError>> + Send + 'static {
        async { unimplemented!() }
    }
    /// Returns once this node is proven to be the leader still, and has applied all that was committed when asked
    /// (Raft thesis 6.4, read index).
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        unimplemented!()
    }
    /// Signalled (`notify_waiters`) whenever the partition grows, is created or deleted.
    pub fn partition_changes(&self, _topic: TopicId, _partition: u32) -> Arc<Notify> {
        unimplemented!()
    }
    /// The admin API's status, fresh from the raft thread.
    pub async fn status(&self) -> ClusterStatus {
        unimplemented!()
    }
    /// Hands leadership to `to`, or to the most caught-up voter; resolves with the new leader and its term.
    pub async fn transfer(&self, _to: Option<NodeId>) -> Result<(NodeId, u64), TransferError> {
        unimplemented!()
    }
}
