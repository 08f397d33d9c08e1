//! The produce path: refused batches leave nothing behind, and batches of any size are replicated.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::Compression;
use tests::client::{Client, batch, numbered, produce_request};
use tests::cluster::Cluster;
use tests::hostile::most_memory;

const LIMIT: Duration = Duration::from_secs(10);
/// Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER, MESSAGE_TOO_LARGE and INVALID_CONFIG.
const OUT_OF_ORDER: i16 = 45;
const TOO_LARGE: i16 = 10;
const INVALID_CONFIG: i16 = 40;

fn create(client: &mut Client, name: &str, configs: &[(&str, &str)]) -> Result<i16> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let configs = configs.iter().map(|(key, value)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(1)
        .with_replication_factor(-1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    Ok(client.call(5, &request)?.topics[0].error_code)
}

fn code(client: &mut Client, topic: &str, records: bytes::Bytes) -> Result<i16> {
    let response = client.call::<ProduceRequest>(9, &produce_request(topic, 0, records))?;
    Ok(response.responses[0].partition_responses[0].error_code)
}

/// Returns a batch of exactly this many bytes.
fn sized(bytes: usize) -> Result<bytes::Bytes> {
    let around = batch(&[&vec![b'x'; bytes - 200]], Compression::None)?.len() - (bytes - 200);
    batch(&[&vec![b'x'; bytes - around]], Compression::None)
}

fn seconds() -> Duration {
    let asked = std::env::var("REFUSED_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(5))
}

#[test]
fn refused_batches_leave_nothing_behind() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let leader = cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    ensure!(create(&mut client, "t", &[])? == 0);
    let id = client.producer_id()?.map_err(|code| anyhow::anyhow!("error code {code}"))?;
    ensure!(code(&mut client, "t", numbered(b"first", id, 0)?)? == 0);
    let index = || cluster.status(leader).map(|status| status.commit_index);
    let before = index()?;
    let (refused, again) = (numbered(b"late", id, 9)?, numbered(b"first", id, 0)?);
    let (mut sent, until) = (0_u64, Instant::now() + seconds());
    while Instant::now() < until {
        for records in [&refused, &again] {
            for _ in 0..200 {
                client.send(9, &produce_request("t", 0, records.clone()))?;
            }
            for _ in 0..200 {
                let response = client.receive::<ProduceRequest>(9)?;
                let answer = &response.responses[0].partition_responses[0];
                let expected = if records == &refused { OUT_OF_ORDER } else { 0 };
                ensure!(answer.error_code == expected, "error code {}", answer.error_code);
                ensure!(answer.error_code != 0 || answer.base_offset == 0, "appended twice");
            }
            sent += 200;
        }
        let asked = Instant::now();
        index()?;
        ensure!(asked.elapsed() < Duration::from_secs(1), "no answer for {:?}", asked.elapsed());
    }
    let grown = index()? - before;
    let most = most_memory(&cluster, 0)?;
    println!("{sent} batches refused or repeated, {grown} entries, at most {most} MiB");
    ensure!(most < 400, "a node took {most} MiB");
    ensure!(sent > 1000 && grown < 100, "{grown} entries for {sent} batches that changed nothing");
    Ok(())
}

#[test]
fn batches_of_the_default_and_the_largest_size_are_replicated() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    ensure!(create(&mut client, "t", &[])? == 0);
    ensure!(create(&mut client, "large", &[("max.message.bytes", "15728640")])? == 0);
    for bad in [("max.message.bytes", "16777216"), ("cleanup.policy", "compact"), ("no.such", "1")] {
        ensure!(create(&mut client, "bad", &[bad])? == INVALID_CONFIG, "{bad:?} is accepted");
    }
    ensure!(code(&mut client, "t", sized(1_048_588)?)? == 0);
    ensure!(code(&mut client, "t", sized(1_048_589)?)? == TOO_LARGE);
    let behind = (1..=3).find(|id| *id != leader).unwrap_or(leader);
    cluster.kill(behind)?;
    ensure!(code(&mut client, "large", sized(15_728_640)?)? == 0);
    ensure!(code(&mut client, "large", sized(15_728_641)?)? == TOO_LARGE);
    cluster.launch(behind)?;
    // All nodes have everything, including the one that was down.
    cluster.wait_ready()?;
    for id in cluster.ids() {
        ensure!(cluster.stop(id)?, "node {id} did not stop cleanly: {}", cluster.log(id));
        cluster.launch(id)?;
    }
    let leader = cluster.wait_ready()?;
    for (topic, most) in [("t", 1_048_588), ("large", 15_728_640)] {
        let events = Client::connect(cluster.kafka(leader), LIMIT)?.read_all(topic, 0)?;
        let sizes: Vec<_> = events.iter().map(|event| event.value.len()).collect();
        ensure!(sizes.len() == 1 && most - sizes[0] < 200, "{topic}: {sizes:?}");
    }
    Ok(())
}
