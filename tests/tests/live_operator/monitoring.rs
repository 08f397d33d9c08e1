//! What `escli monitoring` writes: Prometheus accepts it, every metric in it exists, and the alerts fire.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, path, text};
use tests::http;
use tests::programs::binary;
use tests::skip;

/// Returns promtool, or `None` where `SKIP` allows its absence.
fn promtool() -> Result<Option<PathBuf>> {
    let got = binary("esnode").with_file_name("../prometheus/usr/bin/promtool");
    let found = [got, PathBuf::from("/usr/bin/promtool")].into_iter().find(|path| path.exists());
    if found.is_none() {
        skip::allowed("promtool", "run tests/setup.sh")?;
    }
    Ok(found)
}

fn check(tool: &Path, args: &[&str]) -> Result<()> {
    let output = Command::new(tool).args(args).output()?;
    ensure!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}

/// A minute of a healthy cluster, then one in which every alert must fire.
const TESTS: &str = r#"
rule_files: [eventstream-rules.yml]
evaluation_interval: 5s
tests:
  - interval: 5s
    input_series:
      - { series: 'raft_peers_connected{cluster="c", node="1"}', values: '2x12 1x12' }
      - { series: 'raft_cluster_size{cluster="c", node="1"}', values: '3x24' }
      - { series: 'raft_replication_lag{cluster="c", node="1"}', values: '100x12 101x12' }
      - { series: 'raft_elections_total{cluster="c", node="1"}', values: '1x12 2 3 4x12' }
      - { series: 'raft_commit_index{cluster="c", node="1"}', values: '1+1x12 13x12' }
      - { series: 'eventstream_log_last_index{cluster="c", node="1"}', values: '1+1x12 14x12' }
      - { series: 'raft_leader{cluster="c", node="1"}', values: '1x24' }
    alert_rule_test:
"#;

/// A minute of a healthy cluster, then one in which the leader refuses events, so that nothing waits to be
/// committed.
const FULL: &str = r#"
rule_files: [eventstream-rules.yml]
evaluation_interval: 5s
tests:
  - interval: 5s
    input_series:
      - { series: 'raft_commit_index{cluster="c", node="1"}', values: '1x24' }
      - { series: 'eventstream_log_last_index{cluster="c", node="1"}', values: '1x24' }
      - { series: 'eventstream_events_refused{cluster="c", node="1"}', values: '0x12 1x12' }
    alert_rule_test:
"#;

/// Half an hour in which a group's lag goes up and down and another node begins to lead; then one in which it grows.
const GROWING: &str = r#"
rule_files: [eventstream-rules.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - { series: 'eventstream_group_lag{cluster="c", node="1", group="g"}', values: '0 90 0 90 0 90 0 90 0 90 90x50' }
      - { series: 'eventstream_group_lag{cluster="c", node="2", group="g"}', values: '_x60 90x60 91+1x120' }
    alert_rule_test:
"#;

/// Half an hour in which one group has members and another group's offsets are committed by whoever is no member; then
/// one in which the members of the first are gone.
fn abandoned() -> String {
    format!(
        r#"
rule_files: [eventstream-rules.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {{ series: 'eventstream_group_lag{{cluster="c", node="1", group="g"}}', values: '7x240' }}
      - {{ series: 'eventstream_group_members{{cluster="c", node="1", group="g"}}', values: '2x120 0x120' }}
      - {{ series: 'eventstream_group_lag{{cluster="c", node="1", group="h"}}', values: '{}' }}
      - {{ series: 'eventstream_group_members{{cluster="c", node="1", group="h"}}', values: '0x240' }}
    alert_rule_test:
"#,
        "7 8 9 ".repeat(80)
    )
}

#[test]
fn prometheus_accepts_the_rules_and_fires_them() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let (code, document) = cli.json(&["monitoring", "--out", "m"])?;
    ensure!(code == 0 && document["files"].as_array().map(Vec::len) == Some(3), "{document:#}");
    let folder = cli.dir.path().join("m");
    let file = |name: &str| std::fs::read_to_string(folder.join(name));
    let (rules, board) = (file("eventstream-rules.yml")?, file("eventstream-dashboard.json")?);
    let board: Value = serde_json::from_str(&board)?;

    // Every metric in a rule or a panel is one that the leader serves, once there is a group.
    for line in ["topic create orders", "group reset-offsets billing --to earliest --topic orders --yes"] {
        let (code, document) = cli.json(&line.split(' ').collect::<Vec<_>>())?;
        ensure!(code == 0, "{document:#}");
    }
    let port = u64::from(cli.base) + 200 + cli.leader()? - 1;
    let (_, served) = http::call(&format!("127.0.0.1:{port}"), "GET", "/metrics", "")?;
    let served: BTreeSet<&str> = served
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let panels = board["panels"].as_array().context("panels")?;
    ensure!(panels.len() > 8, "{board:#}");
    let queries = panels.iter().filter_map(|panel| panel["targets"][0]["expr"].as_str());
    let queries: String = queries.chain([rules.as_str()]).collect::<Vec<_>>().join("\n");
    let word = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
    let named: BTreeSet<&str> = queries
        .split(word)
        .filter(|name| name.starts_with("raft_") || name.starts_with("eventstream_"))
        .collect();
    let unknown: Vec<_> = named.difference(&served).collect();
    ensure!(named.len() > 8 && unknown.is_empty(), "no node serves {unknown:?}");

    let Some(tool) = promtool()? else { return Ok(()) };
    check(&tool, &["check", "config", path(&folder.join("prometheus.yml"))])?;
    let fires = |series: &str, name: &str, at: &str| -> Result<bool> {
        let none = format!("{series}      - {{ eval_time: {at}, alertname: {name}, exp_alerts: [] }}\n");
        let tests = folder.join("tests.yml");
        std::fs::write(&tests, none)?;
        // The expectation that nothing fires fails exactly when the alert fires.
        let output = Command::new(&tool).args(["test", "rules", path(&tests)]).output()?;
        let said = text(&output.stdout) + &text(&output.stderr);
        ensure!(output.status.success() || said.contains(&format!("alertname: {name}")), "{said}");
        Ok(!output.status.success())
    };
    for name in ["NodeDown", "SlowFollower", "Unstable", "WriteFailure"] {
        let name = format!("EventStream{name}");
        let late = if name.ends_with("Unstable") { "70s" } else { "115s" };
        ensure!(!fires(TESTS, &name, "50s")?, "{name} fires for nothing");
        ensure!(fires(TESTS, &name, late)?, "{name} does not fire");
    }
    for (series, name) in [(GROWING, "FallsBehind"), (&abandoned(), "Abandoned")] {
        let name = format!("EventStreamGroup{name}");
        ensure!(!fires(series, &name, "29m")?, "{name} fires for nothing");
        ensure!(fires(series, &name, "55m")?, "{name} does not fire");
    }
    let name = "EventStreamWriteFailure";
    ensure!(!fires(FULL, name, "50s")?, "{name} fires for nothing");
    ensure!(fires(FULL, name, "115s")?, "{name} does not fire when events are refused");
    Ok(())
}
