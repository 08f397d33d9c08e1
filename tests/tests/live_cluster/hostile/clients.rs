//! Clients that are slow, half open or silent, and requests with large responses.
//!
//! `HOSTILE_WAIT=1` waits until the node has closed every slow connection, which takes a minute.
//! `HOSTILE_READERS=1000` is how many clients ask for long responses and read none.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DescribeConfigsRequest, FetchRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::hostile::{is_closed, many_clients, most_memory, seeds};
use tests::programs::binary;

use super::{LIMIT, SERVED_WITHIN, under_attack};

/// Returns valid beginnings of requests, to be sent byte by byte, each with its port.
fn beginnings(cluster: &Cluster, id: NodeId) -> [(SocketAddr, Vec<u8>); 4] {
    let metadata = [&100u32.to_be_bytes()[..], &[0, 3, 0, 9], &[0; 96]].concat();
    let greeting = [&100u32.to_le_bytes()[..], &[0; 100]].concat();
    let request =
        b"GET /cluster/status HTTP/1.1\r\nHost: a\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec();
    let claim = (16u32 << 20).to_be_bytes().repeat(20);
    [
        (cluster.kafka(id), metadata),
        (cluster.kafka(id), claim),
        (cluster.peer(id), greeting),
        (cluster.admin(id), request),
    ]
}

type Slow = (SocketAddr, TcpStream, Vec<u8>);

/// Returns how many slow clients each port still has.
fn waiting(slow: &[Slow]) -> BTreeMap<SocketAddr, usize> {
    let mut waiting = BTreeMap::new();
    slow.iter().for_each(|(address, ..)| *waiting.entry(*address).or_default() += 1);
    waiting
}

#[test]
fn slow_and_half_open_clients_delay_nobody() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    let to_the_end = std::env::var_os("HOSTILE_WAIT").is_some();
    under_attack(&cluster, "slow", || {
        let mut slow: Vec<Slow> = Vec::new();
        for (address, bytes) in beginnings(&cluster, 1) {
            for stream in many_clients(address, 50)? {
                slow.push((address, stream, bytes.clone()));
            }
        }
        // Half sent for good: together more than there is memory for.
        let half = many_clients(cluster.kafka(1), 40)?;
        for mut stream in half.iter() {
            stream.set_write_timeout(Some(Duration::from_millis(200)))?;
            let _ = stream.write_all(&[&(8u32 << 20).to_be_bytes()[..], &vec![0; 4 << 20]].concat());
        }
        let began = Instant::now();
        let limit = Duration::from_secs(if to_the_end { 80 } else { 3 });
        let mut at = 0;
        while began.elapsed() < limit && !slow.is_empty() {
            let before = waiting(&slow);
            slow.retain_mut(|(_, stream, bytes)| {
                let _ = stream.write(&bytes[at % bytes.len()..][..1]);
                !is_closed(stream)
            });
            let after = waiting(&slow);
            for (address, _) in before.iter().filter(|(address, _)| !after.contains_key(address)) {
                println!("{address} has let the last slow one go within {:.0?}", began.elapsed());
            }
            at += 1;
            std::thread::sleep(Duration::from_secs(1));
        }
        let peers = slow.iter().filter(|(address, ..)| *address == cluster.peer(1)).count();
        ensure!(peers == 0, "the peer port still waits for {peers} strangers");
        ensure!(!to_the_end || slow.is_empty(), "{} slow clients were never let go", slow.len());
        Ok(())
    })?;
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "the node took {most} MiB");
    Ok(())
}

#[test]
fn clients_that_read_no_responses_delay_nobody() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    ensure!(client.create_topic("large", 1)? == 0);
    let event = vec![b'x'; 900 << 10];
    for _ in 0..10 {
        ensure!(client.produce("large", 0, &event)?.is_ok());
    }
    let wanted = FetchPartition::default().with_partition_max_bytes(8 << 20);
    let topic = FetchTopic::default().with_topic(TopicName("large".into())).with_partitions(vec![wanted]);
    let fetch = FetchRequest::default().with_max_bytes(8 << 20).with_topics(vec![topic]);
    under_attack(&cluster, "unread", || {
        let mut readers = Vec::new();
        for _ in 0..60 {
            let mut reader = Client::connect(cluster.kafka(1), Duration::from_millis(100))?;
            for _ in 0..50 {
                reader.send(11, &fetch)?;
            }
            readers.push(reader);
        }
        // And such as send what they can: events that are acknowledged, and the acknowledgements left lying.
        let requests = seeds("kafka", &["Fetch", "CreateTopics", "DeleteTopics", "InitProducerId"])?.concat();
        let senders = many_clients(cluster.kafka(1), 20)?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            for mut sender in senders.iter() {
                sender.set_write_timeout(Some(Duration::from_millis(5)))?;
                let _ = sender.write_all(&requests);
            }
        }
        Ok(())
    })?;
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 700, "the node took {most} MiB");
    Ok(())
}

/// Number of topics of a thousand partitions each: the limit of partitions.
const LARGE_TOPICS: usize = 100;
/// Clients that ask for Metadata and read none, unless `HOSTILE_READERS` says otherwise.
const READERS: usize = 150;

fn large_topic(number: usize) -> TopicName {
    TopicName(StrBytes::from_string(format!("large-{number}")))
}

/// Asks many times for all topics, for all by name, or for their settings, and reads nothing.
fn never_reads(to: SocketAddr, number: usize) -> Result<Client> {
    let mut client = Client::connect(to, Duration::from_millis(100))?;
    let named =
        (0..LARGE_TOPICS).map(|topic| MetadataRequestTopic::default().with_name(Some(large_topic(topic))));
    let by_name = MetadataRequest::default().with_topics(Some(named.collect()));
    let setting = DescribeConfigsResource::default().with_resource_type(2).with_configuration_keys(None);
    let settings = (0..LARGE_TOPICS).map(|topic| setting.clone().with_resource_name(large_topic(topic).0));
    let settings = DescribeConfigsRequest::default().with_resources(settings.collect());
    let version = i16::try_from(1 + number % 12)?;
    for _ in 0..20 {
        // What it cannot send it need not: nobody reads.
        let _ = match number % 4 {
            0 => client.send(version, &by_name),
            1 => client.send(4, &settings),
            _ => client.send(version, &MetadataRequest::default().with_topics(None)),
        };
    }
    Ok(client)
}

/// Until `over`, asks for the status and for all topics. Returns the longest time that each took.
fn honest_questions(cluster: &Cluster, over: &AtomicBool) -> Result<[Duration; 2]> {
    let mut longest = [Duration::ZERO; 2];
    while !over.load(Relaxed) {
        let began = Instant::now();
        cluster.status(1)?;
        longest[0] = longest[0].max(began.elapsed());
        longest[1] = longest[1].max(all_topics(cluster)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(longest)
}

/// Returns how long Metadata of all topics takes, including reading it.
fn all_topics(cluster: &Cluster) -> Result<Duration> {
    let began = Instant::now();
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    let all: MetadataResponse = client.call(12, &MetadataRequest::default().with_topics(None))?;
    ensure!(all.topics.len() >= LARGE_TOPICS, "{} topics", all.topics.len());
    Ok(began.elapsed())
}

#[test]
fn clients_that_ask_for_long_responses_and_read_none_delay_nobody() -> Result<()> {
    let readers = std::env::var("HOSTILE_READERS").map_or(Ok(READERS), |count| count.parse())?;
    let extra = "network:\n  max_connections: 2000\n";
    let cluster = Cluster::start_with(1, extra, &binary("esnode"))?;
    cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    for topic in 0..LARGE_TOPICS - 1 {
        ensure!(client.create_topic(&large_topic(topic).0, 1000)? == 0);
    }
    // The honest client needs one.
    ensure!(client.create_topic(&large_topic(LARGE_TOPICS - 1).0, 900)? == 0);
    // Megabytes take their time in an unoptimised build, whoever else asks.
    let alone = all_topics(&cluster)?;
    let over = AtomicBool::new(false);
    under_attack(&cluster, "long", || {
        std::thread::scope(|scope| {
            let questions = scope.spawn(|| honest_questions(&cluster, &over));
            let unread: Result<Vec<_>> =
                (0..readers).map(|number| never_reads(cluster.kafka(1), number)).collect();
            std::thread::sleep(Duration::from_secs(6));
            over.store(true, Relaxed);
            let [status, metadata] = questions.join().expect("it returns its errors")?;
            println!(
                "{readers} readers: status within {status:.1?}, metadata within {metadata:.1?}, alone {alone:.1?}"
            );
            // Long answers are made one at a time, and all readers ask at once before they fall silent.
            let served = alone + 2 * SERVED_WITHIN;
            ensure!(status < Duration::from_secs(1) && metadata < served, "{status:?} {metadata:?}");
            unread.map(drop)
        })
    })?;
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "the node took {most} MiB");
    Ok(())
}

/// A Fetch that names as many topics as a request may, in three bytes each; decoded it takes thirty times as
/// much.
fn dense_fetch() -> Vec<u8> {
    const TOPICS: u32 = 199_000;
    let mut frame = vec![0, 1, 0, 12, 0, 0, 0, 9, 0xff, 0xff, 0];
    frame.extend([0; 25]);
    // One more than there are, seven bits at a time.
    let mut count = TOPICS + 1;
    while count >= 0x80 {
        frame.push(0x80 | u8::try_from(count & 0x7f).expect("seven bits"));
        count >>= 7;
    }
    frame.push(u8::try_from(count).expect("seven bits"));
    // Each an empty name, no partitions and no tags; then nothing forgotten, no rack, no tags.
    frame.extend([1, 1, 0].repeat(TOPICS as usize));
    frame.extend([1, 1, 0]);
    let length = u32::try_from(frame.len()).expect("600 KB");
    [&length.to_be_bytes()[..], &frame].concat()
}

#[test]
fn requests_that_grow_when_decoded_count_with_their_decoded_size() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    under_attack(&cluster, "swelling", || {
        let frame = dense_fetch();
        let clients = many_clients(cluster.kafka(1), 4)?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            for mut client in clients.iter() {
                client.set_write_timeout(Some(Duration::from_millis(100)))?;
                let _ = client.write_all(&frame);
            }
        }
        Ok(())
    })?;
    let (code, metrics) = cluster.get(1, "/metrics")?;
    let fetches = metrics
        .lines()
        .find_map(|line| line.strip_prefix("eventstream_kafka_requests_total{api=\"Fetch\"} "));
    ensure!(code == 200 && fetches.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count > 20.0)));
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "the node took {most} MiB");
    Ok(())
}

#[test]
fn fetches_in_a_session_count_with_all_that_it_is_about() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    let wanted = (0..4000).map(|number| FetchPartition::default().with_partition(number));
    let topic = FetchTopic::default().with_topic(TopicName("none".into())).with_partitions(wanted.collect());
    let first = FetchRequest::default().with_session_epoch(0).with_topics(vec![topic]);
    under_attack(&cluster, "sessions", || {
        let mut clients = Vec::new();
        for _ in 0..30 {
            let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
            let session = client.call(12, &first)?.session_id;
            // Each asks for four thousand partitions in a few bytes, and none of the answers is read.
            for epoch in 1..2000 {
                let next = FetchRequest::default().with_session_id(session).with_session_epoch(epoch);
                client.send(12, &next)?;
            }
            clients.push((client, session));
        }
        let with_session = clients.iter().filter(|(_, session)| *session > 0).count();
        ensure!((1..30).contains(&with_session), "{with_session} clients have a session");
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "the node took {most} MiB");
    Ok(())
}
