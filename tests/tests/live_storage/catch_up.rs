//! Nodes that are far behind receive segment files. Whichever side is killed meanwhile, all end with the same
//! log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::logs::stop_and_compare;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
/// Small segments, so that a short log is long: Raft keeps two of them for followers.
const SMALL: &str = "    snapshot_interval: 20\n    segment_mb: 2\n";
/// Bytes of one event.
const EVENT: usize = 256 << 10;
/// Logged by a node that begins to receive files, and by one that has installed them.
const BEGUN: &str = "catching up by files";
const DONE: &str = "caught up by files";

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start_with(3, SMALL, &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 1)?;
    Ok(cluster)
}

/// Writes `count` large events, each acknowledged; the leader may change meanwhile.
fn fill(cluster: &Cluster, count: usize) -> Result<()> {
    let mut client: Option<Client> = None;
    let mut written = 0;
    let value = vec![b'x'; EVENT];
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while written < count {
        ensure!(std::time::Instant::now() < deadline, "{written} of {count} events in a minute");
        let connect = || Client::connect(cluster.kafka(cluster.leader()?), LIMIT).ok();
        let Some(connected) = client.as_mut() else {
            client = connect();
            continue;
        };
        match connected.produce("t", 0, &value) {
            Ok(Ok(_)) => written += 1,
            _ => client = None,
        }
    }
    Ok(())
}

/// Waits until the running nodes' snapshots are as new as they will be, so that Raft keeps only the newest
/// log.
fn wait_for_snapshots(cluster: &Cluster, running: &[NodeId]) -> Result<()> {
    let newest = |id| {
        let files = std::fs::read_dir(cluster.data_dir(id).join("checkpoints")).ok()?;
        let indices = files.filter_map(|file| file.ok()?.path().file_stem()?.to_str()?.parse::<u64>().ok());
        indices.max()
    };
    cluster.wait("snapshots", |cluster| {
        let commit = cluster.status(cluster.leader()?).ok()?.commit_index;
        running.iter().all(|id| newest(*id).is_some_and(|index| index + 20 > commit)).then_some(())
    })
}

fn count(cluster: &Cluster, id: NodeId, said: &str) -> usize {
    cluster.log(id).matches(said).count()
}

fn follower(cluster: &Cluster) -> Result<NodeId> {
    let leader = cluster.wait_leader()?;
    cluster.ids().into_iter().find(|id| *id != leader).context("a follower")
}

fn others(cluster: &Cluster, id: NodeId) -> Vec<NodeId> {
    cluster.ids().into_iter().filter(|other| *other != id).collect()
}

#[test]
fn a_node_that_was_down_for_long_receives_files() -> Result<()> {
    let mut cluster = cluster()?;
    let victim = follower(&cluster)?;
    fill(&cluster, 5)?;
    cluster.kill(victim)?;
    fill(&cluster, 60)?;
    wait_for_snapshots(&cluster, &others(&cluster, victim))?;
    cluster.launch(victim)?;
    cluster.wait("the files to be installed", |cluster| (count(cluster, victim, DONE) > 0).then_some(()))?;
    let leader = cluster.wait_ready()?;
    let events = Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?;
    ensure!(events.len() == 65, "{} of 65 events", events.len());
    // It has all that the state machine needs to lead.
    let (code, body) = cluster.post(leader, "/cluster/leader/transfer", &format!("{{\"to\": {victim}}}"))?;
    ensure!(code == 200, "{body}");
    cluster.wait_ready()?;
    let events = Client::connect(cluster.kafka(victim), LIMIT)?.read_all("t", 0)?;
    ensure!(events.len() == 65, "{} of 65 events where the files arrived", events.len());
    stop_and_compare(&mut cluster)
}

#[test]
fn a_new_member_receives_files() -> Result<()> {
    let mut cluster = cluster()?;
    fill(&cluster, 60)?;
    wait_for_snapshots(&cluster, &[1, 2, 3])?;
    let four = cluster.grow()?;
    cluster.launch(four)?;
    let (code, body) =
        cluster.post(cluster.wait_leader()?, "/cluster/members", &cluster.join_request(four))?;
    ensure!(code < 300, "{body}");
    cluster.wait("the files to be installed", |cluster| (count(cluster, four, DONE) > 0).then_some(()))?;
    stop_and_compare(&mut cluster)
}

#[test]
fn sigkill_of_either_side_in_the_middle_ends_with_the_same_log() -> Result<()> {
    let rounds = std::env::var("CATCH_UP_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut random = fastrand::Rng::new();
    let mut cluster = cluster()?;
    let mut begun = 0;
    for round in 0..rounds {
        let victim = follower(&cluster)?;
        cluster.kill(victim)?;
        fill(&cluster, 100)?;
        wait_for_snapshots(&cluster, &others(&cluster, victim))?;
        let before = count(&cluster, victim, BEGUN);
        cluster.launch(victim)?;
        cluster.wait("the catch-up to begin", |cluster| {
            (count(cluster, victim, BEGUN) > before).then_some(())
        })?;
        let leader = cluster.wait_leader()?;
        std::thread::sleep(Duration::from_millis(random.u64(..150)));
        let killed = if round % 2 == 0 { victim } else { leader };
        cluster.kill(killed)?;
        std::thread::sleep(Duration::from_millis(random.u64(..50)));
        cluster.launch(killed)?;
        cluster.wait_ready().with_context(|| format!("round {round}, node {killed} killed"))?;
        begun += count(&cluster, victim, BEGUN) - before;
    }
    let done: usize = cluster.ids().into_iter().map(|id| count(&cluster, id, DONE)).sum();
    println!("{rounds} rounds: {begun} catch-ups begun, {done} taken over");
    stop_and_compare(&mut cluster)
}
