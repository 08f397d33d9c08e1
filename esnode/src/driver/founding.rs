//! What a node without a past does: found a cluster with its like, or wait until the cluster takes it in.
//!
//! Fresh nodes that are configured alike found a cluster when a majority of them meets. All start Raft from the
//! same members, so whoever wins the first election leads a proper cluster and gives it its identity. A fresh node
//! that meets an existing cluster waits until the leader speaks Raft with it: the leader does so only after it has
//! bound the node to this data directory.

use std::collections::BTreeMap;

use crossbeam_channel::Receiver;
use raft::eraftpb::{Message, MessageType};
use shared::ids::{ClusterId, NodeId};

use super::input::Input;
use crate::handle::{ProposeError, TransferError};
use crate::net::peer::{Hello, PeerEvent};

/// How a node without a past got one.
#[derive(Debug)]
pub enum Founding {
    /// It founds a cluster together with a majority of the configured nodes.
    Founded,
    /// A cluster takes it in.
    Joined(ClusterId),
    /// It was told to stop first.
    Stopped,
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster knows this node with another data directory.
    #[error(
        "this node's data directory is not the one that the cluster knows node {0} by: its disk was lost or replaced. \
         Its vote cannot be trusted. Remove node {0} from the cluster and add it again"
    )]
    WrongStore(NodeId),
    /// The members it is configured with are not those of the nodes it meets.
    #[error(
        "node {0} is configured with other members than this node: give every node the same `cluster.nodes`"
    )]
    OtherMembers(NodeId),
}

/// Waits until this fresh node has a cluster. `own` is what it says of itself; `met` collects what the others say.
pub fn found_or_join(
    inputs: &Receiver<Input>,
    own: Hello,
    cluster_size: usize,
    met: &mut BTreeMap<NodeId, Hello>,
) -> Result<Founding, JoinError> {
    let mut warned = false;
    while !majority_without_cluster(met, own, cluster_size) {
        match inputs.recv() {
            Err(_) | Ok(Input::Stop) => return Ok(Founding::Stopped),
            Ok(Input::Peer(PeerEvent::Hello(hello))) => {
                if hello.your_store.is_some_and(|store| store != own.store) {
                    return Err(JoinError::WrongStore(own.node));
                }
                if hello.members != own.members && !std::mem::replace(&mut warned, true) {
                    tracing::warn!("{}", JoinError::OtherMembers(hello.node));
                }
                met.insert(hello.node, hello);
            }
            Ok(Input::Peer(PeerEvent::Messages(from, messages))) => {
                let cluster = met
                    .get(&from)
                    .filter(|hello| hello.members == own.members)
                    .and_then(|hello| hello.cluster);
                if let Some(cluster) = cluster.filter(|_| messages.iter().any(from_leader)) {
                    return Ok(Founding::Joined(cluster));
                }
            }
            Ok(other) => decline(other),
        }
    }
    Ok(Founding::Founded)
}

fn majority_without_cluster(met: &BTreeMap<NodeId, Hello>, own: Hello, cluster_size: usize) -> bool {
    let no_cluster_yet = met.values().all(|hello| hello.cluster.is_none());
    let alike = met.values().filter(|hello| hello.members == own.members).count();
    no_cluster_yet && alike + 1 > cluster_size / 2
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
        Input::Transfer { reply, .. } => drop(reply.send(Err(TransferError::NotLeader(None)))),
        Input::Peer(_)
        | Input::Persisted(_)
        | Input::DiskFailed(_)
        | Input::Checkpointed(_)
        | Input::Pulled(_)
        | Input::Fetched(..)
        | Input::Stop => {}
    }
}
