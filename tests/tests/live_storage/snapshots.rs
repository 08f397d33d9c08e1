//! Snapshots of real nodes: taken under load, used at the start after a crash, passed over when they are
//! damaged.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(2);

/// A cluster that takes snapshots as often as possible, with a topic `t` of two partitions.
fn cluster(size: usize) -> Result<Cluster> {
    let cluster = Cluster::start_with(size, "    snapshot_interval: 5\n", &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 2)?;
    Ok(cluster)
}

/// The node's snapshots, oldest first.
fn snapshots(cluster: &Cluster, id: NodeId) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cluster.data_dir(id).join("checkpoints")).into_iter().flatten();
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "ckpt")).collect();
    files.sort();
    files
}

fn wait_for_two(cluster: &Cluster) -> Result<()> {
    cluster.wait("two snapshots on every node", |cluster| {
        cluster.ids().into_iter().all(|id| snapshots(cluster, id).len() == 2).then_some(())
    })
}

fn kill_all(cluster: &mut Cluster) -> Result<()> {
    cluster.ids().into_iter().try_for_each(|id| cluster.kill(id))
}

fn start_all(cluster: &mut Cluster) -> Result<NodeId> {
    cluster.ids().into_iter().try_for_each(|id| cluster.launch(id))?;
    cluster.wait_ready()
}

/// What the node logged at its last start.
fn last_start(cluster: &Cluster, id: NodeId) -> Result<String> {
    let log = cluster.log(id);
    let line = log.lines().rfind(|line| line.contains("starts"));
    line.map(str::to_owned).with_context(|| format!("node {id} did not start:\n{log}"))
}

#[test]
fn nodes_start_from_snapshots_after_sigkill_and_lose_no_acknowledged_write() -> Result<()> {
    let mut cluster = cluster(3)?;
    let mut history = LoadHistory::default();
    for round in 0..2 {
        let load = Load::start(&cluster, "t", round);
        wait_for_two(&cluster)?;
        kill_all(&mut cluster)?;
        start_all(&mut cluster)?;
        load.finish(&mut history)?;
        for id in cluster.ids() {
            let start = last_start(&cluster, id)?;
            ensure!(start.contains("snapshot="), "node {id} replayed everything: {start}");
        }
        let leader = cluster.wait_ready()?;
        history.check(Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?)?;
    }
    ensure!(history.counts().0 > 0, "nothing was acknowledged");
    Ok(())
}

#[test]
fn a_node_starts_without_damaged_snapshots_and_logs_it() -> Result<()> {
    let mut cluster = cluster(1)?;
    let mut history = LoadHistory::default();
    let load = Load::start(&cluster, "t", 0);
    wait_for_two(&cluster)?;
    load.finish(&mut history)?;
    kill_all(&mut cluster)?;
    for damaged in 1..=2 {
        for path in snapshots(&cluster, 1).iter().rev().take(damaged) {
            std::fs::write(path, "not a snapshot")?;
        }
        let leader = start_all(&mut cluster)?;
        let log = cluster.log(1);
        ensure!(log.contains("passed over a damaged snapshot"), "{log}");
        ensure!(last_start(&cluster, 1)?.contains("snapshot=") == (damaged == 1), "{log}");
        history.check(Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?)?;
        kill_all(&mut cluster)?;
    }
    Ok(())
}
