//! Packs: topics that share segments leave the disk one by one, and what is kept is read as before, wherever it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use kafka_protocol::messages::{DeleteTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::logs::stop_and_compare;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
const SMALL: &str = "    snapshot_interval: 20\n    segment_mb: 2\n";
const PARTITIONS: i32 = 4;
const ROUNDS: i64 = 60;
/// Bytes of an event that is kept, and of one that is deleted.
const KEPT: usize = 20 << 10;
const GONE: usize = 250 << 10;
/// What a node needs for the events that are kept, and for the segments that stay as they are.
const ENOUGH: u64 = 30 << 20;

fn value(partition: i32, round: i64) -> Vec<u8> {
    let mut value = [i64::from(partition).to_le_bytes(), round.to_le_bytes()].concat();
    value.resize(KEPT, b'x');
    value
}

fn create(cluster: &Cluster, leader: NodeId, topic: &str) -> Result<()> {
    ensure!(Client::connect(cluster.kafka(leader), LIMIT)?.create_topic(topic, PARTITIONS)? == 0);
    Ok(())
}

/// Writes events that are kept, and as many to a topic that is to go.
fn write(cluster: &Cluster, leader: NodeId, gone: &str, rounds: std::ops::Range<i64>) -> Result<()> {
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    for round in rounds {
        for partition in 0..PARTITIONS {
            ensure!(client.produce("kept", partition, &value(partition, round))? == Ok(round));
            ensure!(client.produce(gone, partition, &vec![b'y'; GONE])?.is_ok());
        }
    }
    Ok(())
}

/// Everything that is to be there is there.
fn check(cluster: &Cluster, leader: NodeId, end: i64) -> Result<()> {
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    for partition in 0..PARTITIONS {
        let mut next = 0;
        while next < end {
            let fetched = client.fetch("kept", partition, next)?;
            let (events, _) = fetched.map_err(|code| anyhow::anyhow!("at {next}: error code {code}"))?;
            ensure!(!events.is_empty(), "nothing at {next} of {end}");
            for event in events {
                ensure!(event.offset == next && event.value == value(partition, next), "offset {next}");
                next += 1;
            }
        }
        ensure!(client.list_offsets("kept", partition, 0)? == Ok(0), "the first event by time");
    }
    Ok(())
}

fn delete(cluster: &Cluster, leader: NodeId, topic: &str) -> Result<()> {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name]).with_timeout_ms(5000);
    let response = Client::connect(cluster.kafka(leader), LIMIT)?.call::<DeleteTopicsRequest>(4, &request)?;
    ensure!(response.responses[0].error_code == 0, "{response:?}");
    Ok(())
}

/// Bytes of a node's segments and packs, and the number of its packs.
fn on_disk(cluster: &Cluster, id: NodeId) -> Result<(u64, usize)> {
    let (mut bytes, mut packs) = (0, 0);
    for file in std::fs::read_dir(cluster.data_dir(id).join("log"))? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if name.ends_with(".seg") || name.ends_with(".pack") {
            // A file may have been replaced meanwhile.
            bytes += file.metadata().map_or(0, |data| data.len());
            packs += usize::from(name.ends_with(".pack"));
        }
    }
    Ok((bytes, packs))
}

fn move_to(cluster: &Cluster, id: NodeId) -> Result<()> {
    if cluster.wait_leader()? != id {
        let body = format!("{{\"to\": {id}}}");
        let (code, body) = cluster.post(cluster.wait_leader()?, "/cluster/leader/transfer", &body)?;
        ensure!(code == 200, "{code} {body}");
    }
    ensure!(cluster.wait_ready()? == id);
    Ok(())
}

#[test]
fn a_topic_leaves_the_disk_alone_and_a_new_member_gets_the_packs() -> Result<()> {
    let mut cluster = Cluster::start_with(3, SMALL, &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    create(&cluster, leader, "kept")?;
    create(&cluster, leader, "gone")?;
    write(&cluster, leader, "gone", 0..ROUNDS)?;
    let before = on_disk(&cluster, leader)?.0;
    ensure!(before > 2 * ENOUGH, "{before} bytes are too few to tell");
    delete(&cluster, leader, "gone")?;
    cluster.wait("the topic to leave all disks", |cluster| {
        let fits = |id| on_disk(cluster, id).is_ok_and(|(bytes, packs)| bytes < ENOUGH && packs > 0);
        cluster.ids().into_iter().all(fits).then_some(())
    })?;
    for id in cluster.ids() {
        move_to(&cluster, id)?;
        check(&cluster, id, ROUNDS)?;
    }
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for id in cluster.ids() {
        cluster.launch(id)?;
    }
    let leader = cluster.wait_ready()?;
    check(&cluster, leader, ROUNDS)?;

    let four = cluster.grow()?;
    cluster.launch(four)?;
    let (code, body) = cluster.post(leader, "/cluster/members", &cluster.join_request(four))?;
    ensure!(code < 300, "{body}");
    cluster.wait("the files to be installed", |cluster| {
        cluster.log(four).contains("caught up by files").then_some(())
    })?;
    ensure!(on_disk(&cluster, four)?.1 > 0, "it has no packs");
    cluster.wait("the new member to lead", |cluster| move_to(cluster, four).ok())?;
    check(&cluster, four, ROUNDS)?;
    stop_and_compare(&mut cluster)
}

/// Packs are written, and replaced, while nodes die.
#[test]
fn sigkill_while_packing_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start_with(3, SMALL, &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    create(&cluster, leader, "kept")?;
    let mut written = 0;
    for (turn, pause) in (0..1200).step_by(150).enumerate() {
        let leader = cluster.wait_ready()?;
        let gone = format!("gone{turn}");
        create(&cluster, leader, &gone)?;
        write(&cluster, leader, &gone, written..written + ROUNDS / 4)?;
        written += ROUNDS / 4;
        delete(&cluster, leader, &gone)?;
        // By then some of it is packed, and the rest is about to be.
        std::thread::sleep(Duration::from_millis(pause));
        let victims = if turn % 3 == 2 { cluster.ids() } else { vec![cluster.ids()[turn % 3]] };
        for id in &victims {
            cluster.kill(*id)?;
        }
        for id in victims {
            cluster.launch(id)?;
        }
    }
    let leader = cluster.wait_ready()?;
    cluster.wait("packs on all disks", |cluster| {
        let packed = |id| on_disk(cluster, id).is_ok_and(|(_, packs)| packs > 0);
        cluster.ids().into_iter().all(packed).then_some(())
    })?;
    check(&cluster, leader, written)?;
    for id in cluster.ids() {
        move_to(&cluster, id)?;
        check(&cluster, id, written)?;
    }
    stop_and_compare(&mut cluster)
}
