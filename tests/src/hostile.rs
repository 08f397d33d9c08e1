//! Clients that mean no good, and one that does and measures how it is served meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use shared::ids::NodeId;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::ledger::Write as Written;
use crate::mutate::Mutator;

/// How long an honest request may take before its client gives up.
const HONEST_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two honest requests.
const HONEST_PAUSE: Duration = Duration::from_millis(2);
/// How long an attacker waits for what a node makes of its bytes.
const CURIOSITY: Duration = Duration::from_millis(50);

/// Kafka's NOT_LEADER_OR_FOLLOWER: go and look who leads.
const NOT_LEADER: i16 = 6;

/// A client that produces one event after the other on a connection of its own, and reads each back.
pub struct Honest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Served>>,
}

/// How it was served.
pub struct Served {
    /// Every event, with the offset it was acknowledged at.
    pub writes: Vec<Written>,
    /// How long each request took, from the quickest to the slowest; finding a new leader included.
    pub latencies: Vec<Duration>,
    /// How often another node led.
    pub moves: usize,
}

impl Served {
    /// So many percent of the requests took no longer.
    pub fn percentile(&self, part: usize) -> Duration {
        let at = (self.latencies.len() * part / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, worst] = [50, 99, 100].map(|part| self.percentile(part));
        let (events, moves) = (self.writes.len(), self.moves);
        write!(
            f,
            "{events} events acknowledged, p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}, moved {moves} times"
        )
    }
}

impl Honest {
    /// Begins, through any of the nodes, with a topic that does not exist yet.
    pub fn start(nodes: Vec<SocketAddr>, topic: &str) -> Result<Self> {
        let mut client = find_leader(&nodes, topic)?;
        let (stop, topic) = (Arc::new(AtomicBool::new(false)), topic.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut served = Served { writes: Vec::new(), latencies: Vec::new(), moves: 0 };
            while !stopped.load(Relaxed) {
                served.one(&mut client, &nodes, &topic)?;
                thread::sleep(HONEST_PAUSE);
            }
            served.latencies.sort();
            Ok(served)
        });
        Ok(Self { stop, thread })
    }

    /// Ends; an error if any request failed or any event came back as another.
    pub fn finish(self) -> Result<Served> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("it returns its errors")
    }
}

impl Served {
    fn one(&mut self, client: &mut Client, nodes: &[SocketAddr], topic: &str) -> Result<()> {
        let value = format!("honest {}", self.writes.len());
        let offset = self.timed(client, nodes, topic, |client| client.produce(topic, 0, value.as_bytes()))?;
        let (events, _) = self.timed(client, nodes, topic, |client| client.fetch(topic, 0, offset))?;
        ensure!(events.first().is_some_and(|event| event.value == value), "{events:?} instead of {value}");
        self.writes.push((value, Some(offset)));
        Ok(())
    }

    /// One request, as often as it takes to reach the node that leads.
    fn timed<T>(
        &mut self,
        client: &mut Client,
        nodes: &[SocketAddr],
        topic: &str,
        ask: impl Fn(&mut Client) -> Result<Result<T, i16>>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            match ask(client)? {
                Ok(answer) => {
                    self.latencies.push(began.elapsed());
                    return Ok(answer);
                }
                Err(NOT_LEADER) if began.elapsed() < HONEST_LIMIT => {
                    self.moves += 1;
                    *client = find_leader(nodes, topic)?;
                }
                Err(code) => bail!("error code {code}"),
            }
        }
    }
}

/// A connection to the node that leads, by the word of any of them; creates the topic.
fn find_leader(nodes: &[SocketAddr], topic: &str) -> Result<Client> {
    let began = Instant::now();
    while began.elapsed() < HONEST_LIMIT {
        for node in nodes {
            let Ok(mut client) = Client::connect(*node, HONEST_LIMIT) else { continue };
            let answer = client.metadata(&[topic])?;
            let leader = answer.topics.first().and_then(|topic| topic.partitions.first()?.leader_id.0.into());
            let leader = answer.brokers.iter().find(|broker| Some(broker.node_id.0) == leader);
            if let Some(leader) = leader {
                let address = format!("{}:{}", leader.host, leader.port).parse()?;
                return Client::connect(address, HONEST_LIMIT);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("no node leads")
}

/// Sends damaged inputs, each on a connection of its own: all of `count`, on two threads. `mend` may repair what would
/// be noticed too early.
pub fn attack(
    to: SocketAddr,
    seeds: &[Vec<u8>],
    count: usize,
    mend: fn(&[u8]) -> Vec<u8>,
) -> Result<Duration> {
    let began = Instant::now();
    let threads = [1, 2].map(|seed| {
        let mut mutator = Mutator::new(seeds.to_vec(), seed);
        thread::spawn(move || -> Result<()> {
            for turn in 0..count / 2 {
                let bytes = mutator.damaged();
                offend(to, &if turn % 2 == 0 { bytes } else { mend(&bytes) })?;
            }
            Ok(())
        })
    });
    for thread in threads {
        thread.join().expect("it returns its errors")?;
    }
    Ok(began.elapsed())
}

/// One connection: sends, and looks at what comes back. Only that nobody listens is an error.
fn offend(to: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, HONEST_LIMIT).context("the node does not listen")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CURIOSITY))?;
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read(&mut [0; 4096]);
    Ok(())
}

/// Connections, as many as asked for; those that the node has closed at once included.
pub fn crowd(to: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(TcpStream::connect_timeout(&to, HONEST_LIMIT)?)).collect()
}

/// Whether the node has closed the connection, as far as is known by now.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// A process's resident memory now and at its highest, in MiB.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib >> 10)
    };
    mib("VmRSS:").zip(mib("VmHWM:")).context("no figures of its memory")
}

/// The committed seeds of a fuzz target, but for those whose names begin with one of `without`.
pub fn seeds(target: &str, without: &[&str]) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        !without.iter().any(|prefix| name.starts_with(prefix))
    });
    files.sort();
    files.iter().map(|file| Ok(std::fs::read(file)?)).collect()
}

/// The most memory that a running node has taken so far, in MiB; `but` is not asked.
pub fn most_memory(cluster: &Cluster, but: NodeId) -> Result<u64> {
    let running = cluster.ids().into_iter().filter(|id| *id != but);
    let peaks = running.map(|id| memory(cluster.os_pid(id)).map(|(_, peak)| peak));
    Ok(peaks.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
}
