//! What an operator does to a running cluster on this machine: hand over, restart, reload, look for alerts, go on with
//! what was interrupted. Real nodes, the real command line.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::Client;
use tests::place::{Place, ids, text};

fn leader(place: &Place) -> Result<u64> {
    let (_, status) = place.json(&["status"])?;
    status["leader"].as_u64().with_context(|| format!("a leader: {status:#}"))
}

fn pids(place: &Place) -> Result<Vec<String>> {
    let pid = |id: u64| Ok(std::fs::read_to_string(place.cluster().join(format!("n{id}/pid")))?);
    (1..=3).map(pid).collect()
}

fn healthy(place: &Place) -> Result<()> {
    let (code, status) = place.json(&["health"])?;
    ensure!(code == 0, "{status:#}");
    Ok(())
}

fn edit(place: &Place, from: &str, to: &str) -> Result<()> {
    let file = place.cluster().join("cluster.yaml");
    let before = std::fs::read_to_string(&file)?;
    ensure!(before.contains(from), "{before}");
    Ok(std::fs::write(&file, before.replacen(from, to, 1))?)
}

#[test]
fn leadership_goes_where_it_is_sent_and_not_to_a_node_that_is_down() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let first = leader(&place)?;
    let to = first % 3 + 1;
    let (code, report) = place.json(&["transfer-leader", "--to", &to.to_string()])?;
    ensure!(code == 0 && report["changed"] == 1, "{report:#}");
    ensure!(leader(&place)? == to);
    let (code, again) = place.json(&["transfer-leader", "--to", &to.to_string()])?;
    ensure!(code == 0 && again["changed"] == 0, "{again:#}");
    let (code, away) = place.json(&["transfer-leader"])?;
    ensure!(code == 0 && leader(&place)? != to, "{away:#}");

    let down = (1..=3).find(|id| leader(&place).is_ok_and(|leader| leader != *id)).context("a follower")?;
    ensure!(place.escli(&["stop", &down.to_string()])?.status.code() == Some(0));
    let refused = place.escli(&["transfer-leader", "--to", &down.to_string()])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3) && said.contains(&format!("escli start {down}")), "{said}");
    ensure!(place.escli(&["transfer-leader", "--to", "9"])?.status.code() == Some(3));
    Ok(())
}

#[test]
fn a_rolling_restart_replaces_every_process_while_events_go_on() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let before = pids(&place)?;
    let first = leader(&place)?;
    let address = |id: u64| format!("127.0.0.1:{}", u64::from(place.base) + id - 1).parse();
    let mut client = Client::connect(address(first)?, Duration::from_secs(2))?;
    ensure!(client.create_topic("kept", 1)? == 0);
    ensure!(client.produce("kept", 0, b"before")? == Ok(0));
    let (_, planned) = place.json(&["restart", "--dry-run"])?;
    let (code, report) = place.json(&["restart"])?;
    ensure!(code == 0, "{report:#}");
    ensure!(ids(&planned) == ids(&report), "{planned:#}\n{report:#}");
    let steps = ids(&report);
    let last_stop = steps.iter().rfind(|id| id.ends_with(".stop"));
    ensure!(last_stop == Some(&format!("n{first}.stop")), "the leader comes last: {steps:?}");
    let handed = steps.iter().position(|id| id.ends_with(".transfer-leader"));
    ensure!(handed < steps.iter().position(|id| Some(id) == last_stop), "{steps:?}");
    let after = pids(&place)?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    healthy(&place)?;
    let mut client = Client::connect(address(leader(&place)?)?, Duration::from_secs(2))?;
    ensure!(client.produce("kept", 0, b"after")? == Ok(1));
    Ok(())
}

#[test]
fn a_restart_that_would_cost_the_majority_touches_nothing() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    ensure!(place.escli(&["stop", "3"])?.status.code() == Some(0));
    let before = pids_of(&place, &[1, 2])?;
    let refused = place.escli(&["restart", "1", "2", "--yes"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3), "{said}");
    ensure!(said.contains("escli start 3") && said.contains("--allow-downtime"), "{said}");
    ensure!(pids_of(&place, &[1, 2])? == before, "a node was touched");
    let (code, report) = place.json(&["restart"])?;
    ensure!(code == 0 && ids(&report)[0] == "n3.start", "what is down goes first: {report:#}");
    healthy(&place)
}

fn pids_of(place: &Place, nodes: &[u64]) -> Result<Vec<String>> {
    let pid = |id: &u64| Ok(std::fs::read_to_string(place.cluster().join(format!("n{id}/pid")))?);
    nodes.iter().map(pid).collect()
}

#[test]
fn a_reload_gives_what_changed_to_those_that_run_with_something_else() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let (code, none) = place.json(&["reload"])?;
    ensure!(code == 0 && none["changed"] == 0, "{none:#}");
    let before = pids(&place)?;
    ensure!(place.json(&["diff"])?.0 == 0 && place.json(&["plan"])?.0 == 0);
    edit(&place, "deploy:", "  raft:\n    heartbeat_interval: 40\ndeploy:")?;
    let (code, plan) = place.json(&["plan"])?;
    ensure!(code == 11 && ids(&plan).contains(&"n1.config".to_owned()), "{plan:#}");
    let (code, diff) = place.json(&["diff"])?;
    ensure!(code == 11 && diff["differences"] == 3, "{diff:#}");
    let lines = diff["nodes"][0]["lines"].to_string();
    ensure!(lines.contains("+    heartbeat_interval: 40") && !lines.contains("node_id"), "{lines}");
    let (code, report) = place.json(&["reload"])?;
    ensure!(code == 0, "{report:#}");
    let after = pids(&place)?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    let (_, status) = place.json(&["status"])?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    ensure!(nodes.iter().all(|node| node["config"] == "in_sync"), "{status:#}");
    ensure!(place.json(&["diff"])?.0 == 0, "nothing differs any more");
    let (code, again) = place.json(&["reload"])?;
    ensure!(code == 0 && again["changed"] == 0 && pids(&place)? == after, "{again:#}");
    Ok(())
}

#[test]
fn a_node_that_does_not_come_back_stops_the_restart_there() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let leader = leader(&place)?;
    let first = (1..=3).find(|id| *id != leader).context("a follower")?;
    let others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    let before = pids_of(&place, &others)?;
    let broken = place.dir.path().join("broken");
    script(&broken, "echo this binary does not work >&2; exit 1")?;
    let output = place.escli(&["restart", "--binary", broken.to_str().context("a path")?])?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(4), "{:?}: {said}", output.status);
    ensure!(said.contains("does not work") && said.contains("escli history resume"), "{said}");
    ensure!(pids_of(&place, &others)? == before, "it went on to the next node");
    ensure!(place.escli(&["start"])?.status.code() == Some(0));
    healthy(&place)
}

#[test]
fn alerts_name_a_node_that_is_down_and_do_not_judge_what_a_short_window_cannot_tell() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let state = |document: &Value, name: &str| {
        let alerts = list(document, "alerts");
        let found = alerts.iter().find(|alert| alert["name"] == name).cloned();
        found.with_context(|| format!("{name} in {document:#}"))
    };
    let (code, fine) = place.json(&["alerts", "--window", "300ms"])?;
    ensure!(code == 0 && fine["firing"] == 0 && list(&fine, "alerts").len() == 4, "{fine:#}");
    ensure!(state(&fine, "write failure")?["state"] == "ok", "{fine:#}");
    ensure!(place.escli(&["stop", "3"])?.status.code() == Some(0));
    let (code, down) = place.json(&["alerts", "--window", "300ms"])?;
    let node_down = state(&down, "node down")?;
    ensure!(code == 10 && node_down["state"] == "firing", "{down:#}");
    ensure!(node_down["findings"].to_string().contains("n3 does not answer: connection refused"), "{down:#}");
    ensure!(
        state(&down, "unstable")?["findings"].to_string().contains("the window is too short"),
        "{down:#}"
    );
    Ok(())
}

fn script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    Ok(std::fs::set_permissions(path, mode)?)
}

fn list(document: &Value, key: &str) -> Vec<Value> {
    document[key].as_array().cloned().unwrap_or_default()
}
