//! The peer transport: one TCP connection per direction between every two nodes.
//!
//! Every node dials every peer; the dialled connection carries Raft messages from dialler to listener, and only
//! introductions and signs of life the other way. Blocking threads, not an async runtime: an election must not
//! wait for clients. It carries messages and knows nothing of Raft's rules: what may be lost, may be lost.
//!
//! Nobody is authenticated here. What a node hears comes from where it would dial itself: a connection that names a peer
//! is believed once the peer, asked on the connection that this node has dialled, says that it is its own ([`claims`]).

mod accept;
mod claims;
mod codec;
mod dial;
mod files;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod handshake;
mod inbox;
mod known;
mod link;
mod queue;
mod strangers;
#[cfg(test)]
mod tests;
mod transport;

use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::MAX_NODES;
use shared::version::Range;

use crate::state_machine::FIRST_FORMAT;
pub use files::{Files, Source};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::{fuzz, mended};
pub use handshake::{RefusalCode, Refused};
pub use inbox::Messages;
pub use link::PeerStats;
pub use transport::{PeerAddress, Transport, TransportConfig};

/// What a node says of itself when it connects, and answers when it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Its cluster, once it belongs to one.
    pub cluster: Option<ClusterId>,
    /// Whether its data directory has ever taken part in Raft.
    pub fresh: bool,
    /// CRC32C of the configured members' ids and addresses: fresh nodes found a cluster only with their like.
    pub members: u32,
    /// The voters that the cluster was founded with, filled up with 0; all 0 while it is not. Whoever joins begins with
    /// them, and the log tells how it went on.
    pub founders: [NodeId; MAX_NODES],
    /// The data directory that the speaker's applied state binds the listener to, if it is bound. On the way out
    /// it is filled in for each listener from [`Transport::set_bindings`].
    pub your_store: Option<StoreId>,
    /// On-disk formats.
    pub formats: Formats,
}

/// Which on-disk formats a node reads, and which one its data directory is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Versions that its program reads.
    pub reads: Range,
    /// What its data directory says: durable there before it stands here.
    pub active: u16,
}

impl Default for Formats {
    /// What a program reads and writes that does not say.
    fn default() -> Self {
        Self { reads: Range { min: FIRST_FORMAT, max: FIRST_FORMAT }, active: FIRST_FORMAT }
    }
}

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
