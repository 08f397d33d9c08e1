//! `escli topic` against a cluster of this machine.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cli::{CliRunner, text};
use tests::client::Client;

/// Runs escli, which must end with this exit code. Returns what it printed, on both outputs.
fn said(cli: &CliRunner, code: i32, args: &[&str]) -> Result<String> {
    let output = cli.escli(args)?;
    let said = text(&output.stdout) + &text(&output.stderr);
    ensure!(output.status.code() == Some(code), "{args:?}: {:?}: {said}", output.status);
    Ok(said)
}

fn described(cli: &CliRunner, topic: &str) -> Result<Value> {
    let (code, document) = cli.json(&["topic", "describe", topic])?;
    ensure!(code == 0, "{document:#}");
    Ok(document["topics"][0].clone())
}

fn config(topic: &Value, key: &str) -> Result<Value> {
    let configs = topic["configs"].as_array().context("configs")?;
    configs.iter().find(|config| config["key"] == key).cloned().with_context(|| format!("no {key}"))
}

#[test]
fn a_topic_is_created_described_altered_and_deleted() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    ensure!(said(&cli, 0, &["topic", "list"])? == "no topics yet\n");
    let create = ["topic", "create", "orders", "--partitions", "3", "--set", "retention.ms=600000"];
    ensure!(
        said(&cli, 0, &[&create[..], &["--dry-run"]].concat())? == "would create orders (3 partitions)\n"
    );
    ensure!(said(&cli, 0, &["topic", "list"])? == "no topics yet\n", "a dry run created it");
    ensure!(said(&cli, 0, &create)? == "created orders (3 partitions)\n");
    let again = said(&cli, 3, &create)?;
    ensure!(again.contains("cannot create topic orders"), "{again}");

    let mut client = Client::connect(cli.kafka(cli.leader()?), std::time::Duration::from_secs(2))?;
    ensure!(client.produce("orders", 1, b"one")? == Ok(0));
    let topic = described(&cli, "orders")?;
    ensure!(topic["events"] == 1 && topic["partitions"].as_array().map(Vec::len) == Some(3), "{topic:#}");
    let second = &topic["partitions"][1];
    ensure!(second["leader"] == cli.leader()? && second["replicas"] == json!([1, 2, 3]), "{second:#}");
    ensure!(second["start_offset"] == 0 && second["end_offset"] == 1, "{second:#}");
    ensure!(
        config(&topic, "retention.ms")? == json!({"key": "retention.ms", "value": "600000", "is_set": true})
    );
    ensure!(config(&topic, "retention.bytes")?["is_set"] == false);
    let wide = said(&cli, 0, &["topic", "list", "-o", "wide"])?;
    ensure!(wide.contains(topic["id"].as_str().context("id")?), "{wide}");

    said(&cli, 0, &["topic", "alter", "orders", "--partitions", "5", "--set", "retention.ms=700000"])?;
    let topic = described(&cli, "orders")?;
    ensure!(topic["partitions"].as_array().map(Vec::len) == Some(5), "{topic:#}");
    ensure!(config(&topic, "retention.ms")?["value"] == "700000");
    let fewer =
        said(&cli, 3, &["topic", "alter", "orders", "--partitions", "2", "--set", "retention.ms=800000"])?;
    ensure!(fewer.contains("cannot extend topic orders"), "{fewer}");
    let topic = described(&cli, "orders")?;
    ensure!(
        config(&topic, "retention.ms")?["value"] == "700000",
        "half of a refused change was made: {topic:#}"
    );
    let wrong = said(&cli, 3, &["topic", "create", "bills", "--set", "no.such.setting=1"])?;
    ensure!(wrong.contains("no.such.setting"), "{wrong}");

    ensure!(
        said(&cli, 0, &["topic", "delete", "orders", "--dry-run"])? == "would delete orders (5 partitions)\n"
    );
    ensure!(said(&cli, 0, &["topic", "delete", "orders", "--yes"])? == "deleted orders (5 partitions)\n");
    let gone = said(&cli, 1, &["topic", "describe", "orders"])?;
    ensure!(gone.contains("there is no topic orders") && gone.contains("escli topic list"), "{gone}");
    Ok(())
}

#[test]
fn what_deletes_events_asks_first() -> Result<()> {
    let cli = CliRunner::with_cluster(1)?;
    said(&cli, 0, &["topic", "create", "orders", "--set", "retention.ms=600000"])?;
    let mut client = Client::connect(cli.kafka(1), std::time::Duration::from_secs(2))?;
    ensure!(client.produce("orders", 0, b"one")? == Ok(0));
    let refused = said(&cli, 3, &["topic", "delete", "orders"])?;
    ensure!(refused.contains("orders will be deleted with 1 events"), "{refused}");
    ensure!(refused.contains("escli topic delete orders --yes"), "{refused}");
    let shorter = said(&cli, 3, &["topic", "alter", "orders", "--set", "retention.ms=1"])?;
    ensure!(shorter.contains("retention.ms becomes 1"), "{shorter}");
    ensure!(shorter.contains("escli topic alter orders --set 'retention.ms=1' --yes"), "{shorter}");
    let topic = described(&cli, "orders")?;
    ensure!(topic["events"] == 1 && config(&topic, "retention.ms")?["value"] == "600000", "{topic:#}");
    said(&cli, 0, &["topic", "alter", "orders", "--set", "retention.ms=-1"])?;
    // Nothing is deleted of several when one of them does not exist.
    let missing = said(&cli, 1, &["topic", "delete", "orders", "bills", "--yes"])?;
    ensure!(missing.contains("there is no topic bills"), "{missing}");
    ensure!(described(&cli, "orders")?["events"] == 1);
    Ok(())
}

#[test]
fn a_shell_completes_the_names_of_topics() -> Result<()> {
    let cli = CliRunner::with_cluster(1)?;
    for name in ["orders", "bills"] {
        said(&cli, 0, &["topic", "create", name])?;
    }
    let mut command = cli.command(&["--", "escli", "consume", ""]);
    command.envs([("COMPLETE", "bash"), ("_CLAP_IFS", "\n"), ("_CLAP_COMPLETE_INDEX", "2")]);
    let offered = text(&command.output()?.stdout);
    let offered: Vec<_> = offered.lines().filter(|line| !line.starts_with('-')).collect();
    ensure!(offered == ["bills", "orders"], "{offered:?}");
    Ok(())
}
