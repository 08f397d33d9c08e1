//! The peer transport: one TCP connection per direction between every two nodes.
//!
//! Threads of its own and blocking sockets, not tokio: a hop costs one wake-up, and no load of clients can delay a
//! heartbeat. Knows Raft's messages as things to carry, not what they mean.

mod codec;
mod connection;
mod handshake;
mod listener;
mod outbox;
mod transport;

use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId, StoreId};

pub use handshake::{Refused, RefusedCode};
pub use transport::{PeerStats, Transport, TransportConfig};

/// What a node says of itself when it connects, and answers when it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who speaks.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Its cluster, once it belongs to one.
    pub cluster: Option<ClusterId>,
    /// Whether its data directory has never taken part in Raft.
    pub fresh: bool,
    /// CRC32C of the configured members' ids and addresses: fresh nodes found a cluster only with their like.
    pub members: u32,
    /// The data directory that the speaker's applied state binds the listener to, if it is bound.
    pub your_store: Option<StoreId>,
}

/// What the transport tells the node.
#[derive(Debug)]
pub enum PeerEvent {
    /// A peer introduced itself (on either side's connection; again whenever it changes).
    Hello(Hello),
    /// Raft messages from a peer whose Hello was accepted.
    Messages(NodeId, Vec<raft::eraftpb::Message>),
    /// Our connection to the peer is up.
    Connected(NodeId),
    /// Our connection to the peer is gone.
    Disconnected(NodeId),
    /// The peer does not talk with us, or we not with it.
    Refused(NodeId, Refused),
}
