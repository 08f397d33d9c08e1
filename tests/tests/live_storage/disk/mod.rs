//! Disks that fail, are slow, stall, are full or damaged: nothing acknowledged is lost, nothing damaged is
//! served, and the reason is reported.

mod corruption;
mod failing;
mod full;

use anyhow::{Result, ensure};
use shared::api::Health;
use shared::ids::NodeId;
use std::time::Duration;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::logs::stop_and_compare;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(2);
/// Small enough that there are soon several segments, and snapshots between them.
const SMALL: &str = "    snapshot_interval: 50\n    segment_mb: 4\n";
const EVENT: usize = 256 << 10;

/// Starts the nodes and creates topic `t`. Returns the leader too.
fn started(mut cluster: Cluster) -> Result<(Cluster, NodeId)> {
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 1)?;
    ensure!(code == 0, "no topic: error code {code}");
    Ok((cluster, leader))
}

fn three() -> Result<(Cluster, NodeId)> {
    started(Cluster::prepare(3, SMALL, &binary("esnode"))?)
}

fn produce(cluster: &Cluster, node: NodeId, value: &[u8]) -> Result<i64> {
    let outcome = Client::connect(cluster.kafka(node), LIMIT)?.produce("t", 0, value)?;
    outcome.map_err(|code| anyhow::anyhow!("error code {code}"))
}

/// Writes one event, to whichever node leads.
fn produce_somewhere(cluster: &Cluster, value: &[u8]) -> Result<i64> {
    cluster.wait("an acknowledged write", |cluster| produce(cluster, cluster.leader()?, value).ok())
}

/// Returns what the node's readiness says of its disk.
fn disk_problem(cluster: &Cluster, id: NodeId) -> Option<String> {
    let (_, body) = cluster.get(id, "/health/ready").ok()?;
    let health: Health = serde_json::from_str(&body).ok()?;
    health.reasons.into_iter().find(|reason| reason.starts_with("disk: ") && !health.ok)
}

/// Checks that every event of `wanted` is there, in order, and that the nodes stop cleanly with the same
/// logs.
fn check_and_stop(mut cluster: Cluster, wanted: &[Vec<u8>]) -> Result<()> {
    let leader = cluster.wait_ready()?;
    let events = Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?;
    let mut read = events.iter().map(|event| &event.value[..]);
    // Events that were not acknowledged may be there too.
    ensure!(wanted.iter().all(|value| read.any(|read| read == value)), "an acknowledged event is missing");
    stop_and_compare(&mut cluster)
}
