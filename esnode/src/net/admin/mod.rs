//! The admin API over HTTP (default port 8080): status, health, metrics, members, transfer of leadership, backup.
//!
//! It asks the node through [`Node`] and decides nothing about the cluster itself.

mod backup;
mod context;
mod error;
mod format;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod groups;
mod health;
mod members;
mod metrics;
mod origin;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::Arc;

use shared::api::{ClusterStatus, ConsumerGroups};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::maintenance::backup::{BackupError, Pieces};
use crate::net::kafka::metrics::KafkaMetrics;
use crate::node::handle::{Handle, RaiseError};
use crate::replica::ChangeError;
use crate::replica::TransferError;
use crate::state_machine::members::Change;

#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::fuzz;
pub use server::{Limits, serve};

/// What the admin API needs of the node.
pub trait Node: Clone + Send + Sync + 'static {
    /// The configuration that the node was started with.
    fn file(&self) -> &ClusterFile;
    /// Asks the raft thread for the present status.
    fn status(&self) -> impl Future<Output = ClusterStatus> + Send;
    /// Returns whether the node is a leader that has committed an entry of its term, and so serves clients.
    fn serving(&self) -> bool;
    /// Returns all metrics as Prometheus text (exposition format 0.0.4), without those of a stuck raft thread.
    fn metrics(&self) -> impl Future<Output = String> + Send;
    /// Returns the consumer groups with their lag; `None` unless this node leads.
    fn groups(&self) -> impl Future<Output = Option<Arc<ConsumerGroups>>> + Send;
    /// Transfers leadership; returns the new leader and its term.
    fn transfer(
        &self,
        to: Option<NodeId>,
    ) -> impl Future<Output = Result<(NodeId, u64), TransferError>> + Send;
    /// Raises the on-disk format, as leader; returns the format that is active then.
    fn raise_format(&self, wanted: Option<u16>) -> impl Future<Output = Result<u16, RaiseError>> + Send;
    /// Begins a backup that contains at least entry `covers`.
    fn backup(&self, covers: u64) -> impl Future<Output = Result<Pieces, BackupError>> + Send;
    /// Changes the members, as leader; returns when the change is applied.
    fn change(&self, change: Change) -> impl Future<Output = Result<(), ChangeError>> + Send;
}

/// The running node: its handle, and the metrics of the Kafka listener.
#[derive(Clone)]
pub struct Running {
    /// The node.
    pub handle: Handle,
    /// The metrics of the Kafka listener.
    pub kafka: Arc<KafkaMetrics>,
}

impl Node for Running {
    fn file(&self) -> &ClusterFile {
        self.handle.file()
    }

    fn status(&self) -> impl Future<Output = ClusterStatus> + Send {
        self.handle.status()
    }

    fn serving(&self) -> bool {
        self.handle.leadership().borrow().serving
    }

    fn metrics(&self) -> impl Future<Output = String> + Send {
        metrics::render(&self.handle, &self.kafka)
    }

    fn groups(&self) -> impl Future<Output = Option<Arc<ConsumerGroups>>> + Send {
        self.handle.groups()
    }

    fn transfer(
        &self,
        to: Option<NodeId>,
    ) -> impl Future<Output = Result<(NodeId, u64), TransferError>> + Send {
        self.handle.transfer(to)
    }

    fn raise_format(&self, wanted: Option<u16>) -> impl Future<Output = Result<u16, RaiseError>> + Send {
        self.handle.raise_format(wanted)
    }

    fn backup(&self, covers: u64) -> impl Future<Output = Result<Pieces, BackupError>> + Send {
        self.handle.backup(covers)
    }

    fn change(&self, change: Change) -> impl Future<Output = Result<(), ChangeError>> + Send {
        self.handle.change(change)
    }
}
