//! What a node without a past does: found a cluster with its like, or wait until the cluster takes it in.
//!
//! Fresh nodes that are configured alike found a cluster when all of them have met. All start Raft from the same members,
//! so whoever wins the first election leads a proper cluster and gives it its identity. A majority would do for Raft, but
//! not for the operator: two disks that were lost, of a cluster whose third node is away with all the data, would found an
//! empty cluster in its place. A fresh node that meets an existing cluster waits until the leader speaks Raft with it: the
//! leader does so only after it has bound the node to this data directory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use raft::eraftpb::{Message, MessageType};
use shared::ids::{ClusterId, NodeId};
use shared::spec::MAX_NODES;

use super::formats::FormatError;
use super::input::Input;
use super::introductions::disowning;
use super::membership::ChangeError;
use crate::net::peer::{Hello, PeerEvent, RefusalCode};
use crate::node::handle::{ProposeError, TransferError};

/// How a node without a past got one.
#[derive(Debug)]
pub enum Founding {
    /// It founds a cluster together with all the other configured nodes.
    Founded,
    /// A cluster that was founded with these voters, and whose data is in this on-disk format, takes it in.
    Joined(ClusterId, [NodeId; MAX_NODES], u16),
    /// It was told to stop first.
    Stopped,
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

/// How long the others may take before the log says who is waited for, and how often it says so.
const WAIT_IS_SAID: Duration = Duration::from_secs(5);

/// Waits until this fresh node has a cluster. `own` is what it says of itself, `configured` are the nodes of its
/// configuration; `met` collects what the others say.
pub fn found_or_join(
    inputs: &Receiver<Input>,
    own: Hello,
    configured: &[NodeId],
    met: &mut BTreeMap<NodeId, Hello>,
) -> Result<Founding, JoinError> {
    let mut said = None;
    let mut complain = |problem: JoinError| {
        let text = Some(problem.to_string());
        if text != said {
            tracing::warn!("{problem}");
            said = text;
        }
    };
    let mut say_at = Instant::now() + WAIT_IS_SAID;
    while !all_without_cluster(met, own, configured) {
        match inputs.recv_deadline(say_at) {
            Err(RecvTimeoutError::Timeout) => {
                say_at = Instant::now() + WAIT_IS_SAID;
                say_who_is_waited_for(met, own, configured);
            }
            Err(RecvTimeoutError::Disconnected) | Ok(Input::Stop) => return Ok(Founding::Stopped),
            Ok(Input::Peer(PeerEvent::Hello(hello))) => {
                met.insert(hello.node, hello);
                match disowning(met.values(), own.store) {
                    0 if hello.cluster.is_none() && hello.members != own.members => {
                        complain(JoinError::OtherMembers(hello.node));
                    }
                    0 => {}
                    // One of them alone may not have heard yet that the node with that directory was removed.
                    few if few * 2 < configured.len() => complain(JoinError::WrongStore(own.node)),
                    _ => return Err(JoinError::WrongStore(own.node)),
                }
            }
            Ok(Input::Peer(PeerEvent::Messages(from, messages))) => {
                let hello = met.get(&from).filter(|hello| hello.founders[0] != 0);
                let cluster = hello.and_then(|hello| Some((hello.cluster?, hello)));
                if let Some((cluster, hello)) = cluster.filter(|_| messages.iter().any(from_leader)) {
                    return Ok(Founding::Joined(cluster, hello.founders, hello.formats.active));
                }
            }
            Ok(Input::Peer(PeerEvent::Refused(peer, refused)))
                if refused.code == RefusalCode::Removed && configured.contains(&peer) =>
            {
                return Err(JoinError::Removed(own.node));
            }
            Ok(other) => decline(other),
        }
    }
    Ok(Founding::Founded)
}

/// Whether every configured node was met, is configured alike, and has no cluster either. One that is not fresh any more
/// has met all the others and has begun.
fn all_without_cluster(met: &BTreeMap<NodeId, Hello>, own: Hello, configured: &[NodeId]) -> bool {
    let no_cluster_yet = met.values().all(|hello| hello.cluster.is_none());
    no_cluster_yet && absent(met, own, configured).is_empty()
}

/// The configured nodes that were not met, or are configured with other members.
fn absent(met: &BTreeMap<NodeId, Hello>, own: Hello, configured: &[NodeId]) -> Vec<NodeId> {
    let alike = |id: &NodeId| met.get(id).is_some_and(|hello| hello.members == own.members);
    configured.iter().copied().filter(|id| *id != own.node && !alike(id)).collect()
}

fn say_who_is_waited_for(met: &BTreeMap<NodeId, Hello>, own: Hello, configured: &[NodeId]) {
    match met.values().find_map(|hello| hello.cluster) {
        Some(cluster) => tracing::warn!(
            "this node's data directory is empty, and it waits to be taken into cluster {cluster}. If it was a member before, \
             its disk is lost, or not mounted"
        ),
        None => tracing::warn!(
            nodes = ?absent(met, own, configured),
            "this node's data directory is empty, and it waits for these nodes: a new cluster is founded only when all of \
             cluster.nodes have met. If there was a cluster before, its disk is lost, or not mounted"
        ),
    }
}

fn from_leader(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
    )
}

/// Answers what a node without a cluster cannot do.
fn decline(input: Input) {
    match input {
        Input::Propose(proposal) => drop(proposal.reply.send(Err(ProposeError::NotLeader(None)))),
        Input::ReadBarrier(reply) => drop(reply.send(Err(ProposeError::NotLeader(None)))),
        Input::Status(reply) => drop(reply.send(None)),
        Input::Change(_, reply) => drop(reply.send(Err(ChangeError::NotLeader(None)))),
        Input::RaisableFormat(_, reply) => drop(reply.send(Err(FormatError::NotLeader(None)))),
        Input::Transfer { reply, .. } => drop(reply.send(Err(TransferError::NotLeader(None)))),
        Input::Peer(_)
        | Input::Persisted(_)
        | Input::DiskFailed(_)
        | Input::Checkpoint
        | Input::Checkpointed(_)
        | Input::Pulled(_)
        | Input::Fetched(..)
        | Input::Stop => {}
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::StoreId;
    use uuid::Uuid;

    use super::*;
    use crate::net::peer::Formats;

    fn hello(node: NodeId) -> Hello {
        Hello {
            node,
            store: StoreId(Uuid::from_u128(node.into())),
            cluster: None,
            fresh: true,
            members: 7,
            founders: [0; MAX_NODES],
            your_store: None,
            formats: Formats::default(),
        }
    }

    fn founds(others: &[Hello]) -> bool {
        let met = others.iter().map(|hello| (hello.node, *hello)).collect();
        all_without_cluster(&met, hello(1), &[1, 2, 3])
    }

    #[test]
    fn a_cluster_is_founded_by_all_configured_nodes_and_by_nobody_less() {
        assert!(!founds(&[hello(2)]), "the third may have all the data");
        assert!(founds(&[hello(2), hello(3)]));
        assert!(!founds(&[hello(2), hello(4)]), "a stranger does not stand for it");
        assert!(
            !founds(&[hello(2), Hello { members: 8, ..hello(3) }]),
            "it is configured with other members"
        );
        let cluster = Some(ClusterId(Uuid::from_u128(9)));
        assert!(!founds(&[hello(2), Hello { cluster, ..hello(3) }]), "there is a cluster");
        assert!(founds(&[hello(2), Hello { fresh: false, ..hello(3) }]), "it has begun");
    }
}
