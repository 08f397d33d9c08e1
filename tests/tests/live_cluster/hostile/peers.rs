//! Damaged frames on all ports, and strangers on the peer port.
//!
//! `HOSTILE_FRAMES=100000` sends that many frames to each port. `STRANGER_SECONDS=60` is how long the
//! strangers go on.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::hostile::strangers::{
    Knowledge, Strangers, anything, append_responses, heartbeat_responses, store_of,
};
use tests::hostile::{HonestClient, attack, is_closed, memory, most_memory, seeds};

use super::{check_unharmed, nodes, under_attack};

/// Damaged frames to each port, unless `HOSTILE_FRAMES` is set.
const FRAMES: usize = 10_000;

// Where a greeting's fields are, behind the frame's header, a magic number and the protocol: see
// `Greeting::encode`.
const GREETING_TO: usize = 9 + 8;
const GREETING_NODE: usize = GREETING_TO + 24;
const GREETING_FLAGS: usize = GREETING_NODE + 8 + 4;
const GREETING_CLUSTER: usize = GREETING_FLAGS + 1 + 16;

/// Returns the fuzzers' seeds as a peer of this cluster would send them: from `from` to `to`, with the
/// cluster's id.
fn peer_seeds(cluster: &Cluster, from: NodeId, to: NodeId) -> Result<Vec<Vec<u8>>> {
    let identity = cluster.status(to)?.cluster_id.context("a cluster id")?;
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
    under_attack(&cluster, "kafka", || {
        let took = attack(cluster.kafka(leader), &frames, count, <[u8]>::to_vec)?;
        println!("{count} frames on the Kafka port in {took:.1?}");
        Ok(())
    })?;
    let frames = peer_seeds(&cluster, peer, leader)?;
    under_attack(&cluster, "peer", || {
        let took = attack(cluster.peer(leader), &frames, count, esnode::fuzz::mended_frames)?;
        println!("{count} frames on the peer port in {took:.1?}");
        Ok(())
    })?;
    // A transfer of leadership is a proper request, however it came about.
    let requests = seeds("admin", &["transfer", "form", "chunked"])?;
    under_attack(&cluster, "admin", || {
        let took = attack(cluster.admin(leader), &requests, count, <[u8]>::to_vec)?;
        println!("{count} requests on the admin port in {took:.1?}");
        Ok(())
    })?;
    println!("term {term} before, {} after", cluster.status(leader)?.term);
    let most = most_memory(&cluster, 0)?;
    ensure!(most < 400, "a node took {most} MiB");
    Ok(())
}

/// A stranger, in the name of a peer that is down, claims that the node's data directory is not the one that
/// the cluster knows.
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

/// Returns all that strangers can learn of a cluster, and the identities of the data directories.
fn knowledge(cluster: &Cluster) -> Result<Knowledge> {
    let leader = cluster.wait_ready()?;
    let status = cluster.status(leader)?;
    let ids = cluster.ids().into_iter();
    let ports = ids.clone().map(|id| (id, cluster.peer(id))).collect();
    let stores = ids.map(|id| Ok((id, store_of(&cluster.data_dir(id))?))).collect::<Result<_>>()?;
    let cluster = status.cluster_id.context("a cluster id")?;
    Ok(Knowledge { cluster, ports, stores, term: status.term, last: status.commit_index })
}

/// Strangers who know everything send anything to every node: as members, as the node itself, as a new node.
/// Then one member is killed, and they do so in its name.
#[test]
fn strangers_on_the_peer_ports_change_nothing() -> Result<()> {
    let seconds = std::env::var("STRANGER_SECONDS").map_or(Ok(4.0), |seconds| seconds.parse())?;
    let each = Duration::from_secs_f64(seconds / 2.0);
    let mut cluster = Cluster::ready(3)?;
    let topic = "honest-strangers";
    let known = knowledge(&cluster)?;
    let absent =
        cluster.ids().into_iter().rfind(|id| cluster.leader() != Some(*id)).context("three nodes")?;
    let honest = HonestClient::start(nodes(&cluster), topic)?;
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
    check_unharmed(&cluster, topic, served)
}

/// A leader that is alone hears from strangers that all members have everything.
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
    let alive = Strangers::start(&known, &others, heartbeat_responses);
    for id in &others {
        cluster.kill(*id)?;
    }
    let outcome = std::thread::spawn(move || client.produce("t", 0, b"by nobody else"));
    std::thread::sleep(Duration::from_millis(100));
    let following = Strangers::start(&known, &others, append_responses);
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
