//! Which cluster and node a host seems to belong to, according to its last deployment, its data directory, and what
//! answers on the admin port.

use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId};

/// What the last deployment has left on a node's host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The node's directory if all nodes share this machine; `None` if each has a host of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The data directory that cluster.yaml names.
    pub data: String,
    /// The configuration file of the last deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Deployed>,
    /// What the identity in the data directory says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

/// A configuration file that was found on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Path of the file.
    pub path: String,
    /// The cluster's name in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The node's id in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The data directory in it, if it differs from that of cluster.yaml and is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
}

/// The identity in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The node that the directory belongs to.
    #[serde(rename = "node_id")]
    pub node: NodeId,
    /// The cluster that the node belongs to; `None` before it has joined one.
    #[serde(rename = "cluster_id", default)]
    pub cluster: Option<ClusterId>,
}

/// Another node that answers on a node's admin port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// Name of its cluster.
    pub cluster: String,
    /// Its id.
    pub node: NodeId,
}

impl Stranger {
    /// Returns a text such as `answers as node 1 of orders`.
    pub fn describe(&self) -> String {
        format!("answers as node {} of {}", self.node, self.cluster)
    }
}
