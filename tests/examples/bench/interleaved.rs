//! One of many partitions that share the log, each written in small batches: what reading it costs, compared with one that
//! was written alone.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_protocol::records::Compression;
use shared::ids::NodeId;
use tests::client::{Client, batch, produce_request};
use tests::cluster::{Cluster, MAX_WAIT};

use crate::events::{fill, read, send_all};
use crate::spread::Spread;
use crate::{TOPIC, cluster, process};

const MANY: &str = "many";
const PARTITIONS: i32 = 1000;
/// Messages of each partition.
const EVENTS: usize = 1500;
/// Partitions that are read, one after the other.
const READ: i32 = 50;
/// Packing is done once nothing has been packed for so long.
const SETTLED: Duration = Duration::from_secs(12);

/// Writes 1,000 partitions in turn, one message of 1 KiB in a batch, and beside them one partition alone; then reads some.
pub fn measure(share: usize) -> Result<()> {
    let (cluster, leader) = cluster()?;
    let mut client = Client::connect(cluster.kafka(leader), MAX_WAIT)?;
    let code = client.create_topic(MANY, PARTITIONS)?;
    ensure!(code == 0, "cannot create the topic: error code {code}");
    let events = EVENTS / share;
    fill(&mut client, 1024, 1, 1024, events)?;
    let value = vec![b'x'; 1024];
    let value = batch(&[&value], Compression::None)?;
    let requests: Vec<_> =
        (0..PARTITIONS).map(|partition| produce_request(MANY, partition, value.clone())).collect();
    send_all(&mut client, requests.iter().cycle().take(requests.len() * events), 1024)?;
    // A first reading opens files.
    read(&mut client, TOPIC, 0, events)?;
    read(&mut client, MANY, 0, events)?;
    let pid = cluster.os_pid(leader);
    let alone = timed(pid, READ, |_| read(&mut client, TOPIC, 0, events))?;
    let among = timed(pid, READ, |turn| read(&mut client, MANY, turn * (PARTITIONS / READ), events))?;
    let packed = wait_until_packed(&cluster, leader)?;
    let again = timed(pid, READ, |turn| read(&mut client, MANY, turn * (PARTITIONS / READ), events))?;
    println!(
        "one of {PARTITIONS} partitions in a log of {} MB: {events} messages of 1 KiB in small batches",
        PARTITIONS as usize * events * 1024 / 1_000_000
    );
    let packed = format!("{packed} MB packed");
    for (name, (took, bytes_read)) in
        [("written alone", alone), ("among the others", among), (&packed, again)]
    {
        println!("  {name:<16} {}, {bytes_read:.2} bytes read per byte", Spread::of(took));
    }
    Ok(())
}

/// Waits until no more is packed. Returns how much is, in megabytes.
fn wait_until_packed(cluster: &Cluster, leader: NodeId) -> Result<u64> {
    let packed = || -> Result<u64> {
        let (_, metrics) = cluster.get(leader, "/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("eventstream_pack_bytes "));
        Ok(line.context("the metric of packs")?.parse()?)
    };
    let (mut last, mut since) = (packed()?, Instant::now());
    while since.elapsed() < SETTLED {
        sleep(Duration::from_millis(500));
        let now = packed()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last / 1_000_000)
}

/// How long each of so many readings took, and the bytes that the process read for each that it returned.
fn timed(pid: u32, times: i32, mut read: impl FnMut(i32) -> Result<usize>) -> Result<(Vec<Duration>, f64)> {
    let (before, mut returned, mut took) = (process::bytes_read(pid)?, 0, Vec::new());
    for turn in 0..times {
        let began = Instant::now();
        returned += read(turn)?;
        took.push(began.elapsed());
    }
    Ok((took, (process::bytes_read(pid)? - before) as f64 / returned as f64))
}
