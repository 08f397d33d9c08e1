//! All clients try the same features, and docs/clients.md has what came of it.
//! `UPDATE=1 cargo nextest run -p tests --test live_kafka matrix` writes that table.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::client::Client;
use tests::cluster::Cluster;

use super::clients::{compressed, python, root, run};

/// The scripts in tests/clients/features, in the order of the table's columns. The first one tries every feature.
const SCRIPTS: [&str; 8] = [
    "with_confluent_kafka.py",
    "with_kafka_python.py",
    "with_aiokafka.py",
    "with_kafkajs.js",
    "with_platformatic.js",
    "with_java.py",
    "with_rdkafka.py",
    "with_rskafka.py",
];
/// Ends of the names of the topics that each script wants.
const TOPICS: [&str; 13] = [
    "none",
    "gzip",
    "snappy",
    "lz4",
    "zstd",
    "idempotent",
    "offset",
    "times",
    "groups",
    "consumers",
    "settings",
    "transactions",
    "exactly-once",
];
const WRITTEN_WITH: &str = "write and read, ";
const OK: &str = "ok";
const TABLE: &str = "docs/clients.md";
const HEAD: &str = "# Clients

What each client can do with a cluster of three nodes. The suite `live_kafka` tries all of it anew, writes this table with
`UPDATE=1`, and fails when a client can do less. The scripts are in `tests/clients/features`.

A dash: the client has no such call. kafkajs has snappy by kafkajs-snappy and lz4 by lz4js. For JavaScript, zstd is part of
Node 22, which these tests do not need. kafkajs and @platformatic/kafka read in groups only, and seek in these. kafka-clients
is Kafka's own client, for Java; rdkafka and rskafka are for Rust.

";

/// What a client has told of itself.
struct Told {
    client: String,
    /// Pairs of a feature and "ok" or what went wrong.
    features: Vec<(String, String)>,
}

impl Told {
    fn parse(json: &[u8]) -> Result<Self> {
        let told: Value = serde_json::from_slice(json)?;
        let (client, features) = (told["client"].clone(), told["features"].clone());
        Ok(Self { client: serde_json::from_value(client)?, features: serde_json::from_value(features)? })
    }

    fn outcome(&self, feature: &str) -> Option<&str> {
        let found = self.features.iter().find(|(name, _)| name == feature);
        found.map(|(_, outcome)| outcome.as_str())
    }

    /// Returns what the table says of a feature. What went wrong is told by the test: it differs from run to run.
    fn cell(&self, feature: &str) -> &'static str {
        match self.outcome(feature) {
            None => "–",
            Some(OK) => OK,
            Some(_) => "fails",
        }
    }
}

/// Lets a client try everything, with topics of its own.
fn attempt(cluster: &Cluster, script: &str) -> Result<Told> {
    let (name, kind) = script.split_once('.').context("a script has an extension")?;
    let mut program = match kind {
        "py" => Command::new(python()),
        _ => Command::new("node"),
    };
    let scripts = root().join("tests/clients");
    program.env("NODE_PATH", root().join("target/node/node_modules"));
    program.env("PYTHONPATH", &scripts).env("PYTHONDONTWRITEBYTECODE", "1");
    let script = scripts.join("features").join(script);
    let output = run(program.arg(script).args([&cluster.bootstrap(), name]))?;
    let mut told = Told::parse(&output.stdout)?;
    for (feature, outcome) in &mut told.features {
        if let (Some(codec), OK) = (feature.strip_prefix(WRITTEN_WITH), outcome.as_str())
            && let Err(error) = compressed(cluster, &format!("{name}-{codec}"), codec)
        {
            *outcome = error.to_string();
        }
    }
    Ok(told)
}

fn create_topics(cluster: &Cluster) -> Result<()> {
    let mut client = Client::connect(cluster.kafka(cluster.wait_ready()?), Duration::from_secs(5))?;
    for script in SCRIPTS {
        let name = script.split('.').next().unwrap_or(script);
        for topic in TOPICS {
            let code = client.create_topic(&format!("{name}-{topic}"), 2)?;
            ensure!(code == 0, "no topic {topic}: error code {code}");
        }
    }
    Ok(())
}

/// All clients at once, as each of them mostly waits.
fn attempt_all(cluster: &Cluster) -> Result<Vec<Told>> {
    thread::scope(|scope| {
        let attempts = SCRIPTS.map(|script| scope.spawn(move || attempt(cluster, script)));
        let told = attempts.map(|attempt| attempt.join().map_err(|_| anyhow!("an attempt panicked"))?);
        told.into_iter().collect()
    })
}

fn table(told: &[Told]) -> Result<String> {
    let mut text = HEAD.to_owned();
    let clients: Vec<&str> = told.iter().map(|told| told.client.as_str()).collect();
    writeln!(text, "| | {} |\n|---{}|", clients.join(" | "), "|---".repeat(clients.len()))?;
    let features = &told.first().context("no client")?.features;
    for (feature, _) in features {
        let cells: Vec<&str> = told.iter().map(|told| told.cell(feature)).collect();
        writeln!(text, "| {feature} | {} |", cells.join(" | "))?;
    }
    for (unknown, _) in told.iter().flat_map(|told| &told.features) {
        ensure!(features.iter().any(|(name, _)| name == unknown), "the first client does not try: {unknown}");
    }
    Ok(text)
}

/// What went wrong, a line for each.
fn failures(told: &[Told]) -> String {
    let failed = told.iter().flat_map(|told| {
        let failed = told.features.iter().filter(|(_, outcome)| outcome != OK);
        failed.map(|(feature, outcome)| format!("{}: {feature}: {outcome}\n", told.client))
    });
    failed.collect()
}

#[test]
fn every_client_can_do_what_the_table_says() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    create_topics(&cluster)?;
    let told = attempt_all(&cluster)?;
    let (table, failures, path) = (table(&told)?, failures(&told), root().join(TABLE));
    print!("{failures}");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().context("the table is in a folder")?)?;
        fs::write(&path, &table)?;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    ensure!(committed == table, "{TABLE} says otherwise (UPDATE=1 writes it anew):\n{failures}{table}");
    Ok(())
}
