//! A deterministic simulator: whole clusters of real replicas under a seeded clock, network and
//! disk. One seed decides everything, so a run that breaks a promise breaks it again when it is replayed.
//!
//! It knows nothing of threads, files or sockets; those have suites of their own.

pub mod arrival;
pub mod bugs;
pub mod checks;
pub mod client;
pub mod consumer;
pub mod disk;
pub mod env;
pub mod faults;
mod fetch;
mod identity;
pub mod log;
pub mod member;
pub mod network;
pub mod node;
pub mod operator;
mod performing;
pub mod pipeline;
pub mod reading;
pub mod records;
mod serving;
pub mod snapshot_file;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::bugs::Bug;
use self::checks::InvariantViolation;
use self::consumer::CONSUMER_GROUP;
use self::env::Event;
use self::member::GROUP;
use self::world::{Setup, World};

/// Simulated time, in microseconds.
pub type Micros = u64;

/// How long things go wrong in one run.
const TROUBLE: Micros = 15_000_000;

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Digest of everything that happened.
    pub digest: u64,
    /// Events handled: messages delivered, ticks, syncs, requests, answers and so on.
    pub steps: u64,
    /// Changes of the membership.
    pub changes: usize,
    /// Times that a node went on from another one's snapshot.
    pub installations: usize,
    /// Committed entries.
    pub commits: usize,
    /// Acknowledged records.
    pub acknowledged: usize,
    /// Terms that had a leader.
    pub elections: usize,
    /// Acknowledged commits of consumer groups.
    pub offset_commits: usize,
    /// Acknowledged transactions of the pipeline.
    pub transactions: usize,
}

/// Runs one seed: trouble, then progress with no more than a majority, then a cluster that must recover whole. A panic counts as a broken promise.
pub fn run(seed: u64, bug: Option<Bug>, print: bool) -> Result<Report, InvariantViolation> {
    run_in(&Setup { bug, print, ..Setup::seed(seed) })
}

/// [`run`], with more to say than the seed.
pub fn run_in(setup: &Setup) -> Result<Report, InvariantViolation> {
    let mut world = World::new(setup);
    let done = catch_unwind(AssertUnwindSafe(|| {
        world.many_clients();
        world.group_of(setup.members);
        world.pipeline_of(setup.instances);
        world.consumers(setup.consumers, if setup.members > 0 { GROUP } else { CONSUMER_GROUP });
        world.env.trouble = true;
        world.env.at(500_000, Event::Fault);
        world.run_for(TROUBLE)?;
        world.freeze()?;
        world.settle()
    }));
    let outcome = done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(InvariantViolation(format!("panic: {}", text.unwrap_or_default())))
    });
    let checks = &world.env.checks;
    // What chance would say next tells whether two runs drew alike all the way.
    let chance = world.env.rng.u64(..);
    outcome.map(|()| Report {
        digest: trace::mix(world.env.trace.digest(), chance),
        changes: checks.changes(),
        installations: checks.installations(),
        steps: world.env.trace.steps(),
        commits: checks.commits(),
        acknowledged: checks.acknowledged(),
        elections: checks.elections(),
        offset_commits: checks.offset_commits(),
        transactions: checks.transactions(),
    })
}
