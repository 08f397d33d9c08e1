//! Full disks.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::{DeleteTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::programs::binary;

use super::{EVENT, LIMIT, SMALL, check_and_stop, disk_problem, produce, produce_somewhere, started};

/// Writes until the disks of `full` are full.
fn fill(cluster: &Cluster, full: &[NodeId], written: &mut Vec<Vec<u8>>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while full.iter().any(|id| disk_problem(cluster, *id).is_none_or(|said| !said.contains("full"))) {
        ensure!(Instant::now() < deadline, "{full:?} are not full, or do not say so");
        let value = [format!("{} ", written.len()).as_bytes(), &[b'x'; EVENT]].concat();
        if cluster.leader().is_some_and(|leader| produce(cluster, leader, &value).is_ok()) {
            written.push(value);
        }
    }
    Ok(())
}

/// Fills the disks of some nodes, then gives them more room.
fn fill_and_make_room(few: impl Fn(NodeId, &[NodeId]) -> Vec<NodeId>, goes_on: bool) -> Result<()> {
    let mut cluster = Cluster::prepare(3, SMALL, &binary("esnode"))?;
    let all = cluster.ids();
    cluster.limit_room(&all, 400)?;
    let (cluster, leader) = started(cluster)?;
    let full = few(leader, &all);
    full.iter().try_for_each(|id| cluster.give_room(*id, 24))?;
    let mut written = Vec::new();
    fill(&cluster, &full, &mut written)?;
    if goes_on {
        written.push(b"with a full disk somewhere".to_vec());
        produce_somewhere(&cluster, &written[written.len() - 1])?;
    }
    for id in &full {
        cluster.wait("its log to report the full disk", |cluster| {
            cluster.log(*id).contains("the disk is almost full").then_some(())
        })?;
        cluster.give_room(*id, 400)?;
    }
    written.push(b"with room".to_vec());
    produce_somewhere(&cluster, &written[written.len() - 1])?;
    cluster.wait("all to be ready", |cluster| {
        all.iter()
            .all(|id| cluster.get(*id, "/health/ready").is_ok_and(|(code, _)| code == 200))
            .then_some(())
    })?;
    check_and_stop(cluster, &written)
}

#[test]
fn a_follower_with_a_full_disk_waits_for_room() -> Result<()> {
    fill_and_make_room(|leader, all| all.iter().copied().find(|id| *id != leader).into_iter().collect(), true)
}

#[test]
fn a_leader_with_a_full_disk_steps_down_and_waits_for_room() -> Result<()> {
    fill_and_make_room(|leader, _| vec![leader], true)
}

#[test]
fn a_cluster_without_room_goes_on_once_there_is_some() -> Result<()> {
    fill_and_make_room(|_, all| all.to_vec(), false)
}

/// Deletes a topic on full disks, which frees them, so that events are accepted again.
fn delete_on_full_disks(few: impl Fn(NodeId, &[NodeId]) -> Vec<NodeId>) -> Result<()> {
    // No snapshot is due yet by the number of entries.
    let mut cluster = Cluster::prepare(3, "    segment_mb: 4\n", &binary("esnode"))?;
    let all = cluster.ids();
    cluster.limit_room(&all, 400)?;
    let (mut cluster, leader) = started(cluster)?;
    let full = few(leader, &all);
    full.iter().try_for_each(|id| cluster.give_room(*id, 40))?;
    fill(&cluster, &full, &mut Vec::new())?;
    let code = cluster.wait("events to be refused", |cluster| {
        Client::connect(cluster.kafka(cluster.leader()?), LIMIT).ok()?.produce("t", 0, b"no room").ok()?.err()
    })?;
    ensure!(RETRIABLE.contains(&code), "error code {code}");
    let began = Instant::now();
    let any = cluster.leader().map_or(1, |leader| leader % 3 + 1);
    let names = vec![TopicName(StrBytes::from_static_str("t"))];
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(5000);
    let answer = Client::connect(cluster.kafka(any), Duration::from_secs(10))?
        .call::<DeleteTopicsRequest>(4, &request)?;
    ensure!(answer.responses[0].error_code == 0, "{answer:?}");
    cluster.wait("events to be accepted again", |cluster| {
        let mut client = Client::connect(cluster.kafka(cluster.leader()?), LIMIT).ok()?;
        let known = matches!(client.create_topic("t", 1).ok()?, 0 | 36);
        (known && client.produce("t", 0, b"with room").ok()?.is_ok()).then_some(())
    })?;
    let took = began.elapsed();
    println!("{full:?} were full: events are accepted {took:.2?} after a DeleteTopics");
    ensure!(took < Duration::from_secs(10), "{took:?}");
    // Their logs no longer begin at the first entry, so they are not compared.
    cluster.stop_all()
}

#[test]
fn a_full_cluster_serves_again_after_a_topic_was_deleted() -> Result<()> {
    delete_on_full_disks(|_, all| all.to_vec())
}

#[test]
fn two_full_disks_of_three_refuse_events_and_deleting_frees_them() -> Result<()> {
    delete_on_full_disks(|leader, all| all.iter().copied().filter(|id| *id != leader).collect())
}

/// Error codes after which Kafka clients try again: leader not available, not the leader, timed out, storage
/// error.
const RETRIABLE: [i16; 4] = [5, 6, 7, 56];

#[test]
fn a_full_cluster_refuses_with_a_retriable_error_and_stops_cleanly() -> Result<()> {
    let mut cluster = Cluster::prepare(3, SMALL, &binary("esnode"))?;
    let all = cluster.ids();
    cluster.limit_room(&all, 24)?;
    let (mut cluster, _) = started(cluster)?;
    let mut written = Vec::new();
    fill(&cluster, &all, &mut written)?;
    // After two seconds the disk would count as stalled.
    std::thread::sleep(Duration::from_millis(2500));
    for id in &all {
        let code = Client::connect(cluster.kafka(*id), LIMIT)?.produce("t", 0, b"no room")?;
        ensure!(code.is_err_and(|code| RETRIABLE.contains(&code)), "node {id} answers {code:?}");
        let (code, body) = cluster.get(*id, "/health/ready")?;
        ensure!(code == 503 && body.contains("full"), "node {id} reports {code}: {body}");
    }
    let config = cluster.config(1);
    let escli = |command: &str| Command::new(binary("escli")).arg("-c").arg(&config).arg(command).output();
    let (health, alerts) = (escli("health")?, escli("alerts")?);
    let said = String::from_utf8_lossy(&health.stdout);
    // Some may not have come to the end of a segment.
    let told = said.contains("UNAVAILABLE") && said.contains("full on n");
    ensure!(health.status.code() == Some(10) && told, "{said}");
    let said = String::from_utf8_lossy(&alerts.stdout);
    ensure!(!alerts.status.success() && said.contains("write failure"), "{said}");
    for id in &all {
        let began = Instant::now();
        ensure!(cluster.stop(*id)?, "node {id} did not stop cleanly: {}", cluster.log(*id));
        ensure!(began.elapsed() < Duration::from_secs(5), "node {id} took {:?} to stop", began.elapsed());
    }
    // The nodes also start without room, and go on once there is some.
    cluster.launch_all()?;
    all.iter().try_for_each(|id| cluster.give_room(*id, 400))?;
    written.push(b"with room".to_vec());
    produce_somewhere(&cluster, &written[written.len() - 1])?;
    check_and_stop(cluster, &written)
}
