//! As many partitions as there may be, and everything that could hold up the raft thread because of them: snapshots,
//! Metadata of all topics, topics that come and go, retention, and producers in all partitions.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::Compression;
use shared::ids::NodeId;
use tests::client::{Client, batch};
use tests::cluster::{Cluster, MAX_WAIT};

use crate::events::fill;
use crate::spread::Spread;
use crate::{cluster_with, process};

/// Topics of [`PARTITIONS`] partitions. One more comes and goes.
const TOPICS: usize = 98;
const PARTITIONS: i32 = 1000;
/// Partitions that a request of the producers in the background writes to.
const AT_ONCE: i32 = 250;
/// The topic that comes and goes.
const PASSING: &str = "passing";
/// Snapshots as often as a node writes them, something for retention to delete at each of its checks, and no elections.
const SETTINGS: &str = "    snapshot_interval: 500
  topics:
    retention_ms: 5000
    retention_bytes: 100000000
  raft:
    election_timeout_min: 2000
    election_timeout_max: 4000
";
const SECONDS: usize = 30;

/// Prints how long the steps of the raft threads and acknowledgements take, at rest and in trouble.
pub fn measure(share: usize) -> Result<()> {
    let (cluster, leader) = cluster_with(SETTINGS)?;
    let topics = TOPICS / share;
    let mut client = Client::connect(cluster.kafka(leader), MAX_WAIT)?;
    let began = Instant::now();
    for number in 0..topics {
        let code = client.create_topic(&name(number), PARTITIONS)?;
        ensure!(code == 0, "cannot create a topic: error code {code}");
    }
    println!("{} partitions, created in {:.1?}", topics * 1000, began.elapsed());
    let value = batch(&[&[b'x'; 100]], Compression::None)?;
    let began = Instant::now();
    report(&cluster, "while each partition gets its first event", || {
        (0..topics).try_for_each(|number| write(&mut client, &name(number), 0..PARTITIONS, &value))
    })?;
    println!("  all have an event after {:.1?}; RSS {} MiB", began.elapsed(), process::memory(&cluster)?);
    let seconds = Duration::from_secs(SECONDS.div_ceil(share) as u64);
    report(&cluster, "while one client produces", || produce(&mut client, seconds / 3, "alone"))?;
    let (stop, address) = (AtomicBool::new(false), cluster.kafka(leader));
    report(&cluster, "with Metadata, retention, snapshots, topics that come and go, and producers", || {
        scope(|scope| -> Result<()> {
            let others = [
                scope.spawn(|| ask_for_all(address, &stop)),
                scope.spawn(|| come_and_go(address, &stop)),
                scope.spawn(|| write_everywhere(address, &stop, topics, &value)),
            ];
            let produced = produce(&mut client, seconds, "meanwhile");
            stop.store(true, Relaxed);
            for other in others {
                println!("  {}", other.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
            }
            produced
        })
    })?;
    println!("  RSS {} MiB", process::memory(&cluster)?);
    Ok(())
}

fn name(number: usize) -> String {
    format!("many{number}")
}

/// One client that waits for each acknowledgement.
fn produce(client: &mut Client, time: Duration, when: &str) -> Result<()> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        took.extend(fill(client, 1024, 1, 1, 20)?);
    }
    println!("  serial produce {when}: {} times, {}", took.len(), Spread::of(took));
    Ok(())
}

fn ask_for_all(address: SocketAddr, stop: &AtomicBool) -> Result<String> {
    let mut client = Client::connect(address, MAX_WAIT)?;
    let mut took = Vec::new();
    while !stop.load(Relaxed) {
        let began = Instant::now();
        let all = client.call(9, &MetadataRequest::default().with_topics(None))?;
        ensure!(all.topics.len() > 1, "Metadata without topics");
        took.push(began.elapsed());
        sleep(Duration::from_millis(100));
    }
    Ok(format!("Metadata of all: {} times, {}", took.len(), Spread::of(took)))
}

fn come_and_go(address: SocketAddr, stop: &AtomicBool) -> Result<String> {
    let mut client = Client::connect(address, MAX_WAIT)?;
    let value = batch(&[&[b'x'; 100]], Compression::None)?;
    let gone = DeleteTopicState::default().with_name(Some(TopicName(StrBytes::from_static_str(PASSING))));
    let gone = DeleteTopicsRequest::default().with_topics(vec![gone]).with_timeout_ms(5000);
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    while !stop.load(Relaxed) {
        let began = Instant::now();
        let code = client.create_topic(PASSING, PARTITIONS)?;
        ensure!(code == 0, "cannot create a topic: error code {code}");
        created.push(began.elapsed());
        write(&mut client, PASSING, 0..PARTITIONS, &value)?;
        let began = Instant::now();
        let code = client.call(6, &gone)?.responses[0].error_code;
        ensure!(code == 0, "cannot delete a topic: error code {code}");
        deleted.push(began.elapsed());
        sleep(Duration::from_millis(100));
    }
    let (created, deleted) = (Spread::of(created), Spread::of(deleted));
    Ok(format!("1,000 partitions created: {created}; deleted: {deleted}"))
}

fn write_everywhere(address: SocketAddr, stop: &AtomicBool, topics: usize, value: &Bytes) -> Result<String> {
    let mut client = Client::connect(address, MAX_WAIT)?;
    let (began, mut requests) = (Instant::now(), 0);
    while !stop.load(Relaxed) {
        // Another topic each time, and in the end every partition.
        let from = i32::try_from(requests / topics)? % (PARTITIONS / AT_ONCE) * AT_ONCE;
        write(&mut client, &name(requests % topics), from..from + AT_ONCE, value)?;
        requests += 1;
    }
    let rate = requests as f64 * f64::from(AT_ONCE) / began.elapsed().as_secs_f64();
    Ok(format!("batches to all partitions: {rate:.0}/s, {AT_ONCE} in a request"))
}

/// One batch for each of these partitions, in one request.
fn write(client: &mut Client, topic: &str, partitions: std::ops::Range<i32>, value: &Bytes) -> Result<()> {
    let data =
        |partition| PartitionProduceData::default().with_index(partition).with_records(Some(value.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(partitions.map(data).collect());
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let response = client.call(9, &request)?;
    let answers = &response.responses.first().context("an empty response to Produce")?.partition_responses;
    let refused = answers.iter().find(|answer| answer.error_code != 0);
    ensure!(refused.is_none(), "a batch was refused: {refused:?}");
    Ok(())
}

/// Steps of a raft thread so far, by what their bucket is bounded by, and the longest since the last look.
struct Steps {
    /// Cumulative.
    buckets: Vec<(f64, u64)>,
    longest: f64,
    longest_cpu: f64,
}

impl Steps {
    fn of(cluster: &Cluster, id: NodeId) -> Result<Self> {
        let (code, text) = cluster.get(id, "/metrics")?;
        ensure!(code == 200, "metrics of node {id}: {code}");
        let single = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.parse().ok()).context("a gauge of steps")
        };
        let bucket = |line: &str| {
            let rest = line.strip_prefix("eventstream_raft_step_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        };
        Ok(Self {
            buckets: text.lines().filter_map(bucket).collect(),
            longest: single("eventstream_raft_step_max_seconds")?,
            longest_cpu: single("eventstream_raft_step_max_cpu_seconds")?,
        })
    }

    /// In words, since `before`.
    fn since(&self, before: &Self) -> String {
        let counts = self.buckets.iter().zip(&before.buckets).map(|(now, before)| (now.0, now.1 - before.1));
        let counts: Vec<(f64, u64)> = counts.collect();
        let all = counts.last().map_or(0, |(_, count)| *count);
        let at = |share: f64| {
            let bound = counts.iter().find(|(_, count)| *count as f64 >= share * all as f64);
            bound.map_or(0.0, |(bound, _)| bound * 1e3)
        };
        let within = counts.iter().rev().find(|(bound, _)| *bound <= 1e-3).map_or(0, |(_, count)| *count);
        format!(
            "{all} steps, p50 <= {}, p99 <= {}, p99.9 <= {}, max {:.2} ms ({:.2} of processor); {} above 1 ms",
            at(0.5),
            at(0.99),
            at(0.999),
            self.longest * 1e3,
            self.longest_cpu * 1e3,
            all - within,
        )
    }
}

/// Prints what the raft threads' steps took during `work`.
fn report(cluster: &Cluster, what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("{what}:");
    let look = || cluster.ids().into_iter().map(|id| Steps::of(cluster, id)).collect::<Result<Vec<_>>>();
    let before = look()?;
    work()?;
    for ((id, now), before) in cluster.ids().iter().zip(look()?).zip(&before) {
        let role = if cluster.leader() == Some(*id) { " (leads)" } else { "" };
        println!("  node {id}{role}: {}", now.since(before));
    }
    Ok(())
}
