//! What a node's place claims to be: its last deployment, its data directory, and whoever answers on its admin port.

use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId};

/// What the last deployment left in a node's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The node's directory, where the nodes of a cluster share a machine; `None` where the host is the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The data directory that cluster.yaml means.
    pub data: String,
    /// The file of the last deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Deployed>,
    /// Whose data it is, by the data directory's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

/// What the file says that a node was last deployed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Where it is.
    pub path: String,
    /// Its cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Its data directory, where that is another one than cluster.yaml means and something is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
}

/// What a data directory says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The node that it belongs to.
    #[serde(rename = "node_id")]
    pub node: NodeId,
    /// The cluster that it is part of, once it is.
    #[serde(rename = "cluster_id", default)]
    pub cluster: Option<ClusterId>,
}

/// Who answers on an admin port that should be another node's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// Its cluster's name.
    pub cluster: String,
    /// Its id.
    pub node: NodeId,
}

impl Stranger {
    /// E.g. `answers as node 1 of orders`.
    pub fn describe(&self) -> String {
        format!("answers as node {} of {}", self.node, self.cluster)
    }
}
