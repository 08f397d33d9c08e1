//! Bootstrap: a cluster begins once, when all its nodes have met, and never again on empty disks.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shared::api::RaftRole;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(2);

fn client(cluster: &Cluster, id: u64) -> Result<Client> {
    Client::connect(cluster.kafka(id), LIMIT)
}

#[test]
fn three_nodes_elect_a_leader_within_five_seconds() -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::start(3)?;
    let leader = cluster.wait_ready()?;
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    let statuses: Vec<_> = cluster.ids().into_iter().map(|id| cluster.status(id)).collect::<Result<_>>()?;
    assert!(statuses.iter().all(|status| status.leader == Some(leader)));
    assert_eq!(statuses.iter().filter(|status| status.state == Some(RaftRole::Leader)).count(), 1);
    let first = statuses[0].cluster_id.context("a cluster id")?;
    assert!(
        statuses.iter().all(|status| status.cluster_id == Some(first)),
        "all nodes have the same cluster id"
    );
    Ok(())
}

#[test]
fn a_member_that_lost_its_disk_does_not_take_part() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    assert!(client(&cluster, leader)?.produce("t", 0, b"kept")?.is_ok());
    let victim = cluster.ids().into_iter().find(|id| *id != leader).context("a follower")?;
    cluster.kill(victim)?;
    std::fs::remove_dir_all(cluster.data_dir(victim))?;
    cluster.launch(victim)?;
    let status = cluster.reap(victim)?;
    assert!(!status.success());
    let log = cluster.log(victim);
    assert!(log.contains("data directory is not the one"), "the reason is not in its log: {log}");
    assert_eq!(cluster.status(leader)?.state, Some(RaftRole::Leader));
    Ok(())
}

/// Returns whether none of `ids` belongs to a cluster, as they report themselves.
fn without_cluster(cluster: &Cluster, ids: &[u64]) -> bool {
    let joins = |id: &u64| cluster.status(*id).is_ok_and(|status| status.state.is_none());
    ids.iter().all(joins)
}

#[test]
fn a_cluster_begins_when_all_its_nodes_have_met() -> Result<()> {
    let mut cluster = Cluster::prepare(3, "", &binary("esnode"))?;
    cluster.launch(1)?;
    cluster.launch(2)?;
    cluster.wait("both to log for whom they wait", |cluster| {
        [1, 2].iter().all(|id| cluster.log(*id).contains("nodes=[3]")).then_some(())
    })?;
    assert!(without_cluster(&cluster, &[1, 2]));
    cluster.launch(3)?;
    cluster.wait_ready()?;
    Ok(())
}

/// A majority of empty data directories must not start a new cluster while the node with the data is away.
#[test]
fn two_lost_disks_start_no_new_cluster_while_the_third_node_is_away() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    assert!(client(&cluster, leader)?.produce("t", 0, b"kept")?.is_ok());
    let before = cluster.wait("node 3 to have it", |cluster| {
        let status = cluster.status(3).ok()?;
        (status.applied_index == cluster.status(leader).ok()?.last_index).then_some(status)
    })?;
    for id in [1, 2, 3] {
        cluster.kill(id)?;
    }
    for id in [1, 2] {
        std::fs::remove_dir_all(cluster.data_dir(id))?;
        cluster.launch(id)?;
    }
    cluster.wait("both to log that their disks may be missing", |cluster| {
        [1, 2].iter().all(|id| cluster.log(*id).contains("its disk is lost, or not mounted")).then_some(())
    })?;
    assert!(without_cluster(&cluster, &[1, 2]));
    assert!(client(&cluster, 1)?.produce("t", 0, b"lost").map_or(true, |answer| answer.is_err()));

    cluster.launch(3)?;
    cluster.wait("the empty nodes to hear of the cluster", |cluster| {
        [1, 2].iter().all(|id| cluster.log(*id).contains("not the one that the cluster knows")).then_some(())
    })?;
    assert!(without_cluster(&cluster, &[1, 2]));
    let after = cluster.status(3)?;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert!(after.last_index >= before.last_index && after.state != Some(RaftRole::Leader));
    Ok(())
}

#[test]
fn two_processes_cannot_share_a_data_directory() -> Result<()> {
    let mut cluster = Cluster::ready(1)?;
    let text = std::fs::read_to_string(cluster.config(1))?;
    let other = cluster.config(1).with_file_name("other.yaml");
    std::fs::write(&other, on_another_address(&text))?;
    let output = Command::new(binary("esnode")).arg(format!("--config={}", other.display())).output()?;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("data directory") || said.contains("in use"), "{said}");
    assert!(cluster.stop(1)?);
    Ok(())
}

/// The same node on an unused address.
fn on_another_address(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("host:") {
            "      host: 127.254.254.254".to_owned()
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
