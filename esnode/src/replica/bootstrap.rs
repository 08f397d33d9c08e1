//! What a node with an empty data directory does: bootstrap a cluster with its like, or wait until a cluster takes it in.
//!
//! Fresh nodes that are configured alike bootstrap a cluster when all of them have heard of each other. All start Raft with the same members,
//! so whoever wins the first election leads a proper cluster and gives it its identity. A majority would do for Raft, but
//! not for the operator: two disks that were lost, of a cluster whose third node is away with all the data, would bootstrap
//! an empty cluster in its place. A fresh node that meets an existing cluster waits until the leader speaks Raft with it: the
//! leader does so only after it has bound the node to this data directory.

use std::collections::BTreeMap;

use shared::ids::{ClusterId, NodeId};
use shared::spec::MAX_NODES;

use super::hello::Hello;
use super::input::Request;
use super::mistake::{Mistake, makes};
use super::peer_registry::{PeerRegistry, disowning};
use super::response::{ChangeError, FormatError, ProposeError, Response, TransferError};
use crate::consensus::{Message, MessageType};

/// How a fresh node got a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrapped {
    /// It begins a new cluster together with all the other configured nodes.
    New,
    /// It was taken into this cluster, which began with these voters, and whose data is in this on-disk format.
    Joined(ClusterId, [NodeId; MAX_NODES], u16),
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster knows this node with another data directory.
    #[error(
        "this node's data directory is not the one that the cluster knows node {0} by: its disk was lost or replaced, or \
         is not mounted. If it is only not mounted, mount it and start node {0} again. Else its vote cannot be trusted: \
         remove node {0} from the cluster and add it again"
    )]
    WrongStore(NodeId),
    /// It was removed before it had begun.
    #[error(
        "node {0} was removed from the cluster: to have it back, delete its data directory, start it and add it again"
    )]
    Removed(NodeId),
    /// The members it is configured with are not those of the nodes it meets.
    #[error(
        "node {0} is configured with other members than this node: give every node the same `cluster.nodes`"
    )]
    OtherMembers(NodeId),
}

/// A fresh node that has no cluster yet.
#[derive(Debug)]
pub struct Bootstrap {
    own: Hello,
    configured: Vec<NodeId>,
    registry: PeerRegistry,
    /// The latest reason for a warning, which is not repeated.
    warned: Option<String>,
}

impl Bootstrap {
    /// `own` is what the node says of itself, `configured` are the nodes of its configuration.
    pub fn new(own: Hello, configured: Vec<NodeId>) -> Self {
        Self { own, configured, registry: PeerRegistry::default(), warned: None }
    }

    /// Whether a new cluster can begin: all configured nodes are known, are configured alike, and have no cluster.
    pub fn is_complete(&self) -> bool {
        all_without_cluster(self.registry.known(), self.own, &self.configured)
    }

    /// The other nodes, as far as they have said who they are.
    pub fn registry(&mut self) -> &mut PeerRegistry {
        &mut self.registry
    }

    /// The other nodes, for the replica to go on with.
    pub fn into_registry(self) -> PeerRegistry {
        self.registry
    }

    /// Another node said who it is.
    ///
    /// # Errors
    /// Most nodes know this one by another data directory.
    pub fn hello(&mut self, hello: Hello) -> Result<(), JoinError> {
        self.registry.register(hello);
        match disowning(self.registry.known().values(), self.own.store) {
            0 if hello.cluster.is_none() && hello.members != self.own.members => {
                self.warn(&JoinError::OtherMembers(hello.node));
            }
            0 => {}
            // One node alone may not know yet that the node with that directory was removed.
            few if few * 2 < self.configured.len() => self.warn(&JoinError::WrongStore(self.own.node)),
            _ => return Err(JoinError::WrongStore(self.own.node)),
        }
        Ok(())
    }

    fn warn(&mut self, problem: &JoinError) {
        let text = Some(problem.to_string());
        if text != self.warned {
            tracing::warn!("{problem}");
            self.warned = text;
        }
    }

    /// Another node sent messages: a leader takes this node into its cluster, unless it knows it by another data
    /// directory. Such messages may have been on their way already when this node introduced itself.
    pub fn messages(&self, from: NodeId, messages: &[Message]) -> Option<Bootstrapped> {
        let other = |hello: &Hello| hello.your_store.is_some_and(|store| store != self.own.store);
        let hello = self.registry.known().get(&from).filter(|hello| hello.initial_voters[0] != 0)?;
        if other(hello) && !makes(Mistake::TrustAnyStore) {
            return None;
        }
        let leads = messages.iter().any(from_leader);
        let cluster = hello.cluster.filter(|_| leads)?;
        Some(Bootstrapped::Joined(cluster, hello.initial_voters, hello.formats.active))
    }

    /// Another node refuses this one, as a member that was removed.
    ///
    /// # Errors
    /// It is a configured node, and so must know.
    pub fn refused_as_removed(&self, peer: NodeId) -> Result<(), JoinError> {
        let known = self.configured.contains(&peer);
        if known { Err(JoinError::Removed(self.own.node)) } else { Ok(()) }
    }

    /// Tells in the log whom this node waits for.
    pub fn log_absent(&self) {
        match self.registry.known().values().find_map(|hello| hello.cluster) {
            Some(cluster) => tracing::warn!(
                "this node's data directory is empty, and it waits to be taken into cluster {cluster}. If it was a member \
                 before, its disk is lost, or not mounted"
            ),
            None => tracing::warn!(
                nodes = ?absent(self.registry.known(), self.own, &self.configured),
                "this node's data directory is empty, and it waits for these nodes: a new cluster begins only when all of \
                 cluster.nodes have heard of each other. If there was a cluster before, its disk is lost, or not mounted"
            ),
        }
    }
}

/// The response of a node without a cluster to a request.
pub fn decline(request: &Request) -> Response {
    match request {
        Request::Propose(_) => Response::Proposed(Err(ProposeError::NotLeader(None))),
        Request::ReadBarrier => Response::ReadBarrier(Err(ProposeError::NotLeader(None))),
        Request::Status => Response::Status(None),
        Request::TransferLeader(_) => Response::LeaderTransferred(Err(TransferError::NotLeader(None))),
        Request::ChangeMembers(_) => Response::MembersChanged(Err(ChangeError::NotLeader(None))),
        Request::RaisableFormat(_) => Response::RaisableFormat(Err(FormatError::NotLeader(None))),
    }
}

/// Whether every configured node is known, is configured alike, and has no cluster either. One that is not fresh any more
/// knew all the others and has begun.
fn all_without_cluster(known: &BTreeMap<NodeId, Hello>, own: Hello, configured: &[NodeId]) -> bool {
    let no_cluster_yet = known.values().all(|hello| hello.cluster.is_none());
    no_cluster_yet && absent(known, own, configured).is_empty()
}

/// The configured nodes that are not known, or are configured with other members.
fn absent(known: &BTreeMap<NodeId, Hello>, own: Hello, configured: &[NodeId]) -> Vec<NodeId> {
    let alike = |id: &NodeId| known.get(id).is_some_and(|hello| hello.members == own.members);
    configured.iter().copied().filter(|id| *id != own.node && !alike(id)).collect()
}

fn from_leader(message: &Message) -> bool {
    matches!(message.kind, MessageType::Append | MessageType::Heartbeat | MessageType::Snapshot)
}

#[cfg(test)]
mod tests {
    use shared::ids::StoreId;
    use uuid::Uuid;

    use super::*;
    use crate::replica::Formats;

    fn hello(node: NodeId) -> Hello {
        Hello {
            node,
            store: StoreId(Uuid::from_u128(node.into())),
            cluster: None,
            fresh: true,
            members: 7,
            initial_voters: [0; MAX_NODES],
            your_store: None,
            formats: Formats::default(),
        }
    }

    fn begins(others: &[Hello]) -> bool {
        let known = others.iter().map(|hello| (hello.node, *hello)).collect();
        all_without_cluster(&known, hello(1), &[1, 2, 3])
    }

    #[test]
    fn a_cluster_begins_with_all_configured_nodes_and_with_no_fewer() {
        assert!(!begins(&[hello(2)]), "the third may have all the data");
        assert!(begins(&[hello(2), hello(3)]));
        assert!(!begins(&[hello(2), hello(4)]), "a stranger does not stand for it");
        assert!(
            !begins(&[hello(2), Hello { members: 8, ..hello(3) }]),
            "it is configured with other members"
        );
        let cluster = Some(ClusterId(Uuid::from_u128(9)));
        assert!(!begins(&[hello(2), Hello { cluster, ..hello(3) }]), "there is a cluster");
        assert!(begins(&[hello(2), Hello { fresh: false, ..hello(3) }]), "it has begun");
    }
}
