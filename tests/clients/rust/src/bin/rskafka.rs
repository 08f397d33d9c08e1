//! rskafka, which has no groups, no idempotence and no transactions.

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clients::{Settings, bootstrap, serve, version};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use serde_json::{Value, from_value, json};
use tokio::runtime::Runtime;

const TIMEOUT_MS: i32 = 5000;
const BYTES: std::ops::Range<i32> = 1..1_000_000;

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let servers = bootstrap()?.split(',').map(str::to_owned).collect();
    let client = runtime.block_on(ClientBuilder::new(servers).build())?;
    serve(move |call, with| runtime.block_on(perform(&client, call, with)))
}

async fn perform(client: &Client, call: &str, with: Value) -> Result<Value> {
    match call {
        "name" => return Ok(format!("rskafka {}", version("rskafka")).into()),
        "write" => {
            let (topic, number, values, settings): (String, i32, Vec<String>, Settings) = from_value(with)?;
            let records = values.into_iter().map(record).collect();
            partition(client, &topic, number).await?.produce(records, codec(&settings)?).await?;
        }
        "read" => {
            let (topic, number, offset, count, _): (String, i32, i64, usize, Settings) = from_value(with)?;
            return Ok(read(&partition(client, &topic, number).await?, offset, count).await?.into());
        }
        "offset_at" => {
            let (topic, number, time_ms): (String, i32, i64) = from_value(with)?;
            let at = OffsetAt::Timestamp(DateTime::from_timestamp_millis(time_ms).context("a time")?);
            return Ok(partition(client, &topic, number).await?.get_offset(at).await?.into());
        }
        "delete_records" => {
            let (topic, number, before): (String, i32, i64) = from_value(with)?;
            partition(client, &topic, number).await?.delete_records(before, TIMEOUT_MS).await?;
        }
        "create_topic" => {
            let (topic, partitions): (String, i32) = from_value(with)?;
            client.controller_client()?.create_topic(topic, partitions, -1, TIMEOUT_MS).await?;
        }
        "delete_topic" => {
            let (topic,): (String,) = from_value(with)?;
            client.controller_client()?.delete_topic(topic, TIMEOUT_MS).await?;
        }
        "partitions" => {
            let (topic,): (String,) = from_value(with)?;
            let topics = client.list_topics().await?;
            let found = topics.into_iter().find(|each| each.name == topic);
            return Ok(found.map_or(0, |topic| topic.partitions.len()).into());
        }
        "topics" => {
            let topics = client.list_topics().await?.into_iter();
            return Ok(topics.map(|topic| topic.name).collect());
        }
        _ => bail!("rskafka cannot {call}"),
    }
    Ok(json!(null))
}

async fn partition(client: &Client, topic: &str, number: i32) -> Result<PartitionClient> {
    Ok(client.partition_client(topic, number, UnknownTopicHandling::Retry).await?)
}

async fn read(partition: &PartitionClient, mut offset: i64, count: usize) -> Result<Vec<String>> {
    let mut read = Vec::new();
    while read.len() < count {
        for found in partition.fetch_records(offset, BYTES, 500).await?.0 {
            offset = found.offset + 1;
            read.push(String::from_utf8(found.record.value.unwrap_or_default())?);
        }
    }
    Ok(read)
}

fn record(value: String) -> Record {
    Record { key: None, value: Some(value.into_bytes()), headers: [].into(), timestamp: Utc::now() }
}

fn codec(settings: &Settings) -> Result<Compression> {
    Ok(match settings.get("compression.type").map(String::as_str) {
        None | Some("none") => Compression::NoCompression,
        Some("gzip") => Compression::Gzip,
        Some("snappy") => Compression::Snappy,
        Some("lz4") => Compression::Lz4,
        Some("zstd") => Compression::Zstd,
        Some(other) => bail!("no codec {other}"),
    })
}
