//! The table of members: the addresses of those that were added, the data directory of each, and the retired data
//! directories.
//!
//! Who votes is up to Raft. A change is part of Raft's own membership entry, so that table and quorum change at the
//! same index. Initial members have no address in the table, since every node has them in its configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::ids::{NodeId, StoreId};
use shared::spec::Node;

/// The address of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Host name that Kafka clients get instead of `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// Port for the other nodes.
    pub cluster_port: u16,
    /// Port for Kafka clients.
    pub client_port: u16,
    /// Port of the admin API.
    pub http_port: u16,
}

/// A member that was added to a running cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Its address.
    pub address: Address,
    /// It is not promoted automatically.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays_learner: bool,
}

/// One change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member, at first a learner.
    Add(NodeId, Added),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A member leaves; its data directory is retired.
    Remove(NodeId),
}

/// What is known about members, apart from who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    added: BTreeMap<NodeId, Added>,
    bindings: BTreeMap<NodeId, StoreId>,
    /// The data directories of removed members. A node that returned with one could otherwise vote as if it still were
    /// a member, or pass for a new member with the same id.
    #[serde(rename = "spent")]
    retired: BTreeMap<StoreId, NodeId>,
    /// Index of the entry that last changed this table.
    changed_at: u64,
}

impl Change {
    /// Returns the id of the member that the change is about.
    pub fn node(&self) -> NodeId {
        match self {
            Self::Add(node, _) | Self::Promote(node) | Self::Remove(node) => *node,
        }
    }
}

impl From<&Node> for Address {
    fn from(node: &Node) -> Self {
        Self {
            host: node.host.clone(),
            advertised_host: node.advertised_host.clone(),
            cluster_port: node.cluster_port,
            client_port: node.client_port,
            http_port: node.http_port,
        }
    }
}

impl Address {
    /// Returns the address in the form of `cluster.nodes`.
    pub fn of_node(&self, id: NodeId) -> Node {
        Node {
            id,
            host: self.host.clone(),
            client_port: self.client_port,
            cluster_port: self.cluster_port,
            http_port: self.http_port,
            bind: None,
            advertised_host: self.advertised_host.clone(),
            ssh: None,
        }
    }
}

impl Members {
    /// Applies the committed change in entry `index`. Whether it is allowed was checked before it was proposed.
    pub(super) fn apply(&mut self, index: u64, change: &Change) {
        self.changed_at = index;
        match change {
            Change::Add(node, added) => {
                self.added.insert(*node, added.clone());
            }
            Change::Promote(_) => {}
            Change::Remove(node) => {
                self.added.remove(node);
                if let Some(store) = self.bindings.remove(node) {
                    self.retired.insert(store, *node);
                }
            }
        }
    }

    /// Binds a member to its data directory, as of entry `index`. Returns `false` if the member is bound to another
    /// one, or the directory is retired.
    pub(super) fn bind(&mut self, index: u64, node: NodeId, store: StoreId) -> bool {
        if self.is_retired(store) {
            return false;
        }
        self.changed_at = index;
        *self.bindings.entry(node).or_insert(store) == store
    }

    /// Entry `index` begins another cluster with this log: retires all data directories so far. They contain votes and
    /// entries of the previous cluster.
    pub(super) fn retire_all(&mut self, index: u64) {
        self.changed_at = index;
        self.added.clear();
        self.retired
            .extend(std::mem::take(&mut self.bindings).into_iter().map(|(node, store)| (store, node)));
    }

    /// Returns what is known of `node`; `None` if it was not added to a running cluster.
    pub fn added(&self, node: NodeId) -> Option<&Added> {
        self.added.get(&node)
    }

    /// The data directory that `node` is bound to.
    pub fn store_of(&self, node: NodeId) -> Option<StoreId> {
        self.bindings.get(&node).copied()
    }

    /// All members that are bound to a data directory.
    pub fn bindings(&self) -> &BTreeMap<NodeId, StoreId> {
        &self.bindings
    }

    /// Returns the data directories of removed members, with the ids of these members.
    pub fn retired(&self) -> &BTreeMap<StoreId, NodeId> {
        &self.retired
    }

    /// Whether the data directory was that of a member that was removed.
    pub fn is_retired(&self, store: StoreId) -> bool {
        self.retired.contains_key(&store)
    }

    /// Returns whether a member with this id was ever removed.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.retired.values().any(|id| *id == node)
    }

    /// Index of the entry that last changed any of this.
    pub fn changed_at(&self) -> u64 {
        self.changed_at
    }

    /// Passes everything that replicas must agree on to `put`.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(&[u8])) {
        put(&self.changed_at.to_le_bytes());
        for (node, store) in &self.bindings {
            put(&node.to_le_bytes());
            put(store.0.as_bytes());
        }
        for (store, node) in &self.retired {
            put(store.0.as_bytes());
            put(&node.to_le_bytes());
        }
        for (node, Added { address, stays_learner }) in &self.added {
            let Address { host, advertised_host, cluster_port, client_port, http_port } = address;
            put(&node.to_le_bytes());
            put(&[u8::from(*stays_learner)]);
            put(host.as_bytes());
            put(advertised_host.as_deref().unwrap_or_default().as_bytes());
            [cluster_port, client_port, http_port].into_iter().for_each(|port| put(&port.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn store(id: u128) -> StoreId {
        StoreId(Uuid::from_u128(id))
    }

    fn added(host: &str) -> Added {
        let address = Address {
            host: host.into(),
            advertised_host: None,
            cluster_port: 9100,
            client_port: 9000,
            http_port: 8080,
        };
        Added { address, stays_learner: false }
    }

    #[test]
    fn a_removed_members_directory_is_retired_and_its_id_is_not() {
        let mut members = Members::default();
        members.apply(5, &Change::Add(4, added("d")));
        assert!(members.bind(6, 4, store(44)) && !members.bind(7, 4, store(45)));
        members.apply(8, &Change::Remove(4));
        assert!(members.is_retired(store(44)) && members.was_removed(4) && members.added(4).is_none());
        members.apply(9, &Change::Add(4, added("e")));
        assert!(!members.bind(10, 4, store(44)), "the old disk");
        assert!(!members.bind(10, 5, store(44)), "under whatever id");
        assert!(members.bind(11, 4, store(46)));
        assert_eq!((members.store_of(4), members.changed_at()), (Some(store(46)), 11));
    }

    #[test]
    fn no_member_of_the_cluster_before_is_one_of_the_next() {
        let mut members = Members::default();
        members.apply(1, &Change::Add(4, added("d")));
        members.bind(2, 4, store(44));
        members.retire_all(3);
        assert!(members.added(4).is_none() && members.is_retired(store(44)) && members.changed_at() == 3);
        assert!(!members.bind(4, 4, store(44)) && members.bind(4, 4, store(45)));
    }

    #[test]
    fn whatever_replicas_must_agree_on_is_in_the_fingerprint() {
        let print = |members: &Members| {
            let mut bytes = Vec::new();
            members.fingerprint(|part| bytes.extend_from_slice(part));
            bytes
        };
        let mut members = Members::default();
        let mut seen = vec![print(&members)];
        members.apply(1, &Change::Add(4, added("d")));
        seen.push(print(&members));
        for change in [
            |added: &mut Added| added.stays_learner = true,
            |added: &mut Added| added.address.advertised_host = Some("x".into()),
            |added: &mut Added| added.address.http_port = 1,
        ] {
            let mut other = added("d");
            change(&mut other);
            members.apply(1, &Change::Add(4, other));
            seen.push(print(&members));
        }
        members.bind(1, 4, store(1));
        seen.push(print(&members));
        members.apply(1, &Change::Remove(4));
        seen.push(print(&members));
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn a_node_of_the_file_and_its_address_are_the_same() {
        let node = added("d").address.of_node(4);
        assert_eq!(Address::from(&node), added("d").address);
    }
}
