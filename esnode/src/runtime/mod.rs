//! The threads around a [`Replica`]. They perform its effects and give it inputs, and decide nothing.
//!
//! The raft thread never waits for the disk or a peer. Work that takes time is done by another thread, whose result
//! returns as an [`Event`].

mod background_thread;
mod bootstrap;
mod clock;
mod discarder;
mod indexer;
mod leader_view;
mod log_reader;
mod log_scan;
mod node_log;
mod packer;
mod raft_thread;
mod snapshot_fetcher;
mod snapshot_writer;
mod step_stats;
pub mod stored_batches;
mod timekeeper;
mod waiter;
mod wakers;

use std::io;

pub use self::bootstrap::{JoinOutcome, find_cluster};
pub use self::indexer::Indexer;
pub use self::leader_view::LeaderView;
pub use self::node_log::NodeLog;
pub use self::packer::{Packer, Sizes, SnapshotStates};
pub use self::raft_thread::{Ended, RaftThread, Surroundings};
pub use self::snapshot_fetcher::Fetched;
pub use self::step_stats::{LongestSteps, StepStats};
pub use self::timekeeper::{Timekeeper, read_clocks};
pub use self::waiter::{Budget, Waiter};
pub use self::wakers::{GroupWakers, PartitionWakers};
use crate::net::peer::PeerEvent;
use crate::replica::{Environment, Input, Request};

/// The environment of a replica in a real node.
pub struct Threads;

impl Environment for Threads {
    type Log = NodeLog;
    type Waiter = Waiter;
    type Fetched = Fetched;
}

/// An event for the raft thread.
pub enum Event {
    /// An input of the replica.
    Input(Input<Threads>),
    /// An event of the transport.
    Peer(PeerEvent),
    /// The disk can no longer be trusted.
    DiskFailed(io::Error),
}

impl Event {
    /// Returns the event for a request and the one who waits for the response.
    pub fn request(request: Request, waiter: Waiter) -> Self {
        Self::Input(Input::Request(request, waiter))
    }
}
