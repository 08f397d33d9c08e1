//! Hostile clients against running nodes: damaged frames on all three ports, clients that are slow, silent or far too
//! many. Meanwhile an honest client is served, memory stays bounded, and nothing acknowledged is lost.
//!
//! `HOSTILE_FRAMES=100000` sends so many to each port; `HOSTILE_PATIENCE=1` waits until the slow ones are let go, which
//! takes a minute; `HOSTILE_READERS=1000` has so many clients ask for long answers and read none;
//! `STRANGER_SECONDS=60` has strangers at the peer ports for so long.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DescribeConfigsRequest, FetchRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::{Cluster, binary};
use tests::hostile::{Honest, Served, attack, crowd, is_closed, memory, most_memory, seeds};
use tests::ledger::Ledger;
use tests::stranger::{Knowledge, Strangers, anything, has_the_next, signs_of_life, store_of};

const LIMIT: Duration = Duration::from_secs(5);
/// An honest request may take so long in the worst of times, on a machine that others use as well.
const SERVED: Duration = Duration::from_secs(2);
/// Damaged frames to each port, unless `HOSTILE_FRAMES` says otherwise.
const FRAMES: usize = 10_000;

// Where a greeting's fields are, behind the frame's header, a magic number and the protocol: see `Greeting::encode`.
const GREETING_TO: usize = 13 + 8;
const GREETING_NODE: usize = GREETING_TO + 24;
const GREETING_FLAGS: usize = GREETING_NODE + 8 + 4;
const GREETING_CLUSTER: usize = GREETING_FLAGS + 1 + 16;

fn nodes(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect()
}

/// The topic holds what the honest client was told, every node is up and nobody is behind.
fn sound(cluster: &Cluster, topic: &str, served: Served) -> Result<()> {
    ensure!(served.percentile(99) < SERVED, "an honest client was not served: {served}");
    let mut ledger = Ledger::default();
    ledger.extend(served.writes);
    let leader = cluster.wait_ready()?;
    ledger.check(&Client::connect(cluster.kafka(leader), LIMIT)?.read_all(topic, 0)?)?;
    for id in cluster.ids() {
        let (code, body) = cluster.get(id, "/health/ready")?;
        ensure!(code == 200, "node {id} is not ready: {body}");
    }
    Ok(())
}

/// Runs `hostilities` while an honest client is served, and says what it cost.
fn amid(cluster: &Cluster, what: &str, hostilities: impl FnOnce() -> Result<()>) -> Result<()> {
    let pid = |id: NodeId| cluster.os_pid(id);
    let before: Vec<_> = cluster.ids().into_iter().map(|id| memory(pid(id))).collect::<Result<_>>()?;
    let topic = format!("honest-{what}");
    let honest = Honest::start(nodes(cluster), &topic)?;
    let began = Instant::now();
    hostilities()?;
    let took = began.elapsed();
    let served = honest.finish()?;
    let after: Vec<_> = cluster.ids().into_iter().map(|id| memory(pid(id))).collect::<Result<_>>()?;
    println!("{what}: {took:.1?}; {served}");
    for (id, (before, after)) in cluster.ids().into_iter().zip(before.iter().zip(&after)) {
        println!("  node {id}: {} MiB before, {} MiB after, {} MiB at most", before.0, after.0, after.1);
    }
    sound(cluster, &topic, served)
}

/// The seeds of peers as a peer of this cluster would send them: from `from` to `to`, with the cluster's identity.
fn peer_seeds(cluster: &Cluster, from: NodeId, to: NodeId) -> Result<Vec<Vec<u8>>> {
    let identity = cluster.status(to)?.cluster_id.context("founded")?;
    let mut seeds = seeds("peer", &[])?;
    for seed in seeds.iter_mut().filter(|seed| seed[8] == 1) {
        seed[GREETING_TO..][..8].copy_from_slice(&to.to_le_bytes());
        seed[GREETING_NODE..][..8].copy_from_slice(&from.to_le_bytes());
        seed[GREETING_CLUSTER..][..16].copy_from_slice(&identity.0.as_u128().to_le_bytes());
        *seed = esnode::fuzz::mended_frames(seed);
    }
    Ok(seeds)
}

#[test]
fn damaged_frames_on_all_ports_do_no_harm() -> Result<()> {
    let count = std::env::var("HOSTILE_FRAMES").map_or(Ok(FRAMES), |count| count.parse())?;
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_ready()?;
    let peer = cluster.ids().into_iter().find(|id| *id != leader).context("three nodes")?;
    let term = cluster.status(leader)?.term;
    let frames = seeds("kafka", &[])?;
    amid(&cluster, "kafka", || {
        let took = attack(cluster.kafka(leader), &frames, count, <[u8]>::to_vec)?;
        println!("{count} frames on the Kafka port in {took:.1?}");
        Ok(())
    })?;
    let frames = peer_seeds(&cluster, peer, leader)?;
    amid(&cluster, "peer", || {
        let took = attack(cluster.peer(leader), &frames, count, esnode::fuzz::mended_frames)?;
        println!("{count} frames on the peer port in {took:.1?}");
        Ok(())
    })?;
    // A transfer of leadership is a proper request, however it came about.
    let requests = seeds("admin", &["transfer", "form", "chunked"])?;
    amid(&cluster, "admin", || {
        let took = attack(cluster.admin(leader), &requests, count, <[u8]>::to_vec)?;
        println!("{count} requests on the admin port in {took:.1?}");
        Ok(())
    })?;
    println!("term {term} before, {} after", cluster.status(leader)?.term);
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "a node took {most} MiB");
    Ok(())
}

/// Bytes that begin well, to be sent one by one; and the port that they are for.
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

/// A stranger in the name of a peer, which is down just now, says that the node's data directory is not the one that the
/// cluster knows.
#[test]
fn a_stranger_cannot_make_a_node_stop() -> Result<()> {
    const NO_CLUSTER_BUT_YOUR_STORE: u8 = 4;
    let mut cluster = Cluster::ready(3)?;
    cluster.kill(3)?;
    let mut greeting =
        peer_seeds(&cluster, 3, 1)?.into_iter().find(|seed| seed[8] == 1).context("a greeting")?;
    greeting[GREETING_FLAGS] = NO_CLUSTER_BUT_YOUR_STORE;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(cluster.peer(1))?;
        stream.write_all(&esnode::fuzz::mended_frames(&greeting))?;
        std::thread::sleep(Duration::from_millis(20));
        is_closed(&mut stream);
    }
    let (code, body) = cluster.get(1, "/health/ready").with_context(|| cluster.log(1))?;
    ensure!(code == 200, "{body}\n{}", cluster.log(1));
    cluster.launch(3)?;
    cluster.wait_ready()?;
    Ok(())
}

/// All that can be known of a cluster from outside, and the data directories' identities with it.
fn knowledge(cluster: &Cluster) -> Result<Knowledge> {
    let leader = cluster.wait_ready()?;
    let status = cluster.status(leader)?;
    let ids = cluster.ids().into_iter();
    let ports = ids.clone().map(|id| (id, cluster.peer(id))).collect();
    let stores = ids.map(|id| Ok((id, store_of(&cluster.data_dir(id))?))).collect::<Result<_>>()?;
    let cluster = status.cluster_id.context("founded")?;
    Ok(Knowledge { cluster, ports, stores, term: status.term, last: status.commit_index })
}

/// Strangers who know everything say anything to every node: as members, as the node itself, as somebody new. Then one
/// member is away, and they do so in its name.
#[test]
fn strangers_on_the_peer_ports_change_nothing() -> Result<()> {
    let seconds = std::env::var("STRANGER_SECONDS").map_or(Ok(4.0), |seconds| seconds.parse())?;
    let each = Duration::from_secs_f64(seconds / 2.0);
    let mut cluster = Cluster::ready(3)?;
    let topic = "honest-strangers";
    let known = knowledge(&cluster)?;
    let absent =
        cluster.ids().into_iter().rfind(|id| cluster.leader() != Some(*id)).context("three nodes")?;
    let honest = Honest::start(nodes(&cluster), topic)?;
    let all = Strangers::start(&known, &[1, 2, 3, 9], anything);
    std::thread::sleep(each);
    println!("{} connections, {} offers of files", all.attempts.load(Relaxed), all.offers.load(Relaxed));
    let offered = all.offers.load(Relaxed);
    all.finish();

    cluster.kill(absent)?;
    let mut of_the_living =
        Knowledge { last: cluster.status(cluster.wait_leader()?)?.commit_index, ..known.clone() };
    of_the_living.ports.retain(|(id, _)| *id != absent);
    let impostors = Strangers::start(&of_the_living, &[absent], anything);
    std::thread::sleep(each);
    println!("{} connections in the name of node {absent}", impostors.attempts.load(Relaxed));
    ensure!(offered + impostors.offers.load(Relaxed) == 0, "a stranger was offered files");
    impostors.finish();
    let served = honest.finish()?;
    println!("{served}");
    for id in cluster.ids().into_iter().filter(|id| *id != absent) {
        ensure!(cluster.is_running(id), "node {id} has ended: {}", cluster.log(id));
        let term = cluster.status(id)?.term;
        ensure!(term == known.term, "term {} became {term} on node {id}: {}", known.term, cluster.log(id));
        println!("node {id}: {:?} MiB", memory(cluster.os_pid(id))?);
        ensure!(cluster.log(id).lines().count() < 200, "strangers fill the log: {}", cluster.log(id));
    }
    ensure!(most_memory(&cluster, absent)? < 400, "a node took too much memory");
    for id in cluster.ids().into_iter().filter(|id| *id != absent) {
        cluster.kill(id)?;
    }
    cluster.launch_all()?;
    cluster.wait_ready()?;
    sound(&cluster, topic, served)
}

/// A leader that is alone hears from strangers that everybody has everything.
#[test]
fn strangers_acknowledge_nothing_in_the_name_of_members() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let known = knowledge(&cluster)?;
    let leader = cluster.wait_leader()?;
    let mut client = Client::connect(cluster.kafka(leader), Duration::from_secs(3))?;
    ensure!(client.create_topic("t", 1)? == 0);
    ensure!(client.produce("t", 0, b"by a majority")?.is_ok());
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let ports = vec![(leader, cluster.peer(leader))];
    let last = cluster.status(leader)?.commit_index;
    let known = Knowledge { last, ports, ..known };
    let alive = Strangers::start(&known, &others, signs_of_life);
    for id in &others {
        cluster.kill(*id)?;
    }
    let outcome = std::thread::spawn(move || client.produce("t", 0, b"by nobody else"));
    std::thread::sleep(Duration::from_millis(100));
    let following = Strangers::start(&known, &others, has_the_next);
    let outcome = outcome.join().expect("it returns its errors");
    println!("{outcome:?} after {} connections", following.attempts.load(Relaxed));
    [alive, following].into_iter().for_each(Strangers::finish);
    ensure!(!matches!(outcome, Ok(Ok(_))), "it was acknowledged: {outcome:?}");
    for id in others {
        cluster.launch(id)?;
    }
    cluster.wait_ready()?;
    Ok(())
}

type Slow = (SocketAddr, TcpStream, Vec<u8>);

/// How many slow ones each port still has.
fn waiting(slow: &[Slow]) -> BTreeMap<SocketAddr, usize> {
    let mut waiting = BTreeMap::new();
    slow.iter().for_each(|(address, ..)| *waiting.entry(*address).or_default() += 1);
    waiting
}

#[test]
fn slow_and_half_open_clients_hold_up_nobody() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    let patient = std::env::var_os("HOSTILE_PATIENCE").is_some();
    amid(&cluster, "slow", || {
        let mut slow: Vec<Slow> = Vec::new();
        for (address, bytes) in beginnings(&cluster, 1) {
            for stream in crowd(address, 50)? {
                slow.push((address, stream, bytes.clone()));
            }
        }
        // Half sent for good: together more than there is memory for.
        let half = crowd(cluster.kafka(1), 40)?;
        for mut stream in half.iter() {
            stream.set_write_timeout(Some(Duration::from_millis(200)))?;
            let _ = stream.write_all(&[&(8u32 << 20).to_be_bytes()[..], &vec![0; 4 << 20]].concat());
        }
        let began = Instant::now();
        let limit = Duration::from_secs(if patient { 80 } else { 3 });
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
        ensure!(!patient || slow.is_empty(), "{} slow clients were never let go", slow.len());
        Ok(())
    })?;
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "the node took {most} MiB");
    Ok(())
}

#[test]
fn clients_that_take_no_answers_hold_up_nobody() -> Result<()> {
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
    amid(&cluster, "unread", || {
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
        let senders = crowd(cluster.kafka(1), 20)?;
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

/// Topics of a thousand partitions each, as many as there may be.
const LARGE_TOPICS: usize = 100;
/// Clients that ask for Metadata and read none, unless `HOSTILE_READERS` says otherwise.
const READERS: usize = 150;

fn large_topic(number: usize) -> TopicName {
    TopicName(StrBytes::from_string(format!("large-{number}")))
}

/// Asks for all topics, for all by their names, or for their settings, many times, and reads nothing.
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

/// Until `over`, asks how the cluster is and for all topics; the longest time that each took.
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

/// How long Metadata of all topics takes, with reading it.
fn all_topics(cluster: &Cluster) -> Result<Duration> {
    let began = Instant::now();
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    let all: MetadataResponse = client.call(12, &MetadataRequest::default().with_topics(None))?;
    ensure!(all.topics.len() >= LARGE_TOPICS, "{} topics", all.topics.len());
    Ok(began.elapsed())
}

#[test]
fn clients_that_ask_for_long_answers_and_read_none_hold_up_nobody() -> Result<()> {
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
    amid(&cluster, "long", || {
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
            let served = alone + 2 * SERVED;
            ensure!(status < Duration::from_secs(1) && metadata < served, "{status:?} {metadata:?}");
            unread.map(drop)
        })
    })?;
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "the node took {most} MiB");
    Ok(())
}

/// A Fetch that names as many topics as a request may, in three bytes each; decoded it takes thirty times as much.
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
fn requests_that_swell_when_decoded_are_held_to_account() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    amid(&cluster, "swelling", || {
        let frame = dense_fetch();
        let clients = crowd(cluster.kafka(1), 4)?;
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
fn connections_beyond_the_limit_are_refused_and_the_others_served() -> Result<()> {
    let extra = "network:\n  max_connections: 100\n";
    let cluster = Cluster::start_with(1, extra, &binary("esnode"))?;
    cluster.wait_ready()?;
    amid(&cluster, "crowd", || {
        let mut crowds = [cluster.kafka(1), cluster.admin(1), cluster.peer(1)].map(|to| (to, Vec::new()));
        for (address, crowded) in &mut crowds {
            let began = Instant::now();
            *crowded = crowd(*address, 1500)?;
            println!("{address}: 1500 connections in {:.1?}", began.elapsed());
        }
        std::thread::sleep(Duration::from_secs(2));
        for (address, crowded) in &mut crowds {
            let open = crowded.iter_mut().filter_map(|stream| (!is_closed(stream)).then_some(())).count();
            println!("{address}: {open} of 1500 are open");
            ensure!(open <= 100, "{open} connections are open on {address}");
        }
        Ok(())
    })?;
    let told = cluster.log(1);
    ensure!(told.contains("Kafka clients were turned away"), "the log does not tell: {told}");
    ensure!(told.contains("admin connections were refused"), "the log does not tell: {told}");
    ensure!(told.lines().count() < 60, "strangers fill the log: {told}");
    let (code, metrics) = cluster.get(1, "/metrics")?;
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("eventstream_kafka_connections_refused_total "));
    ensure!(
        code == 200 && refused.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count > 1000.0))
    );
    Ok(())
}

/// Without descriptors the next segment cannot be opened, which would look like a failed disk.
#[test]
fn connections_leave_the_log_its_descriptors() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let limited = dir.path().join("esnode");
    let script = format!("#!/bin/sh\nulimit -n 600\nexec {} \"$@\"\n", binary("esnode").display());
    std::fs::write(&limited, script)?;
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o755))?;
    let cluster = Cluster::start_with(1, "", &limited)?;
    cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0);
    let _held: Vec<Vec<TcpStream>> =
        [cluster.kafka(1), cluster.peer(1)].into_iter().map(|to| crowd(to, 700)).collect::<Result<_>>()?;
    // Several segments' worth.
    let event = vec![b'x'; 900 << 10];
    for _ in 0..30 {
        ensure!(client.produce("t", 0, &event)?.is_ok());
    }
    let files = std::fs::read_dir(cluster.data_dir(1).join("log"))?.count();
    ensure!(files > 2, "the log did not grow beyond its first segment: {files} files");
    ensure!(cluster.log(1).contains("may open 600 files only"), "{}", cluster.log(1));
    Ok(())
}
