//! Runs any plan, step by step: journalled, proved, interruptible. `ports` is what it needs of the world, `observe` gathers
//! the facts that plans are made from. It knows plans and ports, and neither transports, command lines nor exit codes.

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

/// How long the steps may take, each on its own.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From a node's start to its first answer; it recovers its log in this time.
    pub live: Duration,
    /// Until there is a leader, and until all follow it.
    pub leader: Duration,
    /// Until a node that was started again has what the leader has.
    pub catch_up: Duration,
    /// From asking a node to end to its end.
    pub stop: Duration,
    /// Between two polls.
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
    /// The machines.
    pub hosts: &'a H,
    /// The admin API.
    pub cluster: &'a C,
    /// The cluster's own cluster.yaml.
    pub cluster_file: &'a dyn ClusterFileStore,
    /// Who is told.
    pub listener: &'a dyn Listener,
    /// Where it is written down first.
    pub journal: &'a Journal,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// Returns the first lease that was lost: then no further step is started.
    pub lost: &'a dyn Fn() -> Option<LeaseLost>,
    /// When `--timeout` is over.
    pub deadline: Instant,
    /// How long the steps may take.
    pub limits: Limits,
    /// Members that vote.
    pub voters: usize,
    /// How many steps of a stage run at once.
    pub concurrency: usize,
}
