//! `cluster.yaml`: the description of a cluster, as the operator writes it and as each node gets it.
//!
//! This module has the types. `text` decodes the bytes of a file, and `parse` reads the text: `tree` records the
//! position of every value, `schema` checks types and names of keys, `validate` whether the values are valid, by the
//! rules of `names`. `render` writes the file again.

mod deploy;
mod keys;
mod names;
mod parse;
mod places;
mod render;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{MAX_NODE_ID, NodeId};
pub use deploy::{Deploy, HostKeys, Privilege, Service, Ssh, Transport};
pub use keys::{Key, keys};
pub use names::{authority, host_dir, host_user, valid_host};
pub use parse::{Problem, Reader, SpecErrors, parse, parse_as};
pub use places::shared_hosts;
pub use schema::schema;
pub use text::{BOM, MAX_BYTES, decode};

/// Largest number of nodes in a cluster.
pub const MAX_NODES: usize = 9;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// The cluster: its nodes, timing and storage.
    pub cluster: Cluster,
    /// Limits and socket options of the listeners.
    #[serde(default)]
    pub network: Network,
    /// How the operator's tool reaches the machines; never given to a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
}

/// The `cluster` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// A name for people: letters, digits and dashes.
    #[serde(default = "default_name")]
    pub name: String,
    /// Which of `nodes` the reader of this file is; `--node-id` overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Every node of the cluster.
    pub nodes: Vec<Node>,
    /// Raft's timing.
    #[serde(default)]
    pub raft: RaftTiming,
    /// Where and how the log is kept.
    #[serde(default)]
    pub storage: Storage,
    /// What new topics look like.
    #[serde(default)]
    pub topics: Topics,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique, from 1 to 2147483647.
    #[schemars(range(min = 1, max = MAX_NODE_ID))]
    pub id: NodeId,
    /// Name or address that the other nodes, and clients unless `advertised_host` is set, reach it by. IPv6 addresses stand
    /// without brackets.
    pub host: String,
    /// Kafka clients connect here.
    #[serde(default = "default_client_port")]
    pub client_port: u16,
    /// The other nodes connect here.
    #[serde(default = "default_cluster_port")]
    pub cluster_port: u16,
    /// The admin API listens here.
    #[serde(default = "default_http_port")]
    pub http_port: u16,
    /// Address to listen on; all addresses of the machine when absent, unless `host` is a loopback address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// Host name given to Kafka clients instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// How the operator's tool reaches this machine, where that differs from `deploy.ssh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
}

impl Node {
    /// Returns a node with the default ports and no other settings.
    pub fn at(id: NodeId, host: impl Into<String>) -> Self {
        Self {
            id,
            host: host.into(),
            client_port: default_client_port(),
            cluster_port: default_cluster_port(),
            http_port: default_http_port(),
            bind: None,
            advertised_host: None,
            ssh: None,
        }
    }
}

/// Raft's timing, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RaftTiming {
    /// A follower that hears nothing for a time drawn from min..=max starts an election.
    pub election_timeout_min: u64,
    /// Upper end of that draw.
    pub election_timeout_max: u64,
    /// How often a leader says that it is there.
    pub heartbeat_interval: u64,
    /// Limit for one unary call between nodes, and for the liveness of a connection.
    pub rpc_timeout: u64,
}

/// Where and how the log is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// The node's data directory: an absolute path.
    pub data_dir: PathBuf,
    /// `true`: acknowledged means fsynced on a majority. A single node may do without, and then loses what it has
    /// acknowledged in a power cut.
    pub wal_sync: bool,
    /// Entries between snapshots.
    pub snapshot_interval: u64,
    /// Size that segment files of the log grow to, in MiB. A node that lacks more than two of them gets whole files.
    // Left out where it says nothing: the hash of a configuration from before it came stays what it was.
    #[serde(skip_serializing_if = "is_default_segment")]
    pub segment_mb: u64,
}

/// What new topics look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Create a topic when a client first names it.
    pub auto_create: bool,
    /// Partitions of a topic created without a number.
    pub default_partitions: u32,
    /// Milliseconds that events are kept in topics without `retention.ms`; forever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// Bytes that a partition keeps at least in topics without `retention.bytes`; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
}

/// Limits and socket options of the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Connections accepted per listener.
    pub max_connections: u32,
    /// Send small packets at once.
    pub tcp_nodelay: bool,
    /// Probe idle connections.
    pub keepalive: bool,
}

impl ClusterFile {
    /// Returns the node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.cluster.nodes.iter().find(|node| node.id == id)
    }

    /// Returns whether all nodes are processes of the operator's machine.
    pub fn is_local(&self) -> bool {
        self.deploy.as_ref().is_some_and(|deploy| deploy.transport == Transport::Local)
    }
}

impl Default for RaftTiming {
    fn default() -> Self {
        Self {
            election_timeout_min: 150,
            election_timeout_max: 300,
            heartbeat_interval: 50,
            rpc_timeout: 100,
        }
    }
}

impl RaftTiming {
    /// Returns how long to wait for something that takes up to `count` elections; at least `least`.
    pub fn elections(&self, count: u32, least: Duration) -> Duration {
        least.max(count * Duration::from_millis(self.election_timeout_max))
    }
}

/// Default size of segment files, in MiB.
const DEFAULT_SEGMENT_MB: u64 = 64;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_default_segment(segment_mb: &u64) -> bool {
    *segment_mb == DEFAULT_SEGMENT_MB
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/eventstream/raft"),
            wal_sync: true,
            snapshot_interval: 1000,
            segment_mb: DEFAULT_SEGMENT_MB,
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { auto_create: true, default_partitions: 1, retention_ms: None, retention_bytes: None }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { max_connections: 1000, tcp_nodelay: true, keepalive: true }
    }
}

fn default_name() -> String {
    "eventstream".to_owned()
}
pub(crate) fn default_client_port() -> u16 {
    9000
}
fn default_cluster_port() -> u16 {
    9100
}
pub(crate) fn default_http_port() -> u16 {
    8080
}
