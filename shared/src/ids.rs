//! Identities that appear in files and in messages between programs.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A node's number: unique among the members of its cluster, from 1 to [`MAX_NODE_ID`]. Raft reserves 0 for "no node".
pub type NodeId = u64;

/// The largest number of a node. Kafka clients use it as the id of a broker, which is an i32.
pub const MAX_NODE_ID: NodeId = i32::MAX as NodeId;

/// Identity of a cluster: drawn at random by its first leader, and replicated. No two clusters share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ClusterId(pub Uuid);

/// Identity of a data directory, drawn at random when it is created. A node that returns with another one has lost its
/// disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
