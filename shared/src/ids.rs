//! Identities that appear in files, on the wire and in messages.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A node's number, unique among its cluster's members, from 1 to [`MAX_NODE_ID`]. Raft reserves 0 for "no node".
pub type NodeId = u64;

/// The largest number that a node may have: Kafka's clients know it as the id of a broker, an i32.
pub const MAX_NODE_ID: NodeId = i32::MAX as NodeId;

/// A cluster's identity, drawn once by the first leader and replicated; two clusters never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ClusterId(pub Uuid);

/// A data directory's identity, drawn when it is created. A node that returns with another one has lost its disk.
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
