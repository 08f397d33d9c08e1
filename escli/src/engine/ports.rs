//! The engine's ports, as traits: the hosts, the cluster's admin API, and the cluster.yaml on the operator's machine.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use shared::api::ClusterStatus;
use shared::ids::NodeId;
use shared::spec::Node;

use crate::plan::Action;
use crate::plan::facts::{AdminRoute, HostFacts, Process, Reachability};

/// Something that a port could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// What kind of failure it is.
    pub kind: PortErrorKind,
    /// What happened and where; one line.
    pub message: String,
    /// Evidence, line by line.
    pub details: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
}

/// What kind of failure a port met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    /// Nobody answers there.
    Unreachable,
    /// It was tried and failed.
    Failed,
    /// Whoever was asked refuses; nothing was changed.
    Refused,
    /// Another operation holds the lock.
    Locked,
}

impl PortError {
    /// Returns an error of this kind without evidence or hints.
    pub fn new(kind: PortErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new(), hints: Vec::new() }
    }

    /// Returns the error for something that does not answer.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(PortErrorKind::Unreachable, message)
    }

    /// Returns the error for something that was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(PortErrorKind::Failed, message)
    }

    /// Returns the error for something that was refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(PortErrorKind::Refused, message)
    }

    /// Adds one line of evidence.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds one thing to do next.
    #[must_use]
    pub fn hint(mut self, line: impl Into<String>) -> Self {
        self.hints.push(line.into());
        self
    }
}

/// Why a host is no longer reserved for the operation: somebody else may be at work there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease of node {node}'s host is lost; no further step was started")]
pub struct LeaseLost {
    /// The node whose host it is.
    pub node: NodeId,
    /// How it was lost.
    pub reason: String,
}

/// The machines that the nodes run on. There is one implementation per transport.
pub trait Hosts {
    /// Inspects a node's host: everything that a planner wants to know.
    fn inspect(&self, node: NodeId) -> impl Future<Output = Result<HostFacts, PortError>>;
    /// Returns the state of the node's process: the cheap part of [`Hosts::inspect`], for polling.
    fn process(&self, node: NodeId) -> impl Future<Output = Result<Process, PortError>>;
    /// Returns whether the host already is as `action`, one about files, users or releases, would make it.
    fn has(&self, node: NodeId, action: &Action) -> impl Future<Output = Result<bool, PortError>>;
    /// Returns whether the node's host reaches the other nodes' `cluster_port`; empty where all nodes share a machine.
    fn peer_reachability(
        &self,
        node: NodeId,
    ) -> impl Future<Output = Result<BTreeMap<NodeId, Reachability>, PortError>>;
    /// Performs an action that installs something: user, program, release, unit, backup.
    fn install(&self, node: NodeId, action: &Action) -> impl Future<Output = Result<(), PortError>>;
    /// Creates the node's directories; an existing one is left as it is.
    fn ensure_dirs(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Writes the node's cluster.yaml, atomically.
    fn write_config(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Starts `binary` as the node's process, detached; returns its process id.
    fn start(&self, node: NodeId, binary: &Path) -> impl Future<Output = Result<u32, PortError>>;
    /// Asks the node's process to end and waits until it has, for `within` at most; `force` kills it then.
    fn stop(
        &self,
        node: NodeId,
        force: bool,
        within: Duration,
    ) -> impl Future<Output = Result<(), PortError>>;
    /// Deletes the node's directory with all its data.
    fn wipe(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Returns the node's cluster.yaml as it is on its host; `None` when there is none.
    fn read_config(&self, node: NodeId) -> impl Future<Output = Result<Option<String>, PortError>>;
    /// Returns the last lines of the node's log.
    fn log_tail(&self, node: NodeId, lines: usize) -> impl Future<Output = Result<Vec<String>, PortError>>;
}

/// The cluster's own cluster.yaml, on the operator's machine.
pub trait ClusterFileStore {
    /// Returns whether the file at `path` already says what it should.
    fn is_current(&self, path: &Path) -> bool;
    /// Writes the file at `path`, atomically.
    ///
    /// # Errors
    /// When somebody else has changed it meanwhile, or it cannot be written.
    fn write(&self, path: &Path) -> Result<(), PortError>;
    /// Deletes the file at `path`, if escli wrote it.
    ///
    /// # Errors
    /// When it is the operator's own, or cannot be deleted.
    fn remove(&self, path: &Path) -> Result<(), PortError>;
}

/// The cluster, through its admin API.
pub trait Cluster {
    /// Returns what one node reports.
    fn status(&self, node: NodeId) -> impl Future<Output = Result<ClusterStatus, PortError>>;
    /// Returns how the node's admin port is reached from here, whether the node runs or not.
    fn route(&self, node: NodeId) -> impl Future<Output = AdminRoute>;
    /// Asks for leadership to be transferred to `node`; the nodes find the leader themselves.
    fn transfer(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for `member` to be added. Idempotent.
    fn add(&self, member: &Node, stays_learner: bool) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the on-disk format to be raised, to `wanted` or as far as every node reads it. Idempotent.
    fn raise_format(&self, wanted: Option<u16>) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the node to be removed from the cluster.
    fn remove(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
}
