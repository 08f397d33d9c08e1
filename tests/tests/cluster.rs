//! Clusters of real processes: founding, failover, crashes of one and of all, a lost quorum, orderly ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use shared::api::{ErrorBody, RaftRole};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::ledger::{self, Ledger};

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
fn the_missions_start_elects_a_leader_within_five_seconds() -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::start(3)?;
    let leader = cluster.wait_ready()?;
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    let statuses: Vec<_> = cluster.ids().into_iter().map(|id| cluster.status(id)).collect::<Result<_>>()?;
    assert!(statuses.iter().all(|status| status.leader == Some(leader)));
    assert_eq!(statuses.iter().filter(|status| status.state == Some(RaftRole::Leader)).count(), 1);
    let first = statuses[0].cluster_id.context("founded")?;
    assert!(statuses.iter().all(|status| status.cluster_id == Some(first)), "one cluster, one identity");
    Ok(())
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
fn the_leaders_death_costs_no_acknowledged_write() -> Result<()> {
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
fn each_node_in_turn_may_die_and_come_back() -> Result<()> {
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
fn a_follower_refuses_and_names_the_leader() -> Result<()> {
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
fn a_minority_acknowledges_nothing_and_says_so() -> Result<()> {
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
fn a_paused_leader_is_replaced_and_follows_when_it_wakes() -> Result<()> {
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
fn a_stale_leader_serves_no_stale_end() -> Result<()> {
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
    // The first thing it is asked after its sleep: it must not answer from before it.
    let answer = old.list_offsets("t", 0, -1)?;
    assert_ne!(answer, Ok(0), "the old leader served the end of the log as it was before it slept");
    Ok(())
}

#[test]
fn kill_nine_of_all_under_load_loses_nothing_acknowledged() -> Result<()> {
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut cluster = Cluster::ready(3)?;
    client(&cluster, cluster.wait_leader()?)?.create_topic("t", 1)?;
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let load = ledger::Load::start(&cluster, "t", round);
        std::thread::sleep(Duration::from_millis(300));
        for id in cluster.ids() {
            cluster.signal(id, Signal::KILL)?;
        }
        for id in cluster.ids() {
            cluster.reap(id)?;
        }
        ledger.extend(load.finish());
        for id in cluster.ids() {
            cluster.launch(id)?;
        }
        let leader = cluster.wait_ready()?;
        ledger.check(&client(&cluster, leader)?.read_all("t", 0)?)?;
    }
    assert!(ledger.acknowledged() > 0, "the load did nothing");
    let floor = cluster.status(cluster.wait_ready()?)?.commit_index;
    for id in cluster.ids() {
        assert!(cluster.stop(id)?, "node {id} did not end well: {}", cluster.log(id));
    }
    ledger::same_logs(&cluster, floor)
}

#[test]
fn sigterm_hands_leadership_over_and_exits_with_zero() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    let term = cluster.status(leader)?.term;
    let started = Instant::now();
    assert!(cluster.stop(leader)?, "exit code of an orderly stop; log: {}", cluster.log(leader));
    assert!(started.elapsed() < Duration::from_secs(3));
    let next = cluster.wait_leader()?;
    assert_eq!(cluster.status(next)?.term, term + 1, "one hand-over, no contested election");
    Ok(())
}

#[test]
fn leadership_goes_where_the_operator_sends_it() -> Result<()> {
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

#[test]
fn a_member_that_lost_its_disk_takes_no_part() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    produce(&cluster, "t", "kept")?;
    let victim = cluster.ids().into_iter().find(|id| *id != leader).context("a follower")?;
    cluster.kill(victim)?;
    std::fs::remove_dir_all(cluster.data_dir(victim))?;
    cluster.launch(victim)?;
    let status = cluster.reap(victim)?;
    assert!(!status.success());
    let log = cluster.log(victim);
    assert!(log.contains("data directory is not the one"), "the reason stands in its log: {log}");
    assert_eq!(cluster.status(leader)?.state, Some(RaftRole::Leader));
    Ok(())
}

/// Whether none of `ids` belongs to a cluster, as they say themselves.
fn without_cluster(cluster: &Cluster, ids: &[u64]) -> bool {
    let joins = |id: &u64| cluster.status(*id).is_ok_and(|status| status.state.is_none());
    ids.iter().all(joins)
}

#[test]
fn a_cluster_is_founded_when_all_its_nodes_have_met() -> Result<()> {
    let mut cluster = Cluster::prepare(3, "", &tests::cluster::binary("esnode"))?;
    cluster.launch(1)?;
    cluster.launch(2)?;
    cluster.wait("both to say for whom they wait", |cluster| {
        [1, 2].iter().all(|id| cluster.log(*id).contains("nodes=[3]")).then_some(())
    })?;
    assert!(without_cluster(&cluster, &[1, 2]));
    cluster.launch(3)?;
    cluster.wait_ready()?;
    Ok(())
}

/// A majority of empty data directories founds nothing in the place of a cluster whose data is away.
#[test]
fn two_lost_disks_found_nothing_while_the_third_is_away() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    client(&cluster, leader)?.create_topic("t", 1)?;
    produce(&cluster, "t", "kept")?;
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
    cluster.wait("both to ask for their disks", |cluster| {
        [1, 2].iter().all(|id| cluster.log(*id).contains("its disk is lost, or not mounted")).then_some(())
    })?;
    assert!(without_cluster(&cluster, &[1, 2]));
    assert!(client(&cluster, 1)?.produce("t", 0, b"lost").map_or(true, |answer| answer.is_err()));

    cluster.launch(3)?;
    cluster.wait("the empty ones to hear of the cluster", |cluster| {
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
    std::fs::write(&other, reground(&text))?;
    let output = std::process::Command::new(tests::cluster::binary("esnode"))
        .arg(format!("--config={}", other.display()))
        .output()?;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("data directory") || said.contains("in use"), "{said}");
    assert!(cluster.stop(1)?);
    Ok(())
}

/// The same node on an address that nobody uses.
fn reground(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("host:") {
            "      host: 127.254.254.254".to_owned()
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn metrics_have_the_names_that_operators_were_promised() -> Result<()> {
    const PROMISED: [&str; 10] = [
        "raft_term",
        "raft_commit_index",
        "raft_apply_index",
        "raft_leader",
        "raft_state",
        "raft_peers_connected",
        "raft_replication_lag",
        "raft_elections_total",
        "raft_append_entries_sent",
        "raft_votes_received",
    ];
    let cluster = Cluster::ready(3)?;
    for id in cluster.ids() {
        let (code, text) = cluster.get(id, "/metrics")?;
        assert_eq!(code, 200);
        for name in PROMISED {
            let families = text.lines().filter(|line| line.starts_with(&format!("# TYPE {name} "))).count();
            assert_eq!(families, 1, "{name} on node {id}");
        }
        let connected = text.lines().find_map(|line| line.strip_prefix("raft_peers_connected "));
        assert_eq!(connected, Some("2"), "on node {id}");
    }
    Ok(())
}
