//! Incremental fetch sessions: consumers of many partitions of which few get events.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::Encodable;
use tests::client::{Client, fetch_request};
use tests::cluster::Cluster;

use super::clients::script;

const PARTITIONS: i32 = 1000;
const VERSION: i16 = 12;
/// How long a Fetch waits for events.
const WAIT: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(10);

/// A request of a session, which names so many partitions from offset 0 on.
fn request(session: i32, epoch: i32, partitions: i32) -> FetchRequest {
    let mut request = fetch_request("t", 0, 0);
    let sample = request.topics[0].partitions[0].clone();
    let wanted = (0..partitions).map(|number| sample.clone().with_partition(number));
    let topic = request.topics[0].clone().with_partitions(wanted.collect());
    request.topics = if partitions > 0 { vec![topic] } else { Vec::new() };
    let wait = i32::try_from(WAIT.as_millis()).expect("a moment");
    request.with_max_wait_ms(wait).with_min_bytes(1).with_session_id(session).with_session_epoch(epoch)
}

fn partitions(response: &FetchResponse) -> Vec<i32> {
    let all = response.responses.iter().flat_map(|topic| &topic.partitions);
    all.map(|partition| partition.partition_index).collect()
}

#[test]
fn a_session_costs_little_while_nothing_comes() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.kafka(cluster.wait_leader()?);
    let mut producer = Client::connect(leader, LIMIT)?;
    ensure!(producer.create_topic("t", PARTITIONS)? == 0);
    let mut consumer = Client::connect(leader, LIMIT)?;
    let full = request(0, 0, PARTITIONS);
    let first = consumer.call(VERSION, &full)?;
    ensure!(first.session_id > 0 && partitions(&first).len() == 1000, "{}", first.session_id);
    let session = first.session_id;

    let began = Instant::now();
    let idle = request(session, 1, 0);
    let nothing = consumer.call(VERSION, &idle)?;
    ensure!(began.elapsed() >= WAIT && nothing.responses.is_empty() && nothing.session_id == session);
    let [asked, told] = [idle.compute_size(VERSION)?, nothing.compute_size(VERSION)?];
    let [asked_all, told_all] = [full.compute_size(VERSION)?, first.compute_size(VERSION)?];
    println!(
        "bytes of a Fetch of {PARTITIONS} idle partitions: {asked_all} + {told_all}, in a session {asked} + {told}"
    );
    ensure!(asked + told < 100 && asked_all + told_all > 50_000);

    let offset = producer.produce("t", 7, b"event")?;
    ensure!(offset == Ok(0), "{offset:?}");
    let news = consumer.call(VERSION, &request(session, 2, 0))?;
    let part = &news.responses.first().context("the partition")?.partitions[0];
    ensure!(partitions(&news) == [7] && part.high_watermark == 1, "{news:?}");
    ensure!(part.records.as_ref().is_some_and(|records| !records.is_empty()), "{news:?}");

    // Whoever comes back begins another session.
    let mut again = Client::connect(leader, LIMIT)?;
    let lost = again.call(VERSION, &request(session, 3, 0))?;
    ensure!(lost.error_code == ResponseError::FetchSessionIdNotFound.code(), "{lost:?}");
    Ok(())
}

#[test]
fn kafka_python_uses_a_session() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    script("fetch_sessions.py", &[&cluster.bootstrap(), "t", "300"])
}
