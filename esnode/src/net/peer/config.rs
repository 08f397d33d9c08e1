//! The settings of a transport.

use std::net::SocketAddr;
use std::time::Duration;

use shared::ids::NodeId;

use super::Hello;

/// A peer's id, host and port.
pub type PeerAddress = (NodeId, String, u16);

/// The settings of a transport.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This node.
    pub node_id: NodeId,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Host and port at which the others reach this node.
    pub at: (String, u16),
    /// The nodes of the configuration. They are the members until the log says more, and connections to them are opened
    /// as long as they may be members.
    pub peers: Vec<PeerAddress>,
    /// What this node says of itself at first.
    pub hello: Hello,
    /// The base of time limits: a connection is closed after ten times this long without a byte, and opening one may
    /// take five times this long.
    pub rpc_timeout: Duration,
    /// Largest body of a frame, in bytes; larger messages are dropped.
    pub max_frame: usize,
}
