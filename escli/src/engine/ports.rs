//! What the engine needs from the world, as traits: hosts (this machine, later SSH), the cluster's admin API.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use shared::api::ClusterStatus;
use shared::ids::NodeId;
use shared::spec::Node;

use crate::exit::{Exit, Failure};
use crate::plan::Action;
use crate::plan::facts::{HostFacts, Process, Reach, Way};

/// Something a port could not do. The message says what and where; it is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nobody there.
    #[error("{0}")]
    Unreachable(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
    /// One of both, with evidence and what to do next.
    #[error("{0}")]
    Explained(Box<Failure>),
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Unreachable(text) => Self::new(Exit::Unreachable, text),
            PortError::Failed(text) => Self::failed(text),
            PortError::Explained(failure) => *failure,
        }
    }
}

/// The machines the nodes run on. One implementation per transport.
pub trait Hosts {
    /// What a node's host says about the node.
    fn look(&self, node: NodeId) -> impl Future<Output = Result<HostFacts, PortError>>;
    /// The node's process: the cheap part of [`Hosts::look`], for those who wait.
    fn process(&self, node: NodeId) -> impl Future<Output = Result<Process, PortError>>;
    /// The host already is as `action`, one about files, users or releases there, would make it.
    fn has(&self, node: NodeId, action: &Action) -> impl Future<Output = Result<bool, PortError>>;
    /// Whether the node's host reaches the other nodes' `cluster_port`; nothing where all nodes share a machine.
    fn mesh(&self, node: NodeId) -> impl Future<Output = Result<BTreeMap<NodeId, Reach>, PortError>>;
    /// Does what only hosts of their own need: user, program, release, unit.
    fn install(&self, node: NodeId, action: &Action) -> impl Future<Output = Result<(), PortError>>;
    /// Creates the node's directories; an existing one is left as it is.
    fn ensure_dirs(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Gives the node its file, atomically.
    fn write_config(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Starts `binary` as the node's process, detached; returns its process id.
    fn start(&self, node: NodeId, binary: &Path) -> impl Future<Output = Result<u32, PortError>>;
    /// Asks the node's process to end and waits for it.
    fn stop(
        &self,
        node: NodeId,
        force: bool,
        within: Duration,
    ) -> impl Future<Output = Result<(), PortError>>;
    /// Deletes the node's directory with all its data.
    fn wipe(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// The node's cluster.yaml as it lies on its host; `None` when there is none.
    fn read_config(&self, node: NodeId) -> impl Future<Output = Result<Option<String>, PortError>>;
    /// The node's last log lines.
    fn log_tail(&self, node: NodeId, lines: usize) -> impl Future<Output = Result<Vec<String>, PortError>>;
    /// A first port with which a new local cluster of `count` nodes finds all its ports free; `None` where nobody
    /// can tell.
    fn free_base_port(&self, count: usize) -> impl Future<Output = Option<u16>>;
    /// The cluster.yaml at `path` already says what it should.
    fn has_cluster_file(&self, path: &Path) -> impl Future<Output = bool>;
    /// Writes the cluster's cluster.yaml to `path`, atomically.
    fn write_cluster_file(&self, path: &Path) -> impl Future<Output = Result<(), PortError>>;
    /// Deletes the cluster.yaml at `path`.
    fn remove_cluster_file(&self, path: &Path) -> impl Future<Output = Result<(), PortError>>;
}

/// The cluster, as its admin API shows it.
pub trait Cluster {
    /// What one node knows.
    fn status(&self, node: NodeId) -> impl Future<Output = Result<ClusterStatus, PortError>>;
    /// How its admin port is reached from here, whether it runs or not.
    fn way(&self, node: NodeId) -> impl Future<Output = Way>;
    /// Asks for leadership to be handed to `node`; whoever leads is found by itself.
    fn transfer(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the node to be taken in; done again it changes nothing.
    fn add(&self, member: &Node, stays_learner: bool) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the on-disk format to be raised, to `wanted` or as far as all read it; done again it changes nothing.
    fn raise_format(&self, wanted: Option<u16>) -> impl Future<Output = Result<(), PortError>>;
    /// Asks for the node to be let go.
    fn remove(&self, node: NodeId) -> impl Future<Output = Result<(), PortError>>;
}
