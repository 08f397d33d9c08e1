//! Loss-of-quorum recovery: a survivor starts a new cluster with everything in its log, and no node of the
//! old cluster takes part in it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tests::cli::text;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
const NEXT: &str = "6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11";

/// Runs the recovery. Returns exit code and output.
fn recover(cluster: &Cluster, id: NodeId, members: &str) -> Result<(Option<i32>, String)> {
    let output = Command::new(binary("esnode"))
        .arg(format!("--node-id={id}"))
        .arg(format!("--config={}", cluster.config(id).display()))
        .args(["recover", "--cluster-id", NEXT, "--members", members])
        .output()?;
    Ok((output.status.code(), text(&output.stdout) + &text(&output.stderr)))
}

/// Returns the cluster id as node `id` reports it.
fn cluster_id(cluster: &Cluster, id: NodeId) -> Option<String> {
    Some(serde_json::to_value(cluster.status(id).ok()?.cluster_id).ok()?.as_str()?.to_owned())
}

#[test]
fn a_survivor_recovers_alone_and_others_join_it() -> Result<()> {
    let mut cluster = Cluster::start_with(3, "", &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    ensure!(Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 1)? == 0);
    let nodes: Vec<_> = cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect();
    let load = Load::on(&nodes, "t", 1);
    std::thread::sleep(Duration::from_secs(1));
    let mut history = LoadHistory::default();
    load.finish(&mut history)?;
    cluster.wait_ready()?;

    let (code, said) = recover(&cluster, 1, "1")?;
    ensure!(code == Some(1) && said.contains("in use by another esnode"), "{said}");
    cluster.kill(2)?;
    cluster.kill(3)?;
    cluster.kill(1)?;
    for (members, why) in [("2", "must be one of the members"), ("1,9", "node 9 is not in cluster.nodes")] {
        let (code, said) = recover(&cluster, 1, members)?;
        ensure!(code == Some(1) && said.contains(why), "{said}");
    }
    let (code, said) = recover(&cluster, 1, "1")?;
    ensure!(code == Some(0), "{said}");
    let first: Value = serde_json::from_str(said.lines().last().context("a line")?)?;
    ensure!(first["changed"] == true && first["cluster"] == NEXT, "{first}");
    // A repeated recovery changes nothing.
    let (_, said) = recover(&cluster, 1, "1")?;
    let again: Value = serde_json::from_str(said.lines().last().context("a line")?)?;
    ensure!(again["changed"] == false && again["last_index"] == first["last_index"], "{again}");

    cluster.launch(1)?;
    ensure!(cluster.wait_ready()? == 1 && cluster_id(&cluster, 1).as_deref() == Some(NEXT));
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    history.check(client.read_all("t", 0)?)?;

    // The others are a majority of the old cluster. Each must end when it meets the new one.
    for id in [2, 3] {
        cluster.launch(id)?;
    }
    for id in [2, 3] {
        ensure!(cluster.reap(id)?.success(), "{}", cluster.log(id));
        ensure!(cluster.log(id).contains(&format!("node {id} was removed from the cluster")));
    }
    ensure!(cluster_id(&cluster, 1).as_deref() == Some(NEXT) && cluster.status(1)?.leader == Some(1));

    // With empty data directories they may join: each reads the whole log, which began with other members.
    for id in [2, 3] {
        std::fs::remove_dir_all(cluster.data_dir(id))?;
        cluster.launch(id)?;
        let (code, body) = cluster.post(1, "/cluster/members", &cluster.join_request(id))?;
        ensure!(code == 200, "{body}");
        cluster.wait("it to vote", |cluster| {
            let role = cluster.status(id).ok()?.membership;
            (role == shared::api::Membership::Voter && cluster_id(cluster, id).as_deref() == Some(NEXT))
                .then_some(())
        })?;
    }
    ensure!(cluster.stop(1)?);
    let leader = cluster.wait_ready()?;
    history.check(Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?)?;
    cluster.launch(1)?;
    let ids = cluster.ids();
    cluster.wait_ready()?;
    ensure!(ids.iter().all(|id| cluster_id(&cluster, *id).as_deref() == Some(NEXT)));
    Ok(())
}
