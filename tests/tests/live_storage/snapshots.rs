//! Checkpoints of real nodes: taken while they work, started from after a crash, done without when they are damaged.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::ledger::{self, Ledger};
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(2);

/// A cluster that takes a checkpoint as often as it may, with a topic `t` of two partitions.
fn cluster(size: usize) -> Result<Cluster> {
    let cluster = Cluster::start_with(size, "    snapshot_interval: 5\n", &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 2)?;
    Ok(cluster)
}

/// The node's checkpoints, oldest first.
fn checkpoints(cluster: &Cluster, id: NodeId) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cluster.data_dir(id).join("checkpoints")).into_iter().flatten();
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "ckpt")).collect();
    files.sort();
    files
}

fn wait_for_two(cluster: &Cluster) -> Result<()> {
    cluster.wait("two checkpoints on every node", |cluster| {
        cluster.ids().into_iter().all(|id| checkpoints(cluster, id).len() == 2).then_some(())
    })
}

fn kill_all(cluster: &mut Cluster) -> Result<()> {
    cluster.ids().into_iter().try_for_each(|id| cluster.kill(id))
}

fn start_all(cluster: &mut Cluster) -> Result<NodeId> {
    cluster.ids().into_iter().try_for_each(|id| cluster.launch(id))?;
    cluster.wait_ready()
}

/// What the node said when it last started.
fn last_start(cluster: &Cluster, id: NodeId) -> Result<String> {
    let log = cluster.log(id);
    let line = log.lines().rfind(|line| line.contains("starts"));
    line.map(str::to_owned).with_context(|| format!("node {id} did not start:\n{log}"))
}

#[test]
fn kill_nine_of_all_and_a_start_from_checkpoints_loses_nothing_acknowledged() -> Result<()> {
    let mut cluster = cluster(3)?;
    let mut ledger = Ledger::default();
    for round in 0..2 {
        let load = ledger::Load::start(&cluster, "t", round);
        wait_for_two(&cluster)?;
        kill_all(&mut cluster)?;
        ledger.extend(load.finish());
        let leader = start_all(&mut cluster)?;
        for id in cluster.ids() {
            let start = last_start(&cluster, id)?;
            ensure!(start.contains("checkpoint="), "node {id} replayed everything: {start}");
        }
        ledger.check(&Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?)?;
    }
    assert!(ledger.acknowledged() > 0, "the load did nothing");
    Ok(())
}

#[test]
fn a_node_does_without_damaged_checkpoints_and_says_so() -> Result<()> {
    let mut cluster = cluster(1)?;
    let load = ledger::Load::start(&cluster, "t", 0);
    wait_for_two(&cluster)?;
    kill_all(&mut cluster)?;
    let mut ledger = Ledger::default();
    ledger.extend(load.finish());
    for damaged in 1..=2 {
        for path in checkpoints(&cluster, 1).iter().rev().take(damaged) {
            std::fs::write(path, "not a checkpoint")?;
        }
        let leader = start_all(&mut cluster)?;
        let log = cluster.log(1);
        assert!(log.contains("passed over a damaged checkpoint"), "{log}");
        assert_eq!(last_start(&cluster, 1)?.contains("checkpoint="), damaged == 1, "{log}");
        ledger.check(&Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?)?;
        kill_all(&mut cluster)?;
    }
    Ok(())
}
