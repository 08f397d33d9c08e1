//! What nodes say of themselves when they connect.

use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::MAX_NODES;
use shared::version::Range;

use crate::state_machine::FIRST_FORMAT;

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
    /// CRC32C of the configured members' ids and addresses: fresh nodes bootstrap a cluster only with their like.
    pub members: u32,
    /// The voters that the cluster began with, filled up with 0; all 0 while it is not. Whoever joins begins with
    /// them, and the log tells how it went on.
    pub initial_voters: [NodeId; MAX_NODES],
    /// The data directory that the speaker's applied state binds the listener to, if it is bound. On the way out
    /// it is filled in for each listener.
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
