//! What a planned change of the leader costs producers: transfers, and clean restarts of each node.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::{Cluster, MAX_WAIT};
use tests::load::writer::{Ack, ContinuousWriter, check_each_once, longest_gap};

const TOPIC: &str = "continuous";
/// Operations of each kind.
const ROUNDS: usize = 10;
/// How long the effects of an operation are observed.
const AFTERMATH: Duration = Duration::from_millis(400);

/// An operation on the cluster, and its time.
struct Done {
    kind: &'static str,
    from: Instant,
    to: Instant,
}

fn done(kind: &'static str, act: impl FnOnce() -> Result<()>) -> Result<Done> {
    let from = Instant::now();
    act()?;
    std::thread::sleep(AFTERMATH);
    Ok(Done { kind, from, to: Instant::now() })
}

fn transfer(cluster: &Cluster) -> Result<()> {
    let leader = cluster.wait_ready()?;
    let (code, body) = cluster.post(leader, "/cluster/leader/transfer", "")?;
    ensure!(code == 200, "{body}");
    Ok(())
}

/// Stops a node cleanly and starts it again.
fn restart(cluster: &mut Cluster, node: NodeId) -> Result<()> {
    ensure!(cluster.stop(node)?, "an orderly end; log: {}", cluster.log(node));
    cluster.launch(node)?;
    cluster.wait("the node is ready", |cluster| {
        cluster.get(node, "/health/ready").is_ok_and(|(code, _)| code == 200).then_some(())
    })
}

/// Transfers leadership, restarts the leader and restarts a follower, in turn.
fn change_leaders(cluster: &mut Cluster) -> Result<Vec<Done>> {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(done("transfer", || transfer(cluster))?);
        let leader = cluster.wait_ready()?;
        all.push(done("leader restarts", || restart(cluster, leader))?);
        let leader = cluster.wait_ready()?;
        let follower = cluster.ids().into_iter().find(|id| *id != leader).context("a follower")?;
        all.push(done("follower restarts", || restart(cluster, follower))?);
    }
    Ok(all)
}

/// Returns the longest gap of each operation of one kind, shortest first, and prints them.
fn gaps(client: &str, kind: &str, all: &[Done], gap: impl Fn(&Done) -> Duration) -> Vec<Duration> {
    let mut gaps: Vec<_> = all.iter().filter(|done| done.kind == kind).map(gap).collect();
    gaps.sort_unstable();
    let at = |percent: usize| gaps[(gaps.len() * percent / 100).min(gaps.len() - 1)].as_millis();
    println!("{client}: {kind}: longest produce gap p50 {} p99 {} max {} ms", at(50), at(99), at(100));
    gaps
}

fn ready() -> Result<Cluster> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_leader()?;
    ensure!(Client::connect(cluster.kafka(leader), MAX_WAIT)?.create_topic(TOPIC, 1)? == 0);
    Ok(cluster)
}

#[test]
fn a_planned_change_of_the_leader_costs_a_client_one_retry() -> Result<()> {
    let mut cluster = ready()?;
    let producer = ContinuousWriter::start(&cluster, TOPIC);
    let all = change_leaders(&mut cluster)?;
    let acks = producer.finish()?;
    let mut p50 = Vec::new();
    for kind in ["transfer", "leader restarts", "follower restarts"] {
        let gaps = gaps("plain client", kind, &all, |done| longest_gap(&acks, done.from, done.to));
        p50.push(gaps[gaps.len() / 2]);
    }
    let most = acks.iter().map(|ack| ack.retries).max().unwrap_or_default();
    println!("{} events, most retries of one: {most}", acks.len());
    let log = Client::connect(cluster.kafka(cluster.wait_ready()?), MAX_WAIT)?.read_all(TOPIC, 0)?;
    check_each_once(&acks, &log)?;
    ensure!(most <= 1, "an event was sent {most} times again: {:?}", retried(&acks));
    ensure!(p50.iter().all(|gap| *gap <= Duration::from_millis(150)), "{p50:?}");
    Ok(())
}

/// Returns the events that took more than one retry, and how many.
fn retried(acks: &[Ack]) -> Vec<(usize, u32)> {
    let retries = acks.iter().map(|ack| ack.retries).enumerate();
    retries.filter(|(_, retries)| *retries > 1).collect()
}

/// A running `tests/clients/continuous.py`.
struct Library {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Library {
    fn start(cluster: &Cluster) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut child = Command::new(root.join("target/venv/bin/python"))
            .arg(root.join("tests/clients/continuous.py"))
            .args([&cluster.bootstrap(), TOPIC])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run the clients' Python; `tests/setup.sh` installs it")?;
        let input = child.stdin.take().context("its input")?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line == "ready\n", "{line}");
        Ok(Self { child, input, output })
    }

    /// Stops it. Returns the gaps between acknowledgements, in milliseconds.
    fn finish(self) -> Result<Vec<u64>> {
        let Self { mut child, mut input, mut output } = self;
        input.flush()?;
        drop(input);
        let mut said = String::new();
        output.read_to_string(&mut said)?;
        ensure!(child.wait()?.success(), "the producer failed: {said}");
        let report: serde_json::Value = serde_json::from_str(said.trim())?;
        let gaps = report["gaps"].as_array().context("its gaps")?;
        Ok(gaps.iter().filter_map(|gap| gap[1].as_u64()).collect())
    }
}

#[test]
fn a_client_library_sees_no_error_when_leaders_change() -> Result<()> {
    let mut cluster = ready()?;
    let library = Library::start(&cluster)?;
    change_leaders(&mut cluster)?;
    let mut gaps = library.finish()?;
    gaps.sort_unstable();
    println!("confluent-kafka: {} gaps above 20 ms: {gaps:?}", gaps.len());
    Ok(())
}
