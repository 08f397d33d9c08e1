//! `escli transfer-leader`, `restart`, `reload` and `alerts` on a running local cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, ids, script, text};
use tests::client::Client;

fn check_healthy(cli: &CliRunner) -> Result<()> {
    let (code, status) = cli.json(&["health"])?;
    ensure!(code == 0, "{status:#}");
    Ok(())
}

fn edit(cli: &CliRunner, from: &str, to: &str) -> Result<()> {
    let file = cli.cluster().join("cluster.yaml");
    let before = std::fs::read_to_string(&file)?;
    ensure!(before.contains(from), "{before}");
    Ok(std::fs::write(&file, before.replacen(from, to, 1))?)
}

#[test]
fn leadership_is_transferred_but_not_to_a_node_that_is_down() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let first = cli.leader()?;
    let to = first % 3 + 1;
    let (code, report) = cli.json(&["transfer-leader", "--to", &to.to_string()])?;
    ensure!(code == 0 && report["changed"] == 1, "{report:#}");
    ensure!(cli.leader()? == to);
    let (code, again) = cli.json(&["transfer-leader", "--to", &to.to_string()])?;
    ensure!(code == 0 && again["changed"] == 0, "{again:#}");
    let (code, away) = cli.json(&["transfer-leader"])?;
    ensure!(code == 0 && cli.leader()? != to, "{away:#}");

    let down = (1..=3).find(|id| cli.leader().is_ok_and(|leader| leader != *id)).context("a follower")?;
    ensure!(cli.escli(&["stop", &down.to_string()])?.status.code() == Some(0));
    let refused = cli.escli(&["transfer-leader", "--to", &down.to_string()])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3) && said.contains(&format!("escli start {down}")), "{said}");
    ensure!(cli.escli(&["transfer-leader", "--to", "9"])?.status.code() == Some(3));
    Ok(())
}

#[test]
fn a_rolling_restart_replaces_every_process_while_events_go_on() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let before = cli.pids(1..=3)?;
    let first = cli.leader()?;
    let mut client = Client::connect(cli.kafka(first), Duration::from_secs(2))?;
    ensure!(client.create_topic("kept", 1)? == 0);
    ensure!(client.produce("kept", 0, b"before")? == Ok(0));
    let (_, planned) = cli.json(&["restart", "--dry-run"])?;
    let (code, report) = cli.json(&["restart"])?;
    ensure!(code == 0, "{report:#}");
    ensure!(ids(&planned) == ids(&report), "{planned:#}\n{report:#}");
    let steps = ids(&report);
    let last_stop = steps.iter().rfind(|id| id.ends_with(".stop"));
    ensure!(last_stop == Some(&format!("n{first}.stop")), "the leader comes last: {steps:?}");
    let handed = steps.iter().position(|id| id.ends_with(".lead"));
    ensure!(handed < steps.iter().position(|id| Some(id) == last_stop), "{steps:?}");
    let after = cli.pids(1..=3)?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    check_healthy(&cli)?;
    let mut client = Client::connect(cli.kafka(cli.leader()?), Duration::from_secs(2))?;
    ensure!(client.produce("kept", 0, b"after")? == Ok(1));
    Ok(())
}

#[test]
fn a_restart_that_would_lose_the_quorum_changes_nothing() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    ensure!(cli.escli(&["stop", "3"])?.status.code() == Some(0));
    let before = cli.pids([1, 2])?;
    let refused = cli.escli(&["restart", "1", "2", "--yes"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3), "{said}");
    ensure!(said.contains("escli start 3") && said.contains("--allow-downtime"), "{said}");
    ensure!(cli.pids([1, 2])? == before, "a node was restarted");
    let (code, report) = cli.json(&["restart"])?;
    ensure!(code == 0 && ids(&report)[0] == "n3.start", "what is down goes first: {report:#}");
    check_healthy(&cli)
}

#[test]
fn a_reload_restarts_the_nodes_that_run_with_another_configuration() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let (code, none) = cli.json(&["reload"])?;
    ensure!(code == 0 && none["changed"] == 0, "{none:#}");
    let before = cli.pids(1..=3)?;
    ensure!(cli.json(&["diff"])?.0 == 0 && cli.json(&["plan"])?.0 == 0);
    edit(&cli, "deploy:", "  raft:\n    heartbeat_interval: 40\ndeploy:")?;
    let (code, plan) = cli.json(&["plan"])?;
    ensure!(code == 11 && ids(&plan).contains(&"n1.config".to_owned()), "{plan:#}");
    let (code, diff) = cli.json(&["diff"])?;
    ensure!(code == 11 && diff["differences"] == 3, "{diff:#}");
    let lines = diff["nodes"][0]["lines"].to_string();
    ensure!(lines.contains("+    heartbeat_interval: 40") && !lines.contains("node_id"), "{lines}");
    let (code, report) = cli.json(&["reload"])?;
    ensure!(code == 0, "{report:#}");
    let after = cli.pids(1..=3)?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    let (_, status) = cli.json(&["status"])?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    ensure!(nodes.iter().all(|node| node["config"] == "in_sync"), "{status:#}");
    ensure!(cli.json(&["diff"])?.0 == 0, "something still differs");
    let (code, again) = cli.json(&["reload"])?;
    ensure!(code == 0 && again["changed"] == 0 && cli.pids(1..=3)? == after, "{again:#}");
    Ok(())
}

#[test]
fn a_node_that_does_not_restart_stops_the_rolling_restart() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let leader = cli.leader()?;
    let first = (1..=3).find(|id| *id != leader).context("a follower")?;
    let others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    let before = cli.pids(others.clone())?;
    let broken = cli.dir.path().join("broken");
    script(&broken, "echo this binary does not work >&2; exit 1")?;
    let output = cli.escli(&["restart", "--binary", broken.to_str().context("a path")?])?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(4), "{:?}: {said}", output.status);
    ensure!(said.contains("does not work") && said.contains("escli history resume"), "{said}");
    ensure!(cli.pids(others.clone())? == before, "it went on to the next node");
    ensure!(cli.escli(&["start"])?.status.code() == Some(0));
    check_healthy(&cli)
}

#[test]
fn alerts_name_a_node_that_is_down_and_report_a_window_that_is_too_short() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let state = |document: &Value, name: &str| {
        let alerts = list(document, "alerts");
        let found = alerts.iter().find(|alert| alert["name"] == name).cloned();
        found.with_context(|| format!("{name} in {document:#}"))
    };
    let (code, fine) = cli.json(&["alerts", "--window", "300ms"])?;
    ensure!(code == 0 && fine["firing"] == 0 && list(&fine, "alerts").len() == 4, "{fine:#}");
    ensure!(state(&fine, "write failure")?["state"] == "ok", "{fine:#}");
    ensure!(cli.escli(&["stop", "3"])?.status.code() == Some(0));
    let (code, down) = cli.json(&["alerts", "--window", "300ms"])?;
    let node_down = state(&down, "node down")?;
    ensure!(code == 10 && node_down["state"] == "firing", "{down:#}");
    ensure!(node_down["findings"].to_string().contains("n3 does not answer: connection refused"), "{down:#}");
    ensure!(state(&down, "unstable")?["findings"].to_string().contains("window too short"), "{down:#}");
    Ok(())
}

fn list(document: &Value, key: &str) -> Vec<Value> {
    document[key].as_array().cloned().unwrap_or_default()
}
