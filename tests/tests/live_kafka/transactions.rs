//! Exactly-once pipelines of real clients, while their workers and nodes are killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::Client;
use tests::cluster::Cluster;

/// Copies so many events by transactions while leaders are killed. Returns what came of it.
fn copy(library: &str, events: u32) -> Result<Value> {
    let mut cluster = Cluster::ready(3)?;
    let leader = cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(leader), Duration::from_secs(5))?;
    for topic in ["copy-in", "copy-out"] {
        let code = client.create_topic(topic, 4)?;
        ensure!(code == 0, "no topic: error code {code}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pipeline = Command::new(root.join("target/venv/bin/python"))
        .arg(root.join("tests/clients/exactly_once.py"))
        .args([library, &cluster.bootstrap(), "copy", &events.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run Python; `tests/setup.sh` installs what it needs")?;
    let mut said = BufReader::new(pipeline.stdout.take().context("its output")?).lines();
    ensure!(said.next().context("it ended")?? == "ready");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(3));
        let leader = cluster.wait_ready()?;
        cluster.kill(leader)?;
        std::thread::sleep(Duration::from_secs(2));
        cluster.launch(leader)?;
        cluster.wait_ready()?;
    }
    let told: Value = serde_json::from_str(&said.next().context("it ended")??)?;
    ensure!(pipeline.wait()?.success(), "{told}");
    println!("{library}: {told}");
    Ok(told)
}

fn exactly_once(told: &Value) -> Result<()> {
    ensure!(told["lost"] == 0 && told["again"] == 0 && told["disordered"] == 0, "{told}");
    ensure!(told["killed"].as_u64() > Some(0), "no worker was killed: {told}");
    ensure!(told["aborted"].as_u64() > Some(0), "nothing was aborted: {told}");
    Ok(())
}

#[test]
fn a_pipeline_of_librdkafka_copies_each_event_once() -> Result<()> {
    exactly_once(&copy("confluent", 40_000)?)
}

#[test]
fn a_pipeline_of_kafka_python_copies_each_event_once() -> Result<()> {
    exactly_once(&copy("kafka-python", 10_000)?)
}

#[test]
fn a_pipeline_of_java_copies_each_event_once() -> Result<()> {
    exactly_once(&copy("java", 40_000)?)
}
