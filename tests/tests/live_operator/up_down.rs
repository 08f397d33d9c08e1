//! `escli up`, `status`, `stop`, `start` and `down` for local clusters.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, ids, path, text};
use tests::client::Client;

fn node(status: &Value, id: u64) -> Result<&Value> {
    let nodes = status["nodes"].as_array().context("nodes")?;
    nodes.iter().find(|node| node["id"] == id).context("the node")
}

#[test]
fn up_starts_a_cluster_that_accepts_events_and_down_stops_it() -> Result<()> {
    let cli = CliRunner::new()?;
    let (code, report) = cli.up()?;
    ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
    ensure!(report["changed"].as_u64() > Some(0), "{report:#}");

    let (code, again) = cli.up()?;
    ensure!(code == 0 && again["changed"] == 0, "a second up changes nothing: {again:#}");

    let (code, status) = cli.json(&["status"])?;
    ensure!(code == 0 && status["health"] == "HEALTHY", "{status:#}");
    ensure!(status["voters"] == 3 && status["tolerates"] == 1, "{status:#}");
    let mut client = Client::connect(cli.kafka(cli.leader()?), std::time::Duration::from_secs(2))?;
    ensure!(client.create_topic("greetings", 1)? == 0);
    ensure!(client.produce("greetings", 0, b"hello")? == Ok(0));

    ensure!(cli.escli(&["health"])?.status.code() == Some(0));
    ensure!(cli.escli(&["down"])?.status.code() == Some(0));
    let (_, status) = cli.json(&["status"])?;
    ensure!(node(&status, 1)?["state"] != "up", "{status:#}");
    Ok(())
}

#[test]
fn start_starts_only_nodes_that_are_down() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let before = cli.pids(1..=3)?;
    let stopped = cli.escli(&["stop", "2"])?;
    ensure!(stopped.status.code() == Some(0), "{}", text(&stopped.stderr));

    let (_, status) = cli.json(&["status"])?;
    ensure!(status["health"] == "DEGRADED", "{status:#}");
    ensure!(status["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{status:#}");
    ensure!(cli.escli(&["health"])?.status.code() == Some(10), "health says so by its exit code");

    let (code, report) = cli.json(&["start"])?;
    ensure!(code == 0, "{report:#}");
    let after = cli.pids(1..=3)?;
    ensure!(
        after[0] == before[0] && after[2] == before[2] && after[1] != before[1],
        "only node 2 is started"
    );
    let (_, status) = cli.json(&["status"])?;
    ensure!(status["health"] == "HEALTHY", "{status:#}");
    Ok(())
}

#[test]
fn a_node_that_panics_is_reported_with_its_panic() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    ensure!(cli.escli(&["down"])?.status.success());
    let program = cli.dir.path().join("esnode");
    let script = "#!/bin/sh\nexec >&2\necho \"thread 'raft' (7) panicked at src/driver/run.rs:1:2:\"\necho 'term out of range'\n\
                  echo 'stack backtrace:'\nfor at in $(seq 60); do echo \"  $at: somewhere\"; done\n\
                  echo 'note: Some details are omitted, run with `RUST_BACKTRACE=full`'\nexit 101\n";
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (code, report) = cli.json(&["start", "1", "--binary", path(&program)])?;
    let message = report["error"]["message"].to_string();
    let panic =
        "node 1 ended by itself; thread 'raft' (7) panicked at src/driver/run.rs:1:2: term out of range";
    ensure!(code != 0 && message.contains(panic), "{code} {report:#}");
    Ok(())
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_changed() -> Result<()> {
    let cli = CliRunner::new()?;
    let taken = TcpListener::bind(("127.0.0.1", cli.base + 1))?;
    let dir = cli.cluster();
    let output = cli.escli(&["up", "--local", "--dir", path(&dir), "--base-port", &cli.base.to_string()])?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(3), "{:?}: {said}", output.status);
    ensure!(said.contains(&(cli.base + 1).to_string()) && said.contains("--base-port"), "{said}");
    ensure!(!dir.join("n1").exists(), "a file was created");
    drop(taken);
    Ok(())
}

#[test]
fn a_dry_run_lists_the_steps_that_the_run_then_reports() -> Result<()> {
    let cli = CliRunner::new()?;
    let dir = cli.cluster();
    let base = cli.base.to_string();
    let (code, plan) =
        cli.json(&["up", "--local", "--dir", path(&dir), "--base-port", &base, "--dry-run"])?;
    ensure!(code == 0 && !dir.join("n1").exists(), "{plan:#}");
    let planned = ids(&plan);
    let (_, report) = cli.up()?;
    ensure!(!planned.is_empty() && planned == ids(&report), "{planned:?}\n{report:#}");
    Ok(())
}

#[test]
fn status_shows_a_killed_node_with_the_reason() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    cli.signal(3, rustix::process::Signal::KILL)?;
    // The process is gone a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let said = loop {
        let output = cli.escli(&["status"])?;
        let said = text(&output.stdout);
        ensure!(output.status.code() == Some(0), "{said}");
        if said.contains("refused") {
            break said;
        }
        ensure!(std::time::Instant::now() < deadline, "{said}");
    };
    ensure!(said.contains("DEGRADED"), "{said}");
    ensure!(said.lines().any(|line| line.starts_with('3') && line.contains("unreachable")), "{said}");
    Ok(())
}
