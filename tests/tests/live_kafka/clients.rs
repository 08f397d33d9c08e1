//! kcat, confluent-kafka and kafka-python, with and without compression, and while their leader is cut off
//! from the other nodes (for `ISOLATED_SECONDS`, 5 by default).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::{Client, fetch_request};
use tests::cluster::Cluster;
use tests::proxy::{NetworkFault, Proxies};

/// Limit of the time without an acknowledgement, when the leader is cut off for 5 s or more.
const GAP_MS: u64 = 1500;

/// Root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Python with the client libraries, which `tests/setup.sh` installs.
pub fn python() -> PathBuf {
    root().join("target/venv/bin/python")
}

/// Runs a program to its end, which must be a success.
pub fn run(command: &mut Command) -> Result<Output> {
    let output =
        command.output().with_context(|| format!("cannot run {command:?}; `tests/setup.sh` installs it"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Runs a script of `tests/clients`, which fails when something is not as it must be.
pub fn script(name: &str, arguments: &[&str]) -> Result<()> {
    let script = root().join("tests/clients").join(name);
    run(Command::new(python()).arg(script).args(arguments)).map(drop)
}

/// Checks that the first batch of a topic has this codec; some clients silently send it uncompressed.
pub fn compressed(cluster: &Cluster, topic: &str, codec: &str) -> Result<()> {
    let mut client = Client::connect(cluster.kafka(cluster.wait_ready()?), Duration::from_secs(5))?;
    let answer = client.call(11, &fetch_request(topic, 0, 0))?;
    let records = answer.responses[0].partitions[0].records.clone().context("no records")?;
    let number = ["none", "gzip", "snappy", "lz4", "zstd"].iter().position(|name| *name == codec);
    // The low byte of the batch's attributes.
    let sent = usize::from(records.get(22).context("no batch")? & 7);
    ensure!(Some(sent) == number, "{topic}: codec {sent} was sent");
    Ok(())
}

fn roundtrip(library: &str, codecs: &[&str]) -> Result<()> {
    let cluster = Cluster::ready(3)?;
    for codec in codecs {
        let topic = format!("{library}-{codec}");
        script("roundtrip.py", &[library, &cluster.bootstrap(), &topic, codec, "2000"])?;
        compressed(&cluster, &topic, codec)?;
    }
    Ok(())
}

#[test]
fn confluent_kafka_writes_and_reads_with_every_codec() -> Result<()> {
    roundtrip("confluent", &["none", "gzip", "snappy", "lz4", "zstd"])
}

#[test]
fn kafka_python_writes_and_reads() -> Result<()> {
    roundtrip("kafka-python", &["none", "gzip", "snappy", "lz4", "zstd"])
}

#[test]
fn a_client_sets_retention_and_deletes_records() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    script("retention.py", &[&cluster.bootstrap(), "aging"])
}

#[test]
fn kcat_writes_on_one_node_and_reads_from_another() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    // Clients send uncompressed what does not become smaller.
    let greetings = "hello\nworld\n".repeat(500);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("greetings-{codec}");
        let mut producer = Command::new("kcat")
            .args(["-P", "-b", &cluster.kafka(1).to_string(), "-t", &topic, "-p", "0", "-z", codec])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run kcat; `tests/setup.sh` installs it")?;
        producer.stdin.take().context("kcat's input")?.write_all(greetings.as_bytes())?;
        ensure!(producer.wait()?.success(), "kcat -P failed with {codec}");
        let consumer =
            run(Command::new("kcat").args(["-C", "-b", &cluster.kafka(2).to_string(), "-t", &topic, "-e"]))?;
        ensure!(consumer.stdout == greetings.as_bytes(), "{} bytes were read", consumer.stdout.len());
        compressed(&cluster, &topic, codec)?;
    }
    Ok(())
}

/// A client that does not notice the partition stays connected to the old leader, unless that closes the
/// connection.
#[test]
fn a_client_leaves_a_leader_that_is_cut_off_from_the_others() -> Result<()> {
    let seconds = std::env::var("ISOLATED_SECONDS").map_or(Ok(5), |text| text.parse())?;
    let mut cluster = Cluster::prepare_behind_proxies(3)?;
    let proxies = Proxies::start(&cluster)?;
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), Duration::from_secs(5))?.create_topic("t", 1)?;
    ensure!(code == 0, "no topic: error code {code}");
    let script = root().join("tests/clients/continuous.py");
    let mut client = Command::new(python())
        .arg(script)
        .args([&cluster.bootstrap(), "t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run Python; `tests/setup.sh` installs what it needs")?;
    let mut said = BufReader::new(client.stdout.take().context("its output")?).lines();
    ensure!(said.next().context("it ended")?? == "ready");
    for other in cluster.ids() {
        proxies.set(leader, other, NetworkFault::Block);
        proxies.set(other, leader, NetworkFault::Block);
    }
    std::thread::sleep(Duration::from_secs(seconds));
    proxies.heal();
    std::thread::sleep(Duration::from_secs(1));
    drop(client.stdin.take());
    let told: Value = serde_json::from_str(&said.next().context("it ended")??)?;
    ensure!(client.wait()?.success(), "{told}");
    let gaps = told["gaps"].as_array().context("gaps")?;
    let longest = gaps.iter().filter_map(|gap| gap[1].as_u64()).max().unwrap_or_default();
    println!("cut off for {seconds} s: no acknowledgement for {longest} ms at most, {gaps:?}");
    ensure!(longest <= GAP_MS, "no acknowledgement for {longest} ms: {gaps:?}\n{}", cluster.log(leader));
    Ok(())
}
