//! `escli produce` and `escli consume` against a cluster of this machine.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::cli::{CliRunner, text};

/// Starts `escli produce`, which reads from the child's standard input.
fn producing(cli: &CliRunner, args: &[&str]) -> Result<Child> {
    let mut command = cli.command(&[&["produce"], args].concat());
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// Gives it this input, and waits for its end.
fn produce(cli: &CliRunner, args: &[&str], input: &[u8]) -> Result<Output> {
    let mut child = producing(cli, args)?;
    child.stdin.take().context("standard input")?.write_all(input)?;
    Ok(child.wait_with_output()?)
}

/// Runs `escli consume`, which must succeed. Returns its lines.
fn consumed(cli: &CliRunner, args: &[&str]) -> Result<Vec<String>> {
    let output = cli.escli(&[&["consume"], args].concat())?;
    ensure!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout).lines().map(str::to_owned).collect())
}

fn with_topic(nodes: usize, partitions: &str) -> Result<CliRunner> {
    let cli = CliRunner::with_cluster(nodes)?;
    let created = cli.escli(&["topic", "create", "orders", "--partitions", partitions])?;
    ensure!(created.status.success(), "{}", text(&created.stderr));
    Ok(cli)
}

#[test]
fn what_is_produced_is_consumed() -> Result<()> {
    let cli = with_topic(1, "1")?;
    let output =
        produce(&cli, &["orders", "--key-separator", ":", "--header", "source=test"], b"k:first\nl:\xff\n")?;
    ensure!(output.status.success() && text(&output.stdout) == "2 events written to orders\n", "{output:?}");
    let report = produce(&cli, &["orders", "-o", "json"], b"third\n\nfifth")?;
    let report: Value = serde_json::from_slice(&report.stdout)?;
    let row = json!({"partition": 0, "events": 3, "first_offset": 2, "last_offset": 4});
    ensure!(report["written"] == 3 && report["partitions"] == json!([row]), "{report:#}");

    ensure!(consumed(&cli, &["orders"])? == ["first", "\u{fffd}", "third", "", "fifth"]);
    ensure!(consumed(&cli, &["orders", "--key-separator", "="])?[..3] == ["k=first", "l=\u{fffd}", "=third"]);
    ensure!(consumed(&cli, &["orders", "--from", "2", "--count", "1"])? == ["third"]);
    ensure!(consumed(&cli, &["orders", "--from", "1h"])?.len() == 5);
    ensure!(consumed(&cli, &["orders", "--from", "end"])?.is_empty());
    let raw = cli.escli(&["consume", "orders", "--raw", "--from", "1", "--count", "1"])?;
    ensure!(raw.stdout == b"\xff\n", "{raw:?}");
    let lines = consumed(&cli, &["orders", "-o", "json"])?;
    let events: Vec<Value> =
        lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let headers = json!([{"key": "source", "value": "test"}]);
    ensure!(events[0]["key"] == "k" && events[0]["value"] == "first" && events[0]["headers"] == headers);
    ensure!(events[1]["value_base64"] == "/w==" && events[1]["offset"] == 1, "{}", events[1]);
    ensure!(events[2]["key"].is_null() && events[2]["headers"] == json!([]));
    Ok(())
}

#[test]
fn partitions_are_chosen_by_key_in_turns_or_by_name() -> Result<()> {
    let cli = with_topic(1, "3")?;
    let offsets = |args: &[&str]| -> Result<Vec<(i64, Value)>> {
        let lines = consumed(&cli, &[&["orders", "-o", "json"], args].concat())?;
        let event = |line: &String| {
            let event: Value = serde_json::from_str(line)?;
            Ok((event["partition"].as_i64().context("partition")?, event["value"].clone()))
        };
        lines.iter().map(event).collect()
    };
    let pinned = produce(&cli, &["orders", "--partition", "2"], b"a\nb\n")?;
    ensure!(pinned.status.success());
    ensure!(offsets(&[])? == [(2, json!("a")), (2, json!("b"))]);
    ensure!(offsets(&["--partition", "0,1"])?.is_empty());
    let keyed: String = (0..60).map(|number| format!("{}:{number}\n", number % 6)).collect();
    ensure!(produce(&cli, &["orders", "--key-separator", ":"], keyed.as_bytes())?.status.success());
    let lines = consumed(&cli, &["orders", "-o", "json"])?;
    let events =
        lines.iter().map(|line| serde_json::from_str::<Value>(line)).collect::<Result<Vec<_>, _>>()?;
    let places: BTreeSet<_> = events
        .iter()
        .filter(|event| !event["key"].is_null())
        .map(|event| (event["key"].to_string(), event["partition"].to_string()))
        .collect();
    ensure!(places.len() == 6, "a key has one partition: {places:?}");
    let missing = produce(&cli, &["orders", "--partition", "3"], b"a\n")?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");
    ensure!(text(&missing.stderr).contains("there is no partition 3 of orders; it has 3"), "{missing:?}");
    Ok(())
}

#[test]
fn a_topic_that_does_not_exist_is_not_created_by_the_way() -> Result<()> {
    let cli = CliRunner::with_cluster(1)?;
    let output = produce(&cli, &["orders"], b"a\n")?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("there is no topic orders"), "{said}");
    ensure!(said.contains("escli topic create orders"), "{said}");
    ensure!(cli.json(&["topic", "list"])?.1["topics"] == json!([]));
    Ok(())
}

#[test]
fn every_event_is_written_once_though_the_leader_is_killed() -> Result<()> {
    let cli = with_topic(3, "1")?;
    let mut child = producing(&cli, &["orders"])?;
    let mut input = child.stdin.take().context("standard input")?;
    let leader = cli.leader()?;
    for number in 0..400 {
        writeln!(input, "{number}")?;
        std::thread::sleep(Duration::from_millis(2));
        if number == 100 {
            cli.signal(leader, Signal::KILL)?;
        }
    }
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    ensure!(text(&output.stdout) == "400 events written to orders\n", "{}", text(&output.stdout));
    let expected: Vec<_> = (0..400).map(|number| number.to_string()).collect();
    ensure!(consumed(&cli, &["orders"])? == expected);
    Ok(())
}

#[test]
fn without_a_quorum_nothing_counts_as_written() -> Result<()> {
    let cli = with_topic(3, "1")?;
    ensure!(produce(&cli, &["orders"], b"before\n")?.status.success());
    let mut child = producing(&cli, &["orders", "--timeout", "3s"])?;
    let mut input = child.stdin.take().context("standard input")?;
    writeln!(input, "one")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while consumed(&cli, &["orders"])?.len() < 2 {
        ensure!(Instant::now() < deadline, "the first line was not written while the input is open");
    }
    for node in [1, 2] {
        cli.signal(node, Signal::KILL)?;
    }
    writeln!(input, "two")?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = text(&output.stderr);
    ensure!(!output.status.success() && said.contains("1 event written to orders"), "{said}");
    Ok(())
}

#[test]
fn following_goes_on_with_what_comes_and_ends_after_a_count() -> Result<()> {
    let cli = with_topic(3, "2")?;
    ensure!(produce(&cli, &["orders"], b"before\n")?.status.success());
    let args = ["consume", "orders", "--follow", "--count", "4"];
    let mut child = cli.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("standard output")?).lines();
    ensure!(lines.next().context("the first line")?? == "before");
    cli.signal(cli.leader()?, Signal::KILL)?;
    for line in ["one", "two", "three"] {
        let written = produce(&cli, &["orders", "--partition", "1"], format!("{line}\n").as_bytes())?;
        ensure!(written.status.success(), "{}", text(&written.stderr));
        ensure!(lines.next().context("a line")?? == line);
    }
    ensure!(child.wait()?.success() && lines.next().is_none());
    Ok(())
}
