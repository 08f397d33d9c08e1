//! `escli` against real nodes on this machine: up, status, stop, start, down, and what it refuses.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::Client;
use tests::place::{Place, ids, path, text};

fn node(status: &Value, id: u64) -> Result<&Value> {
    let nodes = status["nodes"].as_array().context("nodes")?;
    nodes.iter().find(|node| node["id"] == id).context("the node")
}

#[test]
fn up_brings_a_cluster_that_takes_events_and_down_ends_it() -> Result<()> {
    let place = Place::new()?;
    let (code, report) = place.up()?;
    ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
    ensure!(report["changed"].as_u64() > Some(0), "{report:#}");

    let (code, again) = place.up()?;
    ensure!(code == 0 && again["changed"] == 0, "a second up changes nothing: {again:#}");

    let (code, status) = place.json(&["status"])?;
    ensure!(code == 0 && status["health"] == "HEALTHY", "{status:#}");
    ensure!(status["voters"] == 3 && status["tolerates"] == 1, "{status:#}");
    let leader = status["leader"].as_u64().context("a leader")?;
    let address = format!("127.0.0.1:{}", u64::from(place.base) + leader - 1).parse()?;
    let mut client = Client::connect(address, std::time::Duration::from_secs(2))?;
    ensure!(client.create_topic("greetings", 1)? == 0);
    ensure!(client.produce("greetings", 0, b"hello")? == Ok(0));

    ensure!(place.escli(&["health"])?.status.code() == Some(0));
    ensure!(place.escli(&["down"])?.status.code() == Some(0));
    let (_, status) = place.json(&["status"])?;
    ensure!(node(&status, 1)?["state"] != "up", "{status:#}");
    Ok(())
}

#[test]
fn start_brings_back_what_is_down_and_leaves_the_rest_alone() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let pid = |id: u64| std::fs::read_to_string(place.cluster().join(format!("n{id}/pid")));
    let before = [pid(1)?, pid(2)?, pid(3)?];
    let stopped = place.escli(&["stop", "2"])?;
    ensure!(stopped.status.code() == Some(0), "{}", text(&stopped.stderr));

    let (_, status) = place.json(&["status"])?;
    ensure!(status["health"] == "DEGRADED", "{status:#}");
    ensure!(status["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{status:#}");
    ensure!(place.escli(&["health"])?.status.code() == Some(10), "health says so by its exit code");

    let (code, report) = place.json(&["start"])?;
    ensure!(code == 0, "{report:#}");
    ensure!(pid(1)? == before[0] && pid(3)? == before[2] && pid(2)? != before[1], "only node 2 was started");
    let (_, status) = place.json(&["status"])?;
    ensure!(status["health"] == "HEALTHY", "{status:#}");
    Ok(())
}

#[test]
fn a_node_that_panics_is_reported_with_its_panic() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    ensure!(place.escli(&["down"])?.status.success());
    let program = place.dir.path().join("esnode");
    let script = "#!/bin/sh\nexec >&2\necho \"thread 'raft' (7) panicked at src/driver/run.rs:1:2:\"\necho 'term out of range'\n\
                  echo 'stack backtrace:'\nfor at in $(seq 60); do echo \"  $at: somewhere\"; done\n\
                  echo 'note: Some details are omitted, run with `RUST_BACKTRACE=full`'\nexit 101\n";
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (code, report) = place.json(&["start", "1", "--binary", path(&program)])?;
    let message = report["error"]["message"].to_string();
    let panic =
        "node 1 stopped unexpectedly; thread 'raft' (7) panicked at src/driver/run.rs:1:2: term out of range";
    ensure!(code != 0 && message.contains(panic), "{code} {report:#}");
    Ok(())
}

#[test]
fn a_taken_port_is_named_and_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    let taken = TcpListener::bind(("127.0.0.1", place.base + 1))?;
    let dir = place.cluster();
    let output =
        place.escli(&["up", "--local", "--dir", path(&dir), "--base-port", &place.base.to_string()])?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(3), "{:?}: {said}", output.status);
    ensure!(said.contains(&(place.base + 1).to_string()) && said.contains("--base-port"), "{said}");
    ensure!(!dir.join("n1").exists(), "something was made");
    drop(taken);
    Ok(())
}

#[test]
fn a_dry_run_lists_the_steps_that_the_run_then_reports() -> Result<()> {
    let place = Place::new()?;
    let dir = place.cluster();
    let base = place.base.to_string();
    let (code, plan) =
        place.json(&["up", "--local", "--dir", path(&dir), "--base-port", &base, "--dry-run"])?;
    ensure!(code == 0 && !dir.join("n1").exists(), "{plan:#}");
    let planned = ids(&plan);
    let (_, report) = place.up()?;
    ensure!(!planned.is_empty() && planned == ids(&report), "{planned:?}\n{report:#}");
    Ok(())
}

#[test]
fn a_killed_node_is_a_row_with_its_reason() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let pid: i32 = std::fs::read_to_string(place.cluster().join("n3/pid"))?.trim().parse()?;
    let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    // It dies a moment after it was told to.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let said = loop {
        let output = place.escli(&["status"])?;
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
