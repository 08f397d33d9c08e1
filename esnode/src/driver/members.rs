//! Who the other nodes say they are, and whether this node may talk Raft with them.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{NodeId, StoreId};

use crate::net::peer::Hello;
use crate::stream::Stream;
use crate::stream::command::Command;

/// The other nodes' introductions.
#[derive(Default)]
pub(super) struct Members {
    met: BTreeMap<NodeId, Hello>,
    /// Bindings proposed in this leader's term, so that each is proposed once.
    binding: BTreeSet<NodeId>,
}

impl Members {
    pub(super) fn greet(&mut self, hello: Hello) {
        self.met.insert(hello.node, hello);
    }

    /// Whether Raft messages may pass between this node and the peer: its data directory must be the one that the
    /// cluster knows, and one that never took part must first be bound. Otherwise a node that lost its disk could
    /// vote twice (Raft paper 5.2 relies on votes being remembered).
    pub(super) fn trusted(&self, stream: &Stream, peer: NodeId) -> bool {
        let Some(hello) = self.met.get(&peer) else { return true };
        match stream.store_of(peer) {
            Some(store) => store == hello.store,
            None => !(hello.fresh && stream.cluster_id().is_some()),
        }
    }

    /// Bindings that a leader should propose now.
    pub(super) fn unbound(&mut self, stream: &Stream, own: (NodeId, StoreId)) -> Vec<Command> {
        let met = self.met.values().map(|hello| (hello.node, hello.store));
        let wanted: Vec<_> = std::iter::once(own)
            .chain(met)
            .filter(|(node, _)| stream.store_of(*node).is_none() && !self.binding.contains(node))
            .collect();
        self.binding.extend(wanted.iter().map(|(node, _)| *node));
        wanted.into_iter().map(|(node, store)| Command::Bind { node, store }).collect()
    }

    /// A new term: what an earlier leader's term proposed may be lost.
    pub(super) fn new_term(&mut self) {
        self.binding.clear();
    }
}
