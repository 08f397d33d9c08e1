//! Failover: crashes of one node and of all, a lost quorum, paused leaders, clean stops.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use shared::api::{ErrorBody, RaftRole};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::logs::stop_and_compare;

const LIMIT: Duration = Duration::from_secs(2);

/// Kafka's NOT_LEADER_OR_FOLLOWER.
const NOT_LEADER: i16 = 6;

fn client(cluster: &Cluster, id: u64) -> Result<Client> {
    Client::connect(cluster.kafka(id), LIMIT)
}

/// Produces until it is acknowledged, on whichever node leads.
fn produce(cluster: &Cluster, topic: &str, value: &str) -> Result<i64> {
    cluster.wait("an acknowledged write", |cluster| {
        let leader = cluster.leader()?;
        client(cluster, leader).ok()?.produce(topic, 0, value.as_bytes()).ok()?.ok()
    })
}

fn values(cluster: &Cluster, topic: &str) -> Result<Vec<String>> {
    let leader = cluster.wait_ready()?;
    let events = client(cluster, leader)?.read_all(topic, 0)?;
    Ok(events.into_iter().map(|event| String::from_utf8_lossy(&event.value).into_owned()).collect())
}

#[test]
fn one_node_alone_is_a_cluster() -> Result<()> {
    let mut cluster = Cluster::ready(1)?;
    client(&cluster, 1)?.create_topic("alone", 1)?;
    produce(&cluster, "alone", "a")?;
    cluster.kill(1)?;
    cluster.launch(1)?;
    assert_eq!(values(&cluster, "alone")?, ["a"]);
    Ok(())
}

#[test]
fn a_killed_leader_loses_no_acknowledged_write() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    produce(&cluster, "t", "before")?;
    cluster.kill(leader)?;
    produce(&cluster, "t", "after")?;
    cluster.launch(leader)?;
    assert_eq!(values(&cluster, "t")?, ["before", "after"]);
    Ok(())
}

#[test]
fn each_node_in_turn_may_be_killed_and_restarted() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    client(&cluster, cluster.wait_leader()?)?.create_topic("t", 1)?;
    for id in cluster.ids() {
        cluster.kill(id)?;
        produce(&cluster, "t", &format!("without {id}"))?;
        cluster.launch(id)?;
        cluster.wait_ready()?;
    }
    assert_eq!(values(&cluster, "t")?, ["without 1", "without 2", "without 3"]);
    Ok(())
}

#[test]
fn a_follower_refuses_a_produce_and_names_the_leader() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).context("a follower")?;
    cluster.wait("the follower to know the topic", |cluster| {
        (client(cluster, follower).ok()?.produce("t", 0, b"x").ok()? == Err(NOT_LEADER)).then_some(())
    })?;
    let metadata = client(&cluster, follower)?.metadata(&["t"])?;
    assert_eq!(metadata.brokers.len(), 3);
    assert_eq!(u64::try_from(metadata.topics[0].partitions[0].leader_id.0)?, leader);
    Ok(())
}

#[test]
fn a_minority_acknowledges_nothing_and_is_not_ready() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    produce(&cluster, "t", "durable")?;
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.kill(id)?;
    }
    let outcome = client(&cluster, leader)?.produce("t", 0, b"lost");
    assert!(!matches!(outcome, Ok(Ok(_))), "one of three acknowledged a write: {outcome:?}");
    cluster.wait("the lone leader to step down", |cluster| {
        (cluster.status(leader).ok()?.state != Some(RaftRole::Leader)).then_some(())
    })?;
    let (code, _) = cluster.get(leader, "/health/ready")?;
    assert_eq!(code, 503);
    Ok(())
}

#[test]
fn a_paused_leader_is_replaced_and_then_follows() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let paused = cluster.wait_leader()?;
    client(&cluster, paused)?.create_topic("t", 1)?;
    cluster.signal(paused, Signal::STOP)?;
    let next = cluster.wait("another leader", |cluster| {
        let others = cluster.ids().into_iter().filter(|id| *id != paused);
        others.into_iter().find(|id| cluster.status(*id).is_ok_and(|s| s.state == Some(RaftRole::Leader)))
    })?;
    let written = cluster.wait("a write without it", |cluster| {
        client(cluster, next).ok()?.produce("t", 0, b"meanwhile").ok()?.ok()
    })?;
    let term = cluster.status(next)?.term;
    cluster.signal(paused, Signal::CONT)?;
    cluster.wait("the paused node to follow", |cluster| {
        let status = cluster.status(paused).ok()?;
        (status.leader == Some(next) && status.state == Some(RaftRole::Follower)).then_some(())
    })?;
    assert_eq!(cluster.status(next)?.term, term, "its return disturbs nobody");
    assert_eq!(written, 0);
    Ok(())
}

#[test]
fn a_deposed_leader_serves_no_stale_log_end() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let paused = cluster.wait_leader()?;
    client(&cluster, paused)?.create_topic("t", 1)?;
    let mut old = client(&cluster, paused)?;
    assert_eq!(old.list_offsets("t", 0, -1)?, Ok(0));
    cluster.signal(paused, Signal::STOP)?;
    let next = cluster.wait("another leader", |cluster| {
        let others = cluster.ids().into_iter().filter(|id| *id != paused);
        others.into_iter().find(|id| cluster.status(*id).is_ok_and(|s| s.state == Some(RaftRole::Leader)))
    })?;
    cluster.wait("a write without it", |cluster| {
        client(cluster, next).ok()?.produce("t", 0, b"new").ok()?.ok()
    })?;
    cluster.signal(paused, Signal::CONT)?;
    // The first request after the pause must not be answered from the state before it.
    let answer = old.list_offsets("t", 0, -1)?;
    assert_ne!(answer, Ok(0), "the old leader served the end of the log as it was before the pause");
    Ok(())
}

#[test]
fn sigkill_of_all_nodes_under_load_loses_no_acknowledged_write() -> Result<()> {
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut cluster = Cluster::ready(3)?;
    client(&cluster, cluster.wait_leader()?)?.create_topic("t", 1)?;
    let mut history = LoadHistory::default();
    for round in 0..rounds {
        let load = Load::start(&cluster, "t", round);
        std::thread::sleep(Duration::from_millis(300));
        for id in cluster.ids() {
            cluster.signal(id, Signal::KILL)?;
        }
        for id in cluster.ids() {
            cluster.reap(id)?;
        }
        cluster.launch_all()?;
        cluster.wait_ready()?;
        load.finish(&mut history)?;
        let leader = cluster.wait_ready()?;
        history.check(client(&cluster, leader)?.read_all("t", 0)?)?;
    }
    assert!(history.counts().0 > 0, "nothing was acknowledged");
    stop_and_compare(&mut cluster)
}

#[test]
fn sigterm_transfers_leadership_and_exits_with_zero() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    let term = cluster.status(leader)?.term;
    let started = Instant::now();
    assert!(cluster.stop(leader)?, "exit code of an orderly stop; log: {}", cluster.log(leader));
    assert!(started.elapsed() < Duration::from_secs(3));
    let next = cluster.wait_leader()?;
    assert_eq!(cluster.status(next)?.term, term + 1, "one transfer, no contested election");
    Ok(())
}

#[test]
fn an_operator_transfers_leadership() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    let to = cluster.ids().into_iter().find(|id| *id != leader).context("a follower")?;
    let (code, body) = cluster.post(leader, "/cluster/leader/transfer", &format!("{{\"to\": {to}}}"))?;
    assert_eq!(code, 200, "{body}");
    assert_eq!(cluster.wait_ready()?, to);
    let (code, body) = cluster.post(to, "/cluster/leader/transfer", "{\"to\": 9}")?;
    assert!(code >= 400, "{body}");
    let error: ErrorBody = serde_json::from_str(&body)?;
    assert!(!error.code.is_empty() && !error.message.is_empty());
    Ok(())
}
