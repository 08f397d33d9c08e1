//! What a node's data directory says of the node, and what the node tells others of itself.

use esnode::replica::{Bootstrapped, Members};
use esnode::replica::{Formats, Hello};
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::{MAX_NODES, Node};
use shared::version::Range;
use uuid::Uuid;

/// The identity file of a data directory.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The data directory itself.
    pub store: StoreId,
    /// The cluster, once it is known.
    pub cluster: Option<ClusterId>,
    /// Whether it has never taken part in Raft.
    pub fresh: bool,
    /// The voters that the cluster began with.
    pub initial: Vec<NodeId>,
    /// The on-disk format.
    pub format: u16,
}

impl Identity {
    /// An empty data directory, number `number` of all that there ever are.
    pub fn fresh(number: u64) -> Self {
        let store = StoreId(Uuid::from_u128(number.into()));
        Self { store, cluster: None, fresh: true, initial: Vec::new(), format: 1 }
    }

    /// Notes how the node got a cluster; `configured` are the nodes of its configuration.
    pub fn bootstrapped(&mut self, how: Bootstrapped, configured: &[NodeId]) {
        self.fresh = false;
        match how {
            Bootstrapped::New => self.initial = configured.to_vec(),
            Bootstrapped::Joined(cluster, initial, format) => {
                self.cluster = Some(cluster);
                self.initial = initial.into_iter().filter(|id| *id != 0).collect();
                self.format = format;
            }
        }
    }

    /// The formats of a node that reads `reads`.
    pub fn formats(&self, reads: Range) -> Formats {
        Formats { reads, active: self.format }
    }

    /// What the node says of itself to `listener`.
    pub fn hello(&self, node: NodeId, reads: Range, members: &Members, listener: NodeId) -> Hello {
        let mut initial_voters = [0; MAX_NODES];
        initial_voters.iter_mut().zip(&self.initial).for_each(|(place, voter)| *place = *voter);
        Hello {
            node,
            store: self.store,
            cluster: self.cluster,
            fresh: self.fresh,
            members: 1,
            initial_voters,
            your_store: members.bindings.get(&listener).copied(),
            formats: self.formats(reads),
        }
    }
}

/// Where a node is.
pub fn address(id: NodeId) -> Node {
    let json = serde_json::json!({ "id": id, "host": format!("node-{id}") });
    serde_json::from_value(json).expect("a node of a configuration")
}
