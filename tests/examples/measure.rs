//! Measures a cluster of three real nodes on this machine: serial produce latency beside the disk's and the
//! network's own, many small requests on one connection, the gap that a leader's death leaves, idle CPU.
//!
//! `cargo run --release -p tests --example measure -- serial|pipelined|failover|idle [COUNT]`

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::Compression;
use tests::client::{Client, batch, produce_request};
use tests::cluster::{Cluster, binary};

const LIMIT: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let count = args.next().map(|text| text.parse()).transpose()?;
    match what.as_str() {
        "serial" => serial(count.unwrap_or(5000)),
        "pipelined" => pipelined(count.unwrap_or(200_000)),
        "failover" => failover(count.unwrap_or(20)),
        "idle" => idle(count.unwrap_or(10)),
        _ => bail!("say what: serial, pipelined, failover or idle, and how many"),
    }
}

fn program() -> std::path::PathBuf {
    let test = binary("examples/measure");
    test.ancestors().nth(2).map(|target| target.join("esnode")).unwrap_or_default()
}

fn cluster() -> Result<(Cluster, u64)> {
    let cluster = Cluster::start_with(3, "", &program())?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("bench", 1)?;
    if code != 0 {
        bail!("cannot create the topic: error code {code}");
    }
    Ok((cluster, leader))
}

/// One request after the other, 1 KiB each.
fn serial(count: usize) -> Result<()> {
    println!("fdatasync of 4 KiB, zero-filled: {}", Spread::of(fdatasyncs(1000)?));
    let (cluster, leader) = cluster()?;
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    let value = vec![b'x'; 1024];
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        client.produce("bench", 0, &value)?.map_err(|code| anyhow::anyhow!("error code {code}"))?;
        took.push(started.elapsed());
    }
    println!("serial produce of 1 KiB, acks=all: {}", Spread::of(took));
    println!("fdatasync of 4 KiB, zero-filled: {}", Spread::of(fdatasyncs(1000)?));
    Ok(())
}

/// One-message requests on one connection, 1024 without an answer.
fn pipelined(count: usize) -> Result<()> {
    const WINDOW: usize = 1024;
    let (cluster, leader) = cluster()?;
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    let request = produce_request("bench", 0, batch(&[&[b'x'; 1024]], Compression::None)?);
    let started = Instant::now();
    for sent in 0..count + WINDOW {
        if sent < count {
            client.send(9, &request)?;
        }
        if sent >= WINDOW {
            let response = client.receive::<ProduceRequest>(9)?;
            let code = response.responses[0].partition_responses[0].error_code;
            if code != 0 {
                bail!("error code {code}");
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{count} one-message requests of 1 KiB on one connection: {:.0} msgs/s", count as f64 / seconds);
    for id in cluster.ids() {
        println!("node {id}: {:.2} s CPU", cpu_seconds(cluster.os_pid(id))?);
    }
    Ok(())
}

/// Kills the leader under a client that tries every 5 ms; the gap between two acknowledged writes.
fn failover(count: usize) -> Result<()> {
    let (mut cluster, _) = cluster()?;
    let mut gaps = Vec::new();
    for _ in 0..count {
        let leader = cluster.wait_ready()?;
        std::thread::sleep(Duration::from_millis(300 + fastrand::u64(..200)));
        Client::connect(cluster.kafka(leader), LIMIT)?.produce("bench", 0, b"before")?.ok();
        cluster.kill(leader)?;
        let died = Instant::now();
        let survivors: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let gap = loop {
            let tried = survivors.iter().find(|id| {
                let client = Client::connect(cluster.kafka(**id), Duration::from_millis(100));
                client
                    .and_then(|mut client| client.produce("bench", 0, b"after"))
                    .is_ok_and(|outcome| outcome.is_ok())
            });
            if tried.is_some() {
                break died.elapsed();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        gaps.push(gap);
        cluster.launch(leader)?;
    }
    println!("leader's death to the first acknowledged write, {count} times: {}", Spread::of(gaps));
    Ok(())
}

/// CPU of nodes that nobody uses.
fn idle(seconds: usize) -> Result<()> {
    let (cluster, _) = cluster()?;
    std::thread::sleep(Duration::from_secs(1));
    let before: Vec<_> =
        cluster.ids().into_iter().map(|id| cpu_seconds(cluster.os_pid(id))).collect::<Result<_>>()?;
    let period = Duration::from_secs(seconds as u64);
    std::thread::sleep(period);
    for (id, before) in cluster.ids().into_iter().zip(before) {
        let used = cpu_seconds(cluster.os_pid(id))? - before;
        println!("node {id}: {:.2} % CPU over {period:?}", used * 100.0 / period.as_secs_f64());
    }
    Ok(())
}

/// User and system time of a process, from /proc (proc(5): ticks of 10 ms).
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("a stat line")?.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn fdatasyncs(count: usize) -> Result<Vec<Duration>> {
    const BLOCK: [u8; 4096] = [1; 4096];
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("floor"))?;
    file.write_all(&vec![0; BLOCK.len() * count])?;
    file.sync_all()?;
    (0..count)
        .map(|block| {
            file.write_all_at(&BLOCK, (block * BLOCK.len()) as u64)?;
            let started = Instant::now();
            file.sync_data()?;
            Ok(started.elapsed())
        })
        .collect()
}

/// A distribution, for people.
struct Spread(Vec<Duration>);

impl Spread {
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    fn at(&self, per_mille: usize) -> f64 {
        let position = (self.0.len() * per_mille / 1000).min(self.0.len().saturating_sub(1));
        self.0.get(position).map_or(0.0, |sample| sample.as_secs_f64() * 1e3)
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, p999, max] = [500, 990, 999, 1000].map(|per_mille| self.at(per_mille));
        write!(f, "p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms, max {max:.3} ms")
    }
}
