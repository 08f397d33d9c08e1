//! Writing and reading events.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::Compression;
use tests::client::{Client, batch, fetch_request, produce_request};
use tests::cluster::MAX_WAIT;

use crate::spread::Spread;
use crate::{TOPIC, cluster, process};

/// The Produce version that is sent.
const PRODUCE: i16 = 9;
/// The Fetch version.
const FETCH: i16 = 11;
/// Records of 1 KiB in a batch that a client gathers.
const GATHERED: usize = 100;

/// Requests of one message each on one connection, then gathered ones.
pub fn produce(share: usize) -> Result<()> {
    println!("produce, acks=all          msgs/s     MB/s   CPU s/100k   latency");
    for size in [100, 1024] {
        for (window, count) in [(1, 5_000), (64, 100_000), (1024, 300_000)] {
            run(&format!("{size} B, {window} in flight"), size, 1, window, count / share)?;
        }
    }
    run("1024 B, batches of 100, 10 in flight", 1024, GATHERED, 10, 20_000 / share)
}

fn run(name: &str, size: usize, records: usize, window: usize, requests: usize) -> Result<()> {
    let (cluster, leader) = cluster()?;
    let mut client = Client::connect(cluster.kafka(leader), MAX_WAIT)?;
    let before = process::cpu_seconds(&cluster)?;
    let started = Instant::now();
    let took = fill(&mut client, size, records, window, requests)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = process::cpu_seconds(&cluster)? - before;
    let messages = (requests * records) as f64;
    println!(
        "  {name:<22} {:>8.0} {:>8.1} {:>12.2}   {}   RSS {} MiB",
        messages / seconds,
        messages * size as f64 / seconds / 1e6,
        cpu * 1e5 / messages,
        Spread::of(took),
        process::memory(&cluster)?
    );
    Ok(())
}

/// Sends `requests` of `records` messages of `size` bytes, `window` of them without an answer; how long each
/// took.
pub fn fill(
    client: &mut Client,
    size: usize,
    records: usize,
    window: usize,
    requests: usize,
) -> Result<Vec<Duration>> {
    let values = vec![vec![b'x'; size]; records];
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let request = produce_request(TOPIC, 0, batch(&values, Compression::None)?);
    send_all(client, std::iter::repeat_n(&request, requests), window)
}

/// Sends these requests, `window` of them without an answer; how long each took.
pub fn send_all<'a>(
    client: &mut Client,
    requests: impl Iterator<Item = &'a ProduceRequest>,
    window: usize,
) -> Result<Vec<Duration>> {
    let mut sent = VecDeque::with_capacity(window);
    let mut took = Vec::new();
    let mut settle = |client: &mut Client, began: Instant| -> Result<()> {
        let response = client.receive::<ProduceRequest>(PRODUCE)?;
        match response.responses[0].partition_responses[0].error_code {
            0 => took.push(began.elapsed()),
            code => bail!("a produce request failed with error code {code}"),
        }
        Ok(())
    };
    for request in requests {
        if sent.len() == window
            && let Some(began) = sent.pop_front()
        {
            settle(client, began)?;
        }
        client.send(PRODUCE, request)?;
        sent.push_back(Instant::now());
    }
    sent.into_iter().try_for_each(|began| settle(client, began))?;
    Ok(took)
}

/// One consumer that reads everything from the start, and does not look into the batches.
pub fn consume(share: usize) -> Result<()> {
    let (cluster, leader) = cluster()?;
    let mut client = Client::connect(cluster.kafka(leader), MAX_WAIT)?;
    let messages = 1_000_000 / share;
    fill(&mut client, 1024, GATHERED, 10, messages / GATHERED)?;
    let started = Instant::now();
    let bytes = read(&mut client, TOPIC, 0, messages)?;
    let seconds = started.elapsed().as_secs_f64();
    let (rate, megabytes) = (messages as f64 / seconds, bytes as f64 / seconds / 1e6);
    println!("consume, 1 KiB, one reader: {rate:.0} msgs/s, {megabytes:.0} MB/s");
    Ok(())
}

/// Reads a partition from the start, until there were so many messages; returns their bytes.
pub fn read(client: &mut Client, topic: &str, partition: i32, messages: usize) -> Result<usize> {
    let (mut offset, mut bytes) = (0, 0);
    while offset < messages {
        let response = client.call(FETCH, &fetch_request(topic, partition, i64::try_from(offset)?))?;
        let records = response.responses[0].partitions[0].records.clone().unwrap_or_default();
        bytes += records.len();
        offset = offset_after(&records).context("an answer without batches")?;
    }
    Ok(bytes)
}

/// The offset after the last whole batch (Kafka's record batch: base offset, length, ..., last offset delta
/// at byte 23).
fn offset_after(mut records: &[u8]) -> Option<usize> {
    let mut next = None;
    while let (Some(base), Some(length), Some(delta)) =
        (records.get(..8), records.get(8..12), records.get(23..27))
    {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        next = Some(number(base) + number(delta) + 1);
        records = records.get(12 + number(length)..).unwrap_or_default();
    }
    next
}
