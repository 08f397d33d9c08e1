//! How a transport is set up.

use std::net::SocketAddr;
use std::time::Duration;

use shared::ids::NodeId;

use super::Hello;

/// A peer's id, host and port.
pub type PeerAddress = (NodeId, String, u16);

/// How a transport is set up.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This node.
    pub node_id: NodeId,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// Host and port at which the others reach this node.
    pub at: (String, u16),
    /// The nodes of the configuration: the members until the log says more, and dialled for as long as they may be some.
    pub peers: Vec<PeerAddress>,
    /// What this node says of itself at first.
    pub hello: Hello,
    /// A connection that brought nothing for ten times as long is dead, and an attempt to connect has five times.
    pub rpc_timeout: Duration,
    /// Largest body of a frame, in bytes; a message above it is dropped.
    pub max_frame: usize,
}
