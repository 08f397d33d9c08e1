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
use shared::spec::MAX_NODES;

use super::input::Input;
use super::introductions::disowning;
use super::membership::ChangeError;
use crate::handle::{ProposeError, TransferError};
use crate::net::peer::{Hello, PeerEvent, RefusalCode};

/// How a node without a past got one.
#[derive(Debug)]
pub enum Founding {
    /// It founds a cluster together with a majority of the configured nodes.
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
        "this node's data directory is not the one that the cluster knows node {0} by: its disk was lost or replaced. \
         Its vote cannot be trusted. Remove node {0} from the cluster and add it again"
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
    while !majority_without_cluster(met, own, configured.len()) {
        match inputs.recv() {
            Err(_) | Ok(Input::Stop) => return Ok(Founding::Stopped),
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
        Input::Change(_, reply) => drop(reply.send(Err(ChangeError::NotLeader(None)))),
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
