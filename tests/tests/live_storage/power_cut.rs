//! Power cuts under load, of all nodes and of a majority: nothing acknowledged is missing, order is kept,
//! nothing of an idempotent producer is there twice, and all logs are the same, byte for byte.
//!
//! Needs root, for a disk for each node. `POWER_ROUNDS` is the number of power cuts.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::logs::stop_and_compare;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
const TOPIC: &str = "t";

fn rounds() -> u64 {
    std::env::var("POWER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Nodes on disks of their own, ready, with a topic.
fn cluster(size: usize, extra: &str) -> Result<Cluster> {
    let mut cluster = Cluster::prepare(size, extra, &binary("esnode"))?;
    cluster.mount_disks()?;
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), LIMIT)?.create_topic(TOPIC, 1)?;
    ensure!(code == 0, "no topic: error code {code}");
    Ok(cluster)
}

/// One power cut of `victims` under load, with load going on until the cluster serves again.
fn round(cluster: &mut Cluster, history: &mut LoadHistory, number: u64, victims: &[NodeId]) -> Result<()> {
    let load = Load::start(cluster, TOPIC, number);
    std::thread::sleep(Duration::from_millis(100 + fastrand::u64(..300)));
    cluster.cut_power(victims)?;
    for id in victims {
        cluster.launch(*id)?;
    }
    cluster.wait_ready()?;
    std::thread::sleep(Duration::from_millis(50));
    load.finish(history)?;
    let leader = cluster.wait_ready()?;
    history.check(Client::connect(cluster.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?)
}

fn survives(choose: impl Fn(&Cluster, u64) -> Vec<NodeId>) -> Result<()> {
    let mut cluster = cluster(3, "")?;
    let mut history = LoadHistory::default();
    for number in 0..rounds() {
        let victims = choose(&cluster, number);
        round(&mut cluster, &mut history, number, &victims)?;
    }
    let (acknowledged, looks) = history.counts();
    println!("{} power cuts, {acknowledged} acknowledged writes, {looks} reads of the log end", rounds());
    ensure!(acknowledged > 0 && looks > 0, "the load did nothing");
    stop_and_compare(&mut cluster)
}

#[test]
fn a_power_cut_of_all_nodes_loses_no_acknowledged_write() -> Result<()> {
    survives(|cluster, _| cluster.ids())
}

/// Each node is spared in turn, so that the leader is among the victims more often than not.
#[test]
fn a_power_cut_of_a_majority_loses_no_acknowledged_write() -> Result<()> {
    survives(|cluster, number| cluster.ids().into_iter().filter(|id| *id != 1 + number % 3).collect())
}

/// Shows that the cut is real: where the log is not synced before the acknowledgement, the same cut loses
/// events.
#[test]
fn a_power_cut_loses_events_that_were_not_synced() -> Result<()> {
    let mut cluster = cluster(1, "    wal_sync: false\n")?;
    let all = cluster.ids();
    for id in &all {
        // The topic must survive.
        let synced = Command::new("sync").arg("-f").arg(cluster.data_dir(*id)).status()?;
        ensure!(synced.success(), "cannot sync");
    }
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    let writer = std::thread::spawn(move || {
        (0_usize..).find(|_| !matches!(client.produce(TOPIC, 0, b"event"), Ok(Ok(_)))).unwrap_or_default()
    });
    std::thread::sleep(Duration::from_millis(300));
    cluster.cut_power(&all)?;
    let acknowledged = writer.join().expect("the writer does not panic");
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let kept = Client::connect(cluster.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?.len();
    ensure!(kept < acknowledged, "all {acknowledged} events are there: the power was not cut");
    Ok(())
}
