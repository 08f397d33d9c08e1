//! The peer transport: one TCP connection per direction between every two nodes.
//!
//! Every node dials every peer; the dialled connection carries Raft messages from dialler to listener, and only
//! Hellos and signs of life the other way. Blocking threads, not an async runtime: an election must not
//! wait for clients. It carries messages and knows nothing of Raft's rules: what may be lost, may be lost.
//!
//! Nobody is authenticated here. What a node hears comes from where it would dial itself: a connection that names a
//! peer is believed once the peer, asked on the connection that this node has dialled, says that it is its own
//! ([`claims`]).

mod accept;
mod claims;
mod codec;
mod config;
mod dial;
mod files;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod greeting;
mod handshake;
mod inbox;
mod known;
mod link;
mod queue;
mod refusal;
mod refused;
mod shared_state;
mod strangers;
#[cfg(test)]
mod tests;
mod transport;

use shared::ids::NodeId;

use crate::replica::{Formats, Hello};
pub use config::{PeerAddress, TransportConfig};
pub use files::Files;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::{fuzz, mended};
pub use inbox::Messages;
pub use link::PeerStats;
pub use refused::{RefusalCode, Refused};
pub use transport::Transport;

/// What the transport tells the node.
#[derive(Debug)]
pub enum PeerEvent {
    /// A peer introduced itself (on either side's connection; again whenever it changes).
    Hello(Hello),
    /// Raft messages from a peer, on a connection that it says is its own.
    Messages(NodeId, Messages),
    /// Our connection to the peer is up, and the peer hears us.
    Connected(NodeId),
    /// Our connection to the peer is gone.
    Disconnected(NodeId),
    /// Our connection to the peer was refused, by it or by us. Told once, not at every retry.
    Refused(NodeId, Refused),
}
