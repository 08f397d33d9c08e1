//! The machines that nodes run on: `local` ones are processes of this machine, `remote` ones are hosts that are reached
//! over `ssh`. `identity` and `evidence` are shared by both.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use shared::ids::NodeId;

use crate::engine::ports::{Hosts, PortError};
use crate::plan::Action;
use crate::plan::desired::DesiredFiles;
use crate::plan::facts::{HostFacts, Process, Reachability};

pub mod evidence;
pub mod identity;
pub mod local;
pub mod remote;
pub mod ssh;

use evidence::Evidence;
use local::{LocalHosts, releases};
use remote::RemoteHosts;

/// The machines of one cluster.
pub enum ClusterHosts {
    /// All nodes are processes of this machine.
    Local(LocalHosts),
    /// Each node is on a host of its own.
    Remote(Box<RemoteHosts>),
}

/// Makes the same call on either variant.
macro_rules! either {
    ($machines:expr, $hosts:ident => $call:expr) => {
        match $machines {
            ClusterHosts::Local($hosts) => $call,
            ClusterHosts::Remote($hosts) => $call,
        }
    };
}

impl ClusterHosts {
    /// The files that each node is to have.
    pub fn wanted(&self) -> &DesiredFiles {
        either!(self, hosts => hosts.wanted())
    }

    /// Returns one kind of information about a node's machine.
    ///
    /// # Errors
    /// If it cannot be collected.
    pub async fn evidence(&self, id: NodeId, what: Evidence) -> Result<String, PortError> {
        either!(self, hosts => hosts.evidence(id, what).await)
    }

    /// Runs `esnode verify` on the data directory of a stopped node, and returns its verdict as JSON. `binary` is used
    /// for local nodes that have no installed program.
    ///
    /// # Errors
    /// If the program gives no verdict.
    pub async fn verify(
        &self,
        id: NodeId,
        binary: Option<&Path>,
        limit: Duration,
    ) -> Result<String, PortError> {
        match self {
            Self::Remote(hosts) => hosts.verify(id, limit).await,
            Self::Local(hosts) => {
                let kept = releases::installed(hosts.layout(), id);
                let Some(binary) = kept.as_deref().or(binary) else {
                    return Err(PortError::failed("esnode was not found; set $ESNODE".to_owned()));
                };
                hosts.verify(id, binary).await
            }
        }
    }

    /// Returns the remote hosts; `None` for a local cluster.
    pub fn remote(&self) -> Option<&RemoteHosts> {
        match self {
            Self::Local(_) => None,
            Self::Remote(hosts) => Some(hosts),
        }
    }
}

impl Hosts for ClusterHosts {
    async fn inspect(&self, id: NodeId) -> Result<HostFacts, PortError> {
        either!(self, hosts => hosts.inspect(id).await)
    }

    async fn process(&self, id: NodeId) -> Result<Process, PortError> {
        either!(self, hosts => hosts.process(id).await)
    }

    async fn has(&self, id: NodeId, action: &Action) -> Result<bool, PortError> {
        either!(self, hosts => hosts.has(id, action).await)
    }

    async fn peer_reachability(&self, id: NodeId) -> Result<BTreeMap<NodeId, Reachability>, PortError> {
        either!(self, hosts => hosts.peer_reachability(id).await)
    }

    async fn install(&self, id: NodeId, action: &Action) -> Result<(), PortError> {
        either!(self, hosts => hosts.install(id, action).await)
    }

    async fn ensure_dirs(&self, id: NodeId) -> Result<(), PortError> {
        either!(self, hosts => hosts.ensure_dirs(id).await)
    }

    async fn write_config(&self, id: NodeId) -> Result<(), PortError> {
        either!(self, hosts => hosts.write_config(id).await)
    }

    async fn start(&self, id: NodeId, binary: &Path) -> Result<u32, PortError> {
        either!(self, hosts => hosts.start(id, binary).await)
    }

    async fn stop(&self, id: NodeId, force: bool, within: Duration) -> Result<(), PortError> {
        either!(self, hosts => hosts.stop(id, force, within).await)
    }

    async fn wipe(&self, id: NodeId) -> Result<(), PortError> {
        either!(self, hosts => hosts.wipe(id).await)
    }

    async fn read_config(&self, id: NodeId) -> Result<Option<String>, PortError> {
        either!(self, hosts => hosts.read_config(id).await)
    }

    async fn log_tail(&self, id: NodeId, lines: usize) -> Result<Vec<String>, PortError> {
        either!(self, hosts => hosts.log_tail(id, lines).await)
    }
}
