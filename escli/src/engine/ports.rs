//! The traits through which the engine acts: on the hosts, on the cluster's admin API, and on the cluster.yaml of the
//! operator's machine.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use shared::api::ClusterStatus;
use shared::ids::NodeId;
use shared::spec::Node;

use crate::operator_error::OperatorError;
use crate::plan::Action;
use crate::plan::facts::{AdminRoute, HostFacts, Process, Reachability};

/// Why a port failed, as the operator reads it.
pub type PortError = OperatorError<PortErrorKind>;

/// How a port failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    /// The host or node does not answer.
    Unreachable,
    /// An attempt failed.
    Failed,
    /// The host or node refused; nothing was changed.
    Refused,
    /// Another operation holds the lock.
    Locked,
}

impl PortError {
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
}

/// A lease that was lost during an operation. Another operator may be working on the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease of node {node}'s host is lost; no further step was started")]
pub struct LeaseLost {
    /// The node on that host.
    pub node: NodeId,
    /// How it was lost.
    pub reason: String,
}

/// The hosts of the nodes. There is one implementation for local nodes and one for SSH.
pub trait Hosts {
    /// Inspects a node's host, and returns everything that planners need.
    fn inspect(&self, node: NodeId) -> impl Future<Output = Result<HostFacts, PortError>>;
    /// Returns the state of the node's process. It is cheaper than [`Hosts::inspect`], for polling.
    fn process(&self, node: NodeId) -> impl Future<Output = Result<Process, PortError>>;
    /// Returns whether the host already is in the state that `action` leads to. Only for actions on files, users and
    /// releases.
    fn has(&self, node: NodeId, action: &Action) -> impl Future<Output = Result<bool, PortError>>;
    /// Returns whether the node's host reaches the other nodes' `cluster_port`; empty where all nodes share a machine.
    fn peer_reachability(
        &self,
        node: NodeId,
    ) -> impl Future<Output = Result<BTreeMap<NodeId, Reachability>, PortError>>;
    /// Performs an action that installs something: a user, a program, a release, a unit, a backup.
    fn install(&self, node: NodeId, action: &Action) -> impl Future<Output = Result<(), PortError>>;
    /// Creates the node's directories; an existing one is left as it is.
    fn ensure_dirs(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Writes the node's cluster.yaml, atomically.
    fn write_config(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Starts `binary` as the node's process, detached; returns its process id.
    fn start(&self, node: NodeId, binary: &Path) -> impl Future<Output = Result<u32, PortError>>;
    /// Asks the node's process to end, and waits for that at most `within`. Then kills it if `force` is set.
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
    /// Returns whether the file at `path` already has the intended text.
    fn is_current(&self, path: &Path) -> bool;
    /// Writes the intended text to `path`, atomically.
    ///
    /// # Errors
    /// If the file was changed since it was read, or cannot be written.
    fn write(&self, path: &Path) -> Result<(), PortError>;
    /// Deletes the file at `path` if escli wrote it.
    ///
    /// # Errors
    /// If it is the operator's own, or cannot be deleted.
    fn remove(&self, path: &Path) -> Result<(), PortError>;
}

/// The cluster, through its admin API.
pub trait Cluster {
    /// Returns the status that one node reports.
    fn status(&self, node: NodeId) -> impl Future<Output = Result<ClusterStatus, PortError>>;
    /// Returns how the node's admin port is reached from here, whether the node runs or not.
    fn route(&self, node: NodeId) -> impl Future<Output = AdminRoute>;
    /// Asks for leadership to be transferred to `node`. Any node passes the request on to the leader.
    fn transfer(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for `member` to be added. Idempotent.
    fn add(&self, member: &Node, stays_learner: bool) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the on-disk format to be raised, to `wanted` or as far as every node reads it. Idempotent.
    fn raise_format(&self, wanted: Option<u16>) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the node to be removed from the cluster.
    fn remove(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
}
