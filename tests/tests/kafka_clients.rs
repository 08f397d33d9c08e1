//! Real clients against a real cluster: kcat, confluent-kafka and kafka-python, compressed and not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use tests::cluster::Cluster;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Python with the client libraries, as `tests/setup.sh` installs it.
fn python() -> PathBuf {
    root().join("target/venv/bin/python")
}

fn run(command: &mut Command) -> Result<Output> {
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

fn roundtrip(library: &str, codecs: &[&str]) -> Result<()> {
    let cluster = Cluster::ready(3)?;
    for codec in codecs {
        let script = root().join("tests/clients/roundtrip.py");
        let topic = format!("{library}-{codec}");
        run(Command::new(python()).arg(script).args([library, &cluster.bootstrap(), &topic, codec, "2000"]))?;
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
fn old_events_go_when_a_client_says_so() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let script = root().join("tests/clients/retention.py");
    run(Command::new(python()).arg(script).args([&cluster.bootstrap(), "aging"])).map(drop)
}

#[test]
fn kcat_writes_on_one_node_and_reads_from_another() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("greetings-{codec}");
        let mut producer = Command::new("kcat")
            .args(["-P", "-b", &cluster.kafka(1).to_string(), "-t", &topic, "-z", codec])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run kcat; `tests/setup.sh` installs it")?;
        producer.stdin.take().context("kcat's input")?.write_all(b"hello\nworld\n")?;
        ensure!(producer.wait()?.success(), "kcat -P failed with {codec}");
        let consumer =
            run(Command::new("kcat").args(["-C", "-b", &cluster.kafka(2).to_string(), "-t", &topic, "-e"]))?;
        ensure!(consumer.stdout == b"hello\nworld\n", "read {:?}", String::from_utf8_lossy(&consumer.stdout));
    }
    Ok(())
}
