//! `GET /cluster/groups`: the consumer groups and their lag.

use serde::{Deserialize, Serialize};

/// The consumer groups of the cluster. Any node answers; what it says comes from the leader, and is a few seconds old at
/// most unless there are millions of committed offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroups {
    /// Number of all groups.
    pub total: u64,
    /// Number of groups that are not in `groups`: those with the least lag, and those whose names are longer than 255
    /// bytes.
    pub left_off: u64,
    /// Those with the most lag, in descending order of it; with the same lag, by name.
    pub groups: Vec<ConsumerGroup>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroup {
    /// Its name, Kafka's `group.id`.
    pub name: String,
    /// What it is doing, in Kafka's words, e.g. `Stable` or `Empty`.
    pub state: String,
    /// Number of its members.
    pub members: u64,
    /// Offsets between what it has committed and the high watermarks, of all partitions in which it has committed any.
    pub lag: u64,
    /// As `lag`, but of the one partition in which it is furthest behind.
    pub max_lag: u64,
}
