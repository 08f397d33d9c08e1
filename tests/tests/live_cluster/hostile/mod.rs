//! Hostile clients against running nodes. Meanwhile an honest client is served, memory stays bounded, and
//! nothing acknowledged is lost.

mod clients;
mod limits;
mod peers;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::hostile::{HonestClient, Served, memory};
use tests::load::history::LoadHistory;

const LIMIT: Duration = Duration::from_secs(5);
/// Limit for the 99th percentile of honest requests, on a machine that others use as well.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

fn nodes(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect()
}

/// Checks that the topic holds what the honest client was told, and that every node is ready.
fn check_unharmed(cluster: &Cluster, topic: &str, served: Served) -> Result<()> {
    ensure!(served.percentile(99) < SERVED_WITHIN, "the honest client was not served: {served}");
    let mut history = LoadHistory::default();
    history.extend(served.writes, Vec::new(), Vec::new());
    let leader = cluster.wait_ready()?;
    history.check(Client::connect(cluster.kafka(leader), LIMIT)?.read_all(topic, 0)?)?;
    for id in cluster.ids() {
        let (code, body) = cluster.get(id, "/health/ready")?;
        ensure!(code == 200, "node {id} is not ready: {body}");
    }
    Ok(())
}

/// Runs `attack_it` while an honest client is served, prints what that cost the client and the nodes, and
/// checks that no harm was done.
fn under_attack(cluster: &Cluster, what: &str, attack_it: impl FnOnce() -> Result<()>) -> Result<()> {
    let pid = |id: NodeId| cluster.os_pid(id);
    let before: Vec<_> = cluster.ids().into_iter().map(|id| memory(pid(id))).collect::<Result<_>>()?;
    let topic = format!("honest-{what}");
    let honest = HonestClient::start(nodes(cluster), &topic)?;
    let began = Instant::now();
    attack_it()?;
    let took = began.elapsed();
    let served = honest.finish()?;
    let after: Vec<_> = cluster.ids().into_iter().map(|id| memory(pid(id))).collect::<Result<_>>()?;
    println!("{what}: {took:.1?}; {served}");
    for (id, (before, after)) in cluster.ids().into_iter().zip(before.iter().zip(&after)) {
        println!("  node {id}: {} MiB before, {} MiB after, {} MiB at most", before.0, after.0, after.1);
    }
    check_unharmed(cluster, &topic, served)
}
