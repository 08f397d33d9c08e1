//! Retention: expired segments are deleted, and what is kept survives.

use std::time::Duration;

use anyhow::{Result, ensure};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::Compression;
use shared::ids::NodeId;
use tests::client::{Client, batch, produce_request};
use tests::cluster::Cluster;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
const VALUE: usize = 100_000;
/// Bytes to keep at least.
const KEPT: i64 = 2_000_000;

/// Number of the oldest segment on the node's disk.
fn oldest_segment(cluster: &Cluster, id: NodeId) -> Option<String> {
    let files = std::fs::read_dir(cluster.data_dir(id).join("log")).ok()?;
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".seg")).min()
}

fn write(cluster: &Cluster, leader: NodeId, numbers: std::ops::Range<i64>) -> Result<()> {
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    for number in numbers {
        let mut value = number.to_le_bytes().to_vec();
        value.resize(VALUE, b'x');
        let request = produce_request("t", 0, batch(&[&value], Compression::None)?);
        let response = client.call::<ProduceRequest>(9, &request)?;
        let code = response.responses[0].partition_responses[0].error_code;
        ensure!(code == 0, "error code {code}");
    }
    Ok(())
}

/// Checks that everything from the oldest offset to `end` is there, with the value that was written.
fn check(cluster: &Cluster, leader: NodeId, end: i64) -> Result<()> {
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    let oldest = client.list_offsets("t", 0, -2)?.map_err(|code| anyhow::anyhow!("error code {code}"))?;
    ensure!(oldest > 0 && (end - oldest) * VALUE as i64 >= KEPT, "kept from {oldest} to {end}");
    let mut next = oldest;
    while next < end {
        let (events, _) =
            client.fetch("t", 0, next)?.map_err(|code| anyhow::anyhow!("at {next}: error code {code}"))?;
        for event in events {
            ensure!(event.offset == next && event.value[..8] == next.to_le_bytes(), "offset {next}");
            next += 1;
        }
    }
    let gone = client.fetch("t", 0, oldest - 1)?.map(|_| ());
    ensure!(gone == Err(1), "offset {} is said to be there: {gone:?}", oldest - 1);
    Ok(())
}

#[test]
fn expired_segments_are_deleted_and_the_rest_survives_restarts() -> Result<()> {
    let extra = format!("    snapshot_interval: 5\n  topics:\n    retention_bytes: {KEPT}\n");
    let mut cluster = Cluster::start_with(3, &extra, &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 1)?;
    write(&cluster, leader, 0..50)?;
    let away = cluster.ids().into_iter().find(|id| *id != leader).unwrap_or_default();
    cluster.kill(away)?;
    write(&cluster, leader, 50..200)?;
    cluster.wait("old segments to leave the leader's disk", |cluster| {
        // Snapshots need entries.
        Client::connect(cluster.kafka(leader), LIMIT).ok()?.create_topic("u", 1).ok()?;
        (*oldest_segment(cluster, leader)? > *"0000000002").then_some(())
    })?;
    check(&cluster, leader, 200)?;

    // A node that was down comes back, and then leads.
    cluster.launch(away)?;
    cluster.wait_ready()?;
    let (code, body) = cluster.post(leader, "/cluster/leader/transfer", &format!("{{\"to\": {away}}}"))?;
    ensure!(code == 200, "{code} {body}");
    check(&cluster, cluster.wait_ready()?, 200)?;

    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for id in cluster.ids() {
        cluster.launch(id)?;
    }
    let leader = cluster.wait_ready()?;
    check(&cluster, leader, 200)
}
