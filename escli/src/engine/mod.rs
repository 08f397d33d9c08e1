//! Runs any plan step by step: every step is journalled and verified, and Ctrl-C is handled. `ports` has the traits
//! through which the engine acts, and `observe` collects the facts that plans are made from. The engine knows nothing
//! of SSH, command lines or exit codes.

use std::time::{Duration, Instant};

use shared::spec::RaftTiming;

pub mod crash_log;
pub mod error;
pub mod event;
mod execute;
pub mod interrupt;
pub mod journal;
pub mod lock;
mod members;
pub mod observe;
pub mod outcome;
pub mod past;
pub mod ports;
mod soak;
mod step;

use event::Listener;
use interrupt::Interrupt;
use journal::Journal;
use ports::{ClusterFileStore, LeaseLost};

pub use execute::{Rescue, Run};

/// Time limits of steps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From a node's start to its first answer; it recovers its log in this time.
    pub live: Duration,
    /// Until a leader is elected, and until all nodes follow it.
    pub leader: Duration,
    /// Until a restarted node has caught up with the leader.
    pub catch_up: Duration,
    /// Until a node that was asked to stop has stopped.
    pub stop: Duration,
    /// Time between two polls.
    pub poll: Duration,
}

impl Limits {
    /// Returns the limits that follow from Raft's timing.
    pub fn of(raft: &RaftTiming) -> Self {
        Self {
            live: Duration::from_secs(60),
            leader: raft.elections(10, Duration::from_secs(30)),
            catch_up: raft.elections(10, Duration::from_secs(300)),
            stop: raft.elections(10, Duration::from_secs(30)),
            poll: Duration::from_millis(10),
        }
    }
}

/// Runs plans through ports.
pub struct Engine<'a, H, C> {
    /// The hosts of the nodes.
    pub hosts: &'a H,
    /// The nodes' admin API.
    pub cluster: &'a C,
    /// The cluster's own cluster.yaml.
    pub cluster_file: &'a dyn ClusterFileStore,
    /// Receives the events.
    pub listener: &'a dyn Listener,
    /// Where steps are recorded before they are performed.
    pub journal: &'a Journal,
    /// Counts Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// Returns the first lease that was lost; after that no step is started.
    pub lost: &'a dyn Fn() -> Option<LeaseLost>,
    /// When `--timeout` is over.
    pub deadline: Instant,
    /// Time limits of steps.
    pub limits: Limits,
    /// Number of voters.
    pub voters: usize,
    /// Number of steps of a stage that run at once.
    pub concurrency: usize,
}
