//! `escli` against real nodes on this machine: up, status, stop, start, down, and what it refuses.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::client::Client;
use tests::cluster::binary;

/// A place of its own for one local cluster: folder, state, and a range of ports that nobody else uses.
struct Place {
    dir: TempDir,
    base: u16,
}

impl Place {
    fn new() -> Result<Self> {
        // Suites run in processes of their own; each takes a range by its process id, below the ephemeral ports.
        let base = 10_000 + u16::try_from(std::process::id() % 40)? * 400;
        let free = |base: &u16| (0..300).all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok());
        let base = (0..40).map(|turn| 10_000 + (base - 10_000 + turn * 400) % 16_000).find(free);
        Ok(Self { dir: tempfile::tempdir()?, base: base.context("no free ports")? })
    }

    fn cluster(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn escli(&self, args: &[&str]) -> Result<Output> {
        let state = self.dir.path().join("state");
        let output = Command::new(binary("escli"))
            .args(args)
            .env("XDG_STATE_HOME", &state)
            .env("XDG_DATA_HOME", &state)
            .env_remove("ESCLI_CONFIG")
            .env("ESNODE", binary("esnode"))
            .current_dir(self.dir.path())
            .output()?;
        Ok(output)
    }

    /// Runs with `-o json`; the exit code and the one document.
    fn json(&self, args: &[&str]) -> Result<(i32, Value)> {
        let output = self.escli(&[args, &["-o", "json"]].concat())?;
        let code = output.status.code().context("an exit code")?;
        let document = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("{args:?} printed {:?}, {:?}", text(&output.stdout), text(&output.stderr))
        })?;
        Ok((code, document))
    }

    fn up(&self) -> Result<(i32, Value)> {
        let dir = self.cluster();
        let base = self.base.to_string();
        self.json(&["up", "--local", "--dir", path(&dir), "--base-port", &base])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.escli(&["down", "--yes"]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

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

/// Step ids in order, wherever the document keeps them.
fn ids(document: &Value) -> Vec<String> {
    let steps = |value: &Value| value["steps"].as_array().cloned();
    let all = steps(document).or_else(|| {
        let stages = document["stages"].as_array()?;
        Some(stages.iter().filter_map(steps).flatten().collect())
    });
    all.unwrap_or_default().iter().filter_map(|step| Some(step["id"].as_str()?.to_owned())).collect()
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
