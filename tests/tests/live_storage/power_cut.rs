//! The power fails under load: of all nodes, of a majority. Nothing acknowledged is missing, order is kept, nothing of
//! an idempotent producer stands twice, and all replicas are alike, byte for byte.
//!
//! Needs root, for disks of the nodes' own. `POWER_ROUNDS` says how often the power fails.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::history::History;
use tests::ledger::{self, Ledger};
use tests::programs::binary;
use tests::traffic::Traffic;

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
fn round(cluster: &mut Cluster, history: &mut History, number: u64, victims: &[NodeId]) -> Result<()> {
    let traffic = Traffic::start(cluster, TOPIC, number);
    std::thread::sleep(Duration::from_millis(100 + fastrand::u64(..300)));
    cluster.cut_power(victims)?;
    for id in victims {
        cluster.launch(*id)?;
    }
    cluster.wait_ready()?;
    std::thread::sleep(Duration::from_millis(50));
    traffic.finish(history)?;
    let leader = cluster.wait_ready()?;
    history.check(Client::connect(cluster.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?)
}

fn survives(choose: impl Fn(&Cluster, u64) -> Vec<NodeId>) -> Result<()> {
    let mut cluster = cluster(3, "")?;
    let mut history = History::default();
    for number in 0..rounds() {
        let victims = choose(&cluster, number);
        round(&mut cluster, &mut history, number, &victims)?;
    }
    let (acknowledged, looks) = history.size();
    println!("{} power cuts, {acknowledged} acknowledged writes, {looks} reads of the end", rounds());
    ensure!(acknowledged > 0 && looks > 0, "the load did nothing");
    let floor = cluster.status(cluster.wait_ready()?)?.commit_index;
    for id in cluster.ids() {
        ensure!(cluster.stop(id)?, "node {id} did not end well: {}", cluster.log(id));
    }
    ledger::same_logs(&cluster, floor)
}

#[test]
fn power_cut_of_all_loses_nothing_acknowledged() -> Result<()> {
    survives(|cluster, _| cluster.ids())
}

/// Each node is spared in turn, so that the leader is among the victims more often than not.
#[test]
fn power_cut_of_a_majority_loses_nothing_acknowledged() -> Result<()> {
    survives(|cluster, number| cluster.ids().into_iter().filter(|id| *id != 1 + number % 3).collect())
}

/// The proof that the cut cuts: where the log is not synced before the acknowledgement, the same cut loses events.
#[test]
fn a_log_that_is_not_synced_does_not_survive() -> Result<()> {
    let mut cluster = cluster(1, "    wal_sync: false\n")?;
    let all = cluster.ids();
    for id in &all {
        // The topic is to be there afterwards.
        let synced = Command::new("sync").arg("-f").arg(cluster.data_dir(*id)).status()?;
        ensure!(synced.success(), "cannot sync");
    }
    let load = ledger::Load::start(&cluster, TOPIC, 0);
    std::thread::sleep(Duration::from_millis(300));
    cluster.cut_power(&all)?;
    let mut ledger = Ledger::default();
    ledger.extend(load.finish());
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let verdict = ledger.check(&Client::connect(cluster.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?);
    let error =
        verdict.err().context("nothing was lost although nothing was synced: the power was not cut")?;
    ensure!(error.to_string().contains("is lost"), error);
    Ok(())
}
