//! Disks that fail, are slow or stall.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::programs::binary;
use tests::strace::Fault;

use super::{EVENT, check_and_stop, disk_problem, produce, produce_somewhere, three};

#[test]
fn a_write_or_sync_that_fails_ends_the_node_with_the_reason() -> Result<()> {
    let (mut cluster, _) = three()?;
    let mut written = Vec::new();
    for calls in ["fdatasync", "pwrite64,pwritev,pwritev2", "fsync"] {
        let victim = cluster.wait_ready()?;
        let fault = Fault::inject(cluster.os_pid(victim), calls, "error=EIO")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        // With enough events there is a snapshot and a new segment.
        while cluster.get(victim, "/health/live").is_ok() {
            let value = format!("{calls} {}", written.len()).into_bytes();
            if produce(&cluster, victim, &[&value[..], &[b'x'; EVENT]].concat()).is_ok() {
                written.push([&value[..], &[b'x'; EVENT]].concat());
            }
            ensure!(Instant::now() < deadline, "node {victim} did not end although {calls} fails");
        }
        let ended = cluster.reap(victim)?;
        drop(fault);
        let log = cluster.log(victim);
        let said = log.lines().rev().find(|line| line.contains("ERROR")).context("no reason")?;
        ensure!(!ended.success(), "it ended with 0");
        let names = said.contains("n1/data") || said.contains("n2/data") || said.contains("n3/data");
        ensure!(said.contains("the disk failed") && said.contains("os error 5") && names, "{said}");
        written.push(format!("without node {victim}").into_bytes());
        produce_somewhere(&cluster, &written[written.len() - 1])?;
        cluster.launch(victim)?;
    }
    check_and_stop(cluster, &written)
}

/// Every sync is slow, also the several in a row that the end of a segment takes.
#[test]
fn a_slow_disk_causes_no_election() -> Result<()> {
    let (cluster, leader) = three()?;
    let term = cluster.status(leader)?.term;
    let fault = Fault::inject(cluster.os_pid(leader), "fdatasync,fsync", "delay_exit=400000")?;
    let (began, mut written) = (Instant::now(), Vec::new());
    let segments = count(&cluster, leader, "seg")?;
    let mut client = Client::connect(cluster.kafka(leader), Duration::from_secs(10))?;
    while began.elapsed() < Duration::from_secs(10) {
        written.push([format!("slow {}", written.len()).as_bytes(), &[b'x'; 900 << 10]].concat());
        let outcome = client.produce("t", 0, &written[written.len() - 1])?;
        outcome.map_err(|code| anyhow::anyhow!("error code {code}"))?;
    }
    ensure!(cluster.status(leader)?.term == term, "an election:\n{}", cluster.log(leader));
    ensure!(!cluster.log(leader).contains("hands over"), "{}", cluster.log(leader));
    let segments = count(&cluster, leader, "seg")? - segments;
    ensure!(segments > 0, "no segment ended");
    println!("{} events, {segments} new segments at 400 ms a sync, and no election", written.len());
    drop(fault);
    check_and_stop(cluster, &written)
}

/// Files of the log of this kind.
fn count(cluster: &Cluster, id: NodeId, extension: &str) -> Result<usize> {
    let files = std::fs::read_dir(cluster.data_dir(id).join("log"))?;
    Ok(files.flatten().filter(|file| file.path().extension().is_some_and(|ext| ext == extension)).count())
}

#[test]
fn a_leader_whose_disk_hangs_steps_down() -> Result<()> {
    let (cluster, leader) = three()?;
    let fault = Fault::inject(cluster.os_pid(leader), "fdatasync", "delay_enter=60000000")?;
    let began = Instant::now();
    let _unanswered = produce(&cluster, leader, b"nobody knows");
    let next = cluster.wait("another leader", |cluster| cluster.leader().filter(|id| *id != leader))?;
    let written = vec![b"by another".to_vec()];
    produce_somewhere(&cluster, &written[0])?;
    let gap = began.elapsed();
    println!("node {next} leads {gap:.2?} after the disk began to hang");
    ensure!(gap < Duration::from_secs(5), "{gap:?}");
    let said = cluster.wait("it to report the disk", |cluster| disk_problem(cluster, leader))?;
    ensure!(said.contains("has not finished a write for"), "{said}");
    drop(fault);
    cluster.wait("it to be ready again", |cluster| {
        (cluster.get(leader, "/health/ready").ok()?.0 == 200).then_some(())
    })?;
    check_and_stop(cluster, &written)
}

/// The node rotates it itself, since nobody else can: the file is its standard error.
#[test]
fn a_large_log_file_of_a_node_is_rotated() -> Result<()> {
    let mut cluster = Cluster::prepare(1, "", &binary("esnode"))?;
    let log = cluster.data_dir(1).parent().context("a parent")?.join("log");
    let large = std::fs::File::create(&log)?;
    large.set_len(32 << 20)?;
    cluster.launch_all()?;
    cluster.wait_ready()?;
    cluster.wait("a new file", |cluster| cluster.log(1).contains("the log goes on here").then_some(()))?;
    let old = std::fs::metadata(log.with_added_extension("1"))?.len();
    ensure!(old >= 32 << 20, "{old} bytes are in the old file");
    Ok(())
}
