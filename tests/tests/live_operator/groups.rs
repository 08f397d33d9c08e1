//! `escli group` against a cluster of this machine.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::cli::{CliRunner, text};
use tests::http;

/// Runs escli with `-o json`, which must succeed. Returns its document.
fn json_of(cli: &CliRunner, line: &str) -> Result<Value> {
    let (code, document) = cli.json(&line.split(' ').collect::<Vec<_>>())?;
    ensure!(code == 0, "{line}: {document:#}");
    Ok(document)
}

/// Writes so many events to partition 0 of `orders`.
fn produce(cli: &CliRunner, count: usize) -> Result<()> {
    let mut command = cli.command(&["produce", "orders", "--partition", "0"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().context("standard input")?.write_all("event\n".repeat(count).as_bytes())?;
    ensure!(child.wait()?.success());
    Ok(())
}

fn with_events(nodes: usize) -> Result<CliRunner> {
    let cli = CliRunner::with_cluster(nodes)?;
    json_of(&cli, "topic create orders --partitions 2")?;
    produce(&cli, 5)?;
    Ok(cli)
}

/// A consumer of the group `billing`, which is killed on drop.
struct Consumer(Child);

impl Consumer {
    fn start(cli: &CliRunner) -> Result<Self> {
        let mut kcat = Command::new("kcat");
        let broker = cli.kafka(1).to_string();
        kcat.args(["-b", &broker, "-X", "client.id=biller", "-X", "auto.offset.reset=earliest"]);
        kcat.args(["-X", "auto.commit.interval.ms=100", "-G", "billing", "orders"]);
        Ok(Self(kcat.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("kcat")?))
    }

    /// Lets it leave the group and end.
    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_group_is_reset_described_and_deleted() -> Result<()> {
    let cli = with_events(3)?;
    ensure!(json_of(&cli, "group list")?["groups"] == json!([]));
    json_of(&cli, "group reset-offsets billing --to 2 --topic orders --yes")?;
    ensure!(json_of(&cli, "group list")?["groups"][0]["name"] == "billing");
    let group = json_of(&cli, "group describe billing")?["groups"][0].clone();
    ensure!(group["lag"] == 3 && group["state"] == "Empty", "{group:#}");
    produce(&cli, 4)?;
    // What was committed survives the loss of the coordinator.
    cli.signal(cli.leader()?, rustix::process::Signal::KILL)?;
    ensure!(json_of(&cli, "group describe billing")?["groups"][0]["lag"] == 7);
    let shown = json_of(&cli, "group reset-offsets billing --to latest --dry-run")?;
    ensure!(shown["dry_run"] == true && shown["partitions"][0]["after"] == 9, "{shown:#}");
    ensure!(json_of(&cli, "group describe billing")?["groups"][0]["lag"] == 7);
    json_of(&cli, "group reset-offsets billing --to latest --yes")?;
    ensure!(json_of(&cli, "group describe billing")?["groups"][0]["lag"] == 0);
    ensure!(cli.escli(&["group", "delete", "billing"])?.status.code() == Some(3));
    json_of(&cli, "group delete billing --yes")?;
    ensure!(json_of(&cli, "group list")?["groups"] == json!([]));
    Ok(())
}

#[test]
fn the_offsets_of_a_group_with_members_are_not_touched() -> Result<()> {
    let cli = with_events(1)?;
    let consumer = Consumer::start(&cli)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let group = loop {
        let (_, document) = cli.json(&["group", "describe", "billing"])?;
        let group = document["groups"][0].clone();
        if group["members"][0]["partitions"] == 2 {
            break group;
        }
        ensure!(Instant::now() < deadline, "{document:#}");
        std::thread::sleep(Duration::from_millis(100));
    };
    ensure!(group["state"] == "Stable" && group["members"][0]["client"] == "biller", "{group:#}");
    ensure!(group["partitions"][0]["member"] == "biller", "{group:#}");
    for line in
        ["group reset-offsets billing --to earliest --topic orders --yes", "group delete billing --yes"]
    {
        let output = cli.escli(&line.split(' ').collect::<Vec<_>>())?;
        let said = text(&output.stderr);
        ensure!(output.status.code() == Some(3) && said.contains("group billing has a member"), "{said}");
    }
    drop(consumer);
    Ok(())
}

/// Waits until the status reports the group `billing` like this. Returns the document.
fn wait_for(cli: &CliRunner, state: &str, members: u64, lag: u64) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = cli.status()?;
        let group = &status["groups"]["groups"][0];
        if (&group["state"], &group["members"], &group["lag"])
            == (&state.into(), &members.into(), &lag.into())
        {
            return Ok(status);
        }
        ensure!(Instant::now() < deadline, "{status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the group `billing` has committed the offset after five events: without any offset it is forgotten with its
/// last member.
fn wait_for_commit(cli: &CliRunner) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, document) = cli.json(&["group", "describe", "billing"])?;
        if document["groups"][0]["partitions"][0]["committed_offset"] == 5 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{document:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Asks a node's admin port.
fn ask(cli: &CliRunner, id: u64, path: &str) -> Result<String> {
    let port = u64::from(cli.base) + 200 + id - 1;
    let (code, body) = http::call(&format!("127.0.0.1:{port}"), "GET", path, "")?;
    ensure!(code == 200, "{path}: {body}");
    Ok(body)
}

#[test]
fn the_lag_of_a_stopped_consumer_shows_wherever_an_operator_looks() -> Result<()> {
    let cli = with_events(3)?;
    ensure!(cli.status()?["groups"] == json!({"total": 0, "left_off": 0, "groups": []}));
    let consumer = Consumer::start(&cli)?;
    wait_for(&cli, "Stable", 1, 0)?;
    wait_for_commit(&cli)?;
    consumer.stop()?;
    produce(&cli, 4)?;
    let status = wait_for(&cli, "Empty", 0, 4)?;
    let leader = status["leader"].as_u64().context("a leader")?;

    let wide = text(&cli.escli(&["status", "-o", "wide"])?.stdout);
    ensure!(wide.ends_with("\nbilling  Empty        0    4        4\n"), "{wide}");
    let watched = cli.escli(&["watch", "--until", "leader", "-o", "json"])?.stdout;
    let watched: Value = serde_json::from_slice(&watched)?;
    ensure!(watched["groups"] == status["groups"], "{watched:#}");

    let metrics = ask(&cli, leader, "/metrics")?;
    for line in [
        "eventstream_groups 1",
        "eventstream_groups_left_off 0",
        "eventstream_group_lag{group=\"billing\"} 4",
        "eventstream_group_lag_max{group=\"billing\"} 4",
        "eventstream_group_members{group=\"billing\"} 0",
    ] {
        ensure!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    for id in (1..=3).filter(|id| *id != leader) {
        ensure!(!ask(&cli, id, "/metrics")?.contains("eventstream_group"), "one node tells");
        let told: Value = serde_json::from_str(&ask(&cli, id, "/cluster/groups")?)?;
        ensure!(told == status["groups"], "a follower asks the leader: {told:#}");
    }

    // The next leader knows as much.
    cli.signal(leader, Signal::KILL)?;
    wait_for(&cli, "Empty", 0, 4)?;
    Ok(())
}
