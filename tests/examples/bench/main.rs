//! Measures three real nodes on this machine, and beside them what disk and loopback can do at all.
//!
//! `cargo run --release -p tests --example bench -- [--quick] [floor|produce|consume|interleaved|failover
//! |restart|idle|partitions ...]`
//!
//! Everything without a name; each measurement has a cluster of its own. `--quick` takes a tenth of the
//! events.

mod events;
mod failover;
mod floor;
mod idle;
mod interleaved;
mod partitions;
mod process;
mod restart;
mod spread;

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::{Cluster, MAX_WAIT};
use tests::programs::binary;

/// One measurement; takes so small a share of the usual events as its argument says.
type Measure = fn(usize) -> Result<()>;

/// The topic that is written to; it has one partition.
const TOPIC: &str = "bench";

fn main() -> Result<()> {
    let (quick, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|arg| arg == "--quick");
    let share = if quick.is_empty() { 1 } else { 10 };
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let all: [(&str, Measure); 8] = [
        ("floor", floor::measure),
        ("produce", events::produce),
        ("consume", events::consume),
        ("interleaved", interleaved::measure),
        ("failover", failover::measure),
        ("restart", restart::measure),
        ("idle", idle::measure),
        ("partitions", partitions::measure),
    ];
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|(known, _)| known != name)) {
        bail!(
            "{unknown} is none of floor, produce, consume, interleaved, failover, restart, idle and partitions"
        );
    }
    println!("{}", process::machine()?);
    for (_, measure) in all.into_iter().filter(|(name, _)| wanted(name)) {
        measure(share)?;
    }
    Ok(())
}

/// Three nodes of the release build beside this program, with an empty topic; and the leader.
fn cluster() -> Result<(Cluster, NodeId)> {
    cluster_with("")
}

/// The same with `extra` at the end of each node's `cluster.yaml`.
fn cluster_with(extra: &str) -> Result<(Cluster, NodeId)> {
    let here = binary("examples/bench");
    let program: PathBuf = here.ancestors().nth(2).map(|target| target.join("esnode")).unwrap_or_default();
    let cluster = Cluster::start_with(3, extra, &program)?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), MAX_WAIT)?.create_topic(TOPIC, 1)?;
    if code != 0 {
        bail!("cannot create the topic: error code {code}");
    }
    Ok((cluster, leader))
}
