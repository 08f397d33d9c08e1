//! `escli group` against a cluster of this machine.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cli::{CliRunner, text};

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
        kcat.args(["-b", &cli.kafka(1).to_string(), "-X", "client.id=biller", "-G", "billing", "orders"]);
        Ok(Self(kcat.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("kcat")?))
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
