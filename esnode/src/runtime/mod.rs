//! The threads around a [`Replica`]: they turn its effects into IO and IO into its inputs, and decide nothing.
//!
//! The raft thread never waits for the disk or a peer. Whatever takes time is handed to a thread of its own and comes back
//! as an [`Event`].

mod bootstrap;
mod clock;
mod leader_view;
mod log_reader;
mod node_log;
mod raft_thread;
mod snapshot_fetcher;
mod snapshot_writer;
mod timekeeper;
mod waiter;
mod wakers;

use std::io;

pub use self::bootstrap::{JoinOutcome, find_cluster};
pub use self::leader_view::LeaderView;
pub use self::node_log::NodeLog;
pub use self::raft_thread::{Ended, RaftThread, Surroundings};
pub use self::snapshot_fetcher::Fetched;
pub use self::timekeeper::{Timekeeper, read_clocks};
pub use self::waiter::{Budget, Waiter};
pub use self::wakers::{GroupWakers, PartitionWakers};
use crate::net::peer::PeerEvent;
use crate::replica::{Environment, Input, Request};

/// A node as the surroundings of a replica.
pub struct Threads;

impl Environment for Threads {
    type Log = NodeLog;
    type Waiter = Waiter;
    type Fetched = Fetched;
}

/// What reaches the raft thread.
pub enum Event {
    /// An input of the replica.
    Input(Input<Threads>),
    /// Something from the transport.
    Peer(PeerEvent),
    /// The disk can no longer be trusted.
    DiskFailed(io::Error),
}

impl Event {
    /// A request, and who waits for the response.
    pub fn request(request: Request, waiter: Waiter) -> Self {
        Self::Input(Input::Request(request, waiter))
    }
}
