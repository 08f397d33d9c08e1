//! The gap that a leader's death leaves.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::{Cluster, MAX_WAIT};

use crate::spread::Spread;
use crate::{TOPIC, cluster};

const KILLS: usize = 20;

/// Kills the leader again and again under a client that tries every 5 ms.
pub fn measure(share: usize) -> Result<()> {
    let (mut cluster, _) = cluster()?;
    let mut gaps = Vec::new();
    for _ in 0..KILLS.div_ceil(share) {
        let leader = cluster.wait_ready()?;
        sleep(Duration::from_millis(300 + fastrand::u64(..200)));
        Client::connect(cluster.kafka(leader), MAX_WAIT)?.produce(TOPIC, 0, b"before")?.ok();
        cluster.kill(leader)?;
        gaps.push(until_acknowledged(&cluster, leader));
        cluster.launch(leader)?;
    }
    println!("leader killed to first acknowledged write, {} times: {}", gaps.len(), Spread::of(gaps));
    Ok(())
}

fn until_acknowledged(cluster: &Cluster, dead: NodeId) -> Duration {
    let died = Instant::now();
    let survivors: Vec<_> = cluster.ids().into_iter().filter(|id| *id != dead).collect();
    let takes = |id: &NodeId| {
        Client::connect(cluster.kafka(*id), Duration::from_millis(100))
            .and_then(|mut client| client.produce(TOPIC, 0, b"after"))
            .is_ok_and(|outcome| outcome.is_ok())
    };
    while !survivors.iter().any(takes) {
        sleep(Duration::from_millis(5));
    }
    died.elapsed()
}
