//! A long log: restarting with it, catching up on it, and joining.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shared::api::Membership;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::{Cluster, MAX_WAIT};

use crate::events::fill;
use crate::floor::sequential_write;
use crate::spread::Spread;
use crate::{cluster, process};

/// Of events in the log, in all.
const LOG_MIB: usize = 4096;
/// Of them, written while one node is down.
const MISSED_MIB: usize = 1024;
const RECORD: usize = 1024;
const GATHERED: usize = 500;

/// Fills the log, restarts a follower, lets it miss a part and catch up under a client, and then adds a node.
pub fn measure(share: usize) -> Result<()> {
    let (mut cluster, leader) = cluster()?;
    let mut client = Client::connect(cluster.kafka(leader), MAX_WAIT)?;
    let gathered = |mebibytes: usize| (mebibytes << 20) / RECORD / GATHERED / share;
    fill(&mut client, RECORD, GATHERED, 8, gathered(LOG_MIB - MISSED_MIB))?;
    cluster.wait_ready()?;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap_or_default();
    cluster.stop(follower)?;
    let took = until_ready(&mut cluster, follower)?;
    println!("restart with {} MiB in the log: ready after {took:.2?}", (LOG_MIB - MISSED_MIB) / share);

    cluster.stop(follower)?;
    let alone = Spread::of(fill(&mut client, RECORD, 1, 1, 2000 / share)?);
    fill(&mut client, RECORD, GATHERED, 8, gathered(MISSED_MIB))?;
    let began = Instant::now();
    cluster.launch(follower)?;
    let mut during = Vec::new();
    while lags(&cluster, leader, follower)? {
        during.extend(fill(&mut client, RECORD, 1, 1, 20)?);
    }
    let missed = MISSED_MIB / share;
    let rate = missed as f64 * 1.048_576 / began.elapsed().as_secs_f64();
    println!(
        "catch-up on {missed} MiB: {rate:.0} MB/s; writing them alone: {:.0} MB/s",
        sequential_write(missed)?
    );
    println!("  leader's serial produce before: {alone}");
    println!("  leader's serial produce during: {}", Spread::of(during));
    println!("  RSS {} MiB", process::memory(&cluster)?);
    let log = LOG_MIB / share;
    let added = cluster.grow()?;
    take_in(&mut cluster, &mut client, (leader, added), log, "the disk that all share")?;
    let added = cluster.grow()?;
    if let Err(error) = cluster.limit_room(&[added], 2 * log as u64 + 100) {
        println!("no figures of a node with a disk of its own: {error:#}");
        return Ok(());
    }
    take_in(&mut cluster, &mut client, (leader, added), log, "a disk of its own, in memory")
}

/// Adds a node to a cluster with `log` MiB of events, under a client.
fn take_in(
    cluster: &mut Cluster,
    client: &mut Client,
    (leader, added): (NodeId, NodeId),
    log: usize,
    disk: &str,
) -> Result<()> {
    cluster.launch(added)?;
    let began = Instant::now();
    let (code, body) = cluster.post(leader, "/cluster/members", &cluster.join_request(added))?;
    ensure!(code == 200, "{body}");
    let (mut during, mut caught_up) = (Vec::new(), None);
    while !votes(cluster, leader, added)? {
        during.extend(fill(client, RECORD, 1, 1, 20)?);
        if caught_up.is_none() && !lags(cluster, leader, added)? {
            caught_up = Some(began.elapsed());
        }
    }
    let rate = log as f64 * 1.048_576 / caught_up.unwrap_or_else(|| began.elapsed()).as_secs_f64();
    println!("added node, {disk}: {log} MiB at {rate:.0} MB/s; it votes after {:.1?}", began.elapsed());
    println!("  leader's serial produce during: {}", Spread::of(during));
    println!("  RSS {} MiB", process::memory(cluster)?);
    Ok(())
}

fn votes(cluster: &Cluster, leader: NodeId, node: NodeId) -> Result<bool> {
    let peers = cluster.status(leader)?.peers;
    Ok(peers.iter().any(|peer| peer.id == node && peer.membership == Membership::Voter))
}

fn until_ready(cluster: &mut Cluster, node: NodeId) -> Result<Duration> {
    let began = Instant::now();
    cluster.launch(node)?;
    while !is_ready(cluster, node) {
        sleep(Duration::from_millis(5));
    }
    Ok(began.elapsed())
}

fn lags(cluster: &Cluster, leader: NodeId, follower: NodeId) -> Result<bool> {
    let wanted = cluster.status(leader)?.commit_index.saturating_sub(100);
    Ok(cluster.status(follower).map_or(0, |status| status.applied_index) < wanted)
}

/// A member that knows its leader and has applied close to what is committed.
fn is_ready(cluster: &Cluster, node: NodeId) -> bool {
    cluster.get(node, "/health/ready").is_ok_and(|(code, _)| code == 200)
}
