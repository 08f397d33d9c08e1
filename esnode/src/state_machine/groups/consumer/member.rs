//! A member of a group of the consumer protocol, and how it gets from the partitions that it has to those that it is to
//! have.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Partitions;
use super::assignor::Assignor;
use super::change::{Heartbeat, bytes_of};
use super::classic::Classic;
use crate::state_machine::groups::protocol::Protocol;

/// The epoch of a static member that has gone for a while.
pub const RELEASED: i32 = -2;
/// Bytes of a member besides its texts and partitions, about.
const OVERHEAD: usize = 384;
/// Bytes of a partition, about.
const PARTITION: usize = 16;

/// Bytes that so many partitions take, about.
pub(in crate::state_machine::groups) fn bytes_of_partitions(count: usize) -> usize {
    PARTITION * count
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerMember {
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.rack`.
    pub rack: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give up partitions, in ms.
    pub rebalance_timeout: i32,
    /// Names of the topics that it subscribes to.
    pub topics: BTreeSet<String>,
    /// The pattern of topics that it subscribes to as well.
    pub pattern: Option<String>,
    /// The assignor that it prefers.
    pub assignor: Option<Assignor>,
    /// The group's epoch that it has got to; [`RELEASED`] if it has gone for a while.
    pub epoch: i32,
    /// The one before. A member that has missed a response comes with it.
    pub previous_epoch: i32,
    /// What it may have.
    pub assigned: Partitions,
    /// What it has to give up, and has not said yet that it did.
    pub revoking: Partitions,
    /// What it is to have in the end.
    pub target: Partitions,
    /// What it is besides while it is a member of the classic protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classic: Option<Classic>,
}

impl ConsumerMember {
    /// One that is about to join.
    pub(super) fn new(instance: Option<String>) -> Self {
        Self {
            instance,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: 0,
            topics: BTreeSet::new(),
            pattern: None,
            assignor: None,
            epoch: 0,
            previous_epoch: 0,
            assigned: Partitions::new(),
            revoking: Partitions::new(),
            target: Partitions::new(),
            classic: None,
        }
    }

    /// The member with what its heartbeat tells.
    pub(super) fn with(mut self, heartbeat: &Heartbeat) -> Self {
        if heartbeat.joins() {
            // Whoever joins tells all of itself, and has nothing, whatever it had.
            self = Self { target: self.target, ..Self::new(heartbeat.instance.clone()) };
        }
        self.client_id.clone_from(&heartbeat.client_id);
        self.client_host.clone_from(&heartbeat.client_host);
        self.assignor = heartbeat.assignor.or(self.assignor);
        if let Some(rack) = &heartbeat.rack {
            self.rack = Some(rack.clone());
        }
        if let Some(timeout) = heartbeat.rebalance_timeout {
            self.rebalance_timeout = timeout;
        }
        if let Some(topics) = &heartbeat.topics {
            self.topics.clone_from(topics);
        }
        if let Some(pattern) = &heartbeat.pattern {
            self.pattern = pattern.as_ref().map(|pattern| pattern.regex.clone());
        }
        self
    }

    /// Whether another process may take the place of this static member and speak the consumer protocol. A client of the
    /// classic one does not say that it goes for a while.
    pub(super) fn may_be_replaced(&self) -> bool {
        self.epoch == RELEASED || self.classic.is_some()
    }

    /// Whether the same is to be assigned to both, as far as it depends on them.
    pub(super) fn subscribes_like(&self, other: &Self) -> bool {
        self.topics == other.topics && self.pattern == other.pattern && self.assignor == other.assignor
    }

    /// Whether it has all that it is to have in the group's epoch, and nothing else.
    pub fn is_reconciled(&self, group_epoch: i32) -> bool {
        self.epoch == group_epoch && self.revoking.is_empty() && self.assigned == self.target
    }

    /// The member after the next step towards its target. `owned` is what it says that it has, if it says so; `free`
    /// keeps, of the partitions that it could get, those that nobody else has.
    pub(super) fn reconciled(
        mut self,
        group_epoch: i32,
        owned: Option<&Partitions>,
        free: impl FnOnce(&mut Partitions),
    ) -> Self {
        let still_has = |revoking: &Partitions| owned.is_none_or(|owned| !owned.is_disjoint(revoking));
        if !self.revoking.is_empty() && still_has(&self.revoking) {
            return self;
        }
        self.revoking = self.assigned.difference(&self.target).copied().collect();
        self.assigned.retain(|partition| self.target.contains(partition));
        if !self.revoking.is_empty() && still_has(&self.revoking) {
            return self;
        }
        self.revoking.clear();
        let mut gained: Partitions = self.target.difference(&self.assigned).copied().collect();
        if !gained.is_empty() {
            free(&mut gained);
            self.assigned.append(&mut gained);
        }
        if self.epoch != group_epoch {
            self.previous_epoch = self.epoch;
            self.epoch = group_epoch;
        }
        self
    }

    /// All that it has, or has not said yet that it gave up.
    pub fn held(&self) -> impl Iterator<Item = &super::TopicPartition> {
        self.assigned.iter().chain(&self.revoking)
    }

    /// Whether it has the partition, or has not said yet that it gave it up.
    pub(super) fn holds(&self, partition: &super::TopicPartition) -> bool {
        self.assigned.contains(partition) || self.revoking.contains(partition)
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let partitions = self.assigned.len() + self.revoking.len() + self.target.len();
        let texts =
            self.client_id.len() + self.pattern.as_ref().map_or(0, String::len) + bytes_of(&self.topics);
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols).map(Protocol::bytes);
        OVERHEAD + texts + bytes_of_partitions(partitions) + protocols.sum::<usize>()
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        put(self.instance.as_deref().unwrap_or_default().as_bytes());
        put(self.rack.as_deref().unwrap_or_default().as_bytes());
        put(self.client_id.as_bytes());
        put(self.client_host.as_bytes());
        put(&self.rebalance_timeout.to_le_bytes());
        self.topics.iter().for_each(|topic| put(topic.as_bytes()));
        put(self.pattern.as_deref().unwrap_or_default().as_bytes());
        put(self.assignor.map_or("", Assignor::name).as_bytes());
        if let Some(Classic { session_timeout, protocols }) = &self.classic {
            put(&session_timeout.to_le_bytes());
            for Protocol { name, metadata } in protocols {
                put(name.as_bytes());
                put(metadata);
            }
        }
        put(&self.epoch.to_le_bytes());
        put(&self.previous_epoch.to_le_bytes());
        for partitions in [&self.assigned, &self.revoking, &self.target] {
            put(&partitions.len().to_le_bytes());
            for (topic, partition) in partitions {
                put(&topic.to_le_bytes());
                put(&partition.to_le_bytes());
            }
        }
    }
}
