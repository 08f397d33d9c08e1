//! Clients that mean harm, and an honest one that measures how it is served meanwhile.

pub mod strangers;

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
use crate::load::history::Write as Written;
use crate::mutate::Mutator;

/// Limit of one honest request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two honest requests.
const PAUSE: Duration = Duration::from_millis(2);
/// How long an attacker waits for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(50);

/// Kafka's NOT_LEADER_OR_FOLLOWER, on which a client looks for the leader.
const NOT_LEADER: i16 = 6;

/// A client that produces one event after the other, and reads each back.
pub struct HonestClient {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Served>>,
}

/// How it was served.
pub struct Served {
    /// All events, each acknowledged.
    pub writes: Vec<Written>,
    /// How long each request took, shortest first, including the search for a new leader.
    pub latencies: Vec<Duration>,
    /// How often the client had to look for another leader.
    pub moves: usize,
}

impl Served {
    /// Returns the time within which this percentage of the requests was answered.
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

impl HonestClient {
    /// Starts with a topic that does not exist yet; any of `nodes` may be asked who leads.
    pub fn start(nodes: Vec<SocketAddr>, topic: &str) -> Result<Self> {
        let mut client = find_leader(&nodes, topic)?;
        let (stop, topic) = (Arc::new(AtomicBool::new(false)), topic.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut served = Served { writes: Vec::new(), latencies: Vec::new(), moves: 0 };
            while !stopped.load(Relaxed) {
                served.one(&mut client, &nodes, &topic)?;
                thread::sleep(PAUSE);
            }
            served.latencies.sort();
            Ok(served)
        });
        Ok(Self { stop, thread })
    }

    /// Stops it.
    ///
    /// # Errors
    /// When a request failed, or an event came back as another one.
    pub fn finish(self) -> Result<Served> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the thread returns its errors")
    }
}

impl Served {
    fn one(&mut self, client: &mut Client, nodes: &[SocketAddr], topic: &str) -> Result<()> {
        let (producer, number) = ("honest".to_owned(), self.writes.len() as u64);
        let mut write =
            Written { producer, number, idempotent: false, sent: Instant::now(), acknowledged: None };
        let value = write.value();
        let offset = self.timed(client, nodes, topic, |client| client.produce(topic, 0, value.as_bytes()))?;
        write.acknowledged = Some((Instant::now(), offset));
        let (events, _) = self.timed(client, nodes, topic, |client| client.fetch(topic, 0, offset))?;
        ensure!(events.first().is_some_and(|event| event.value == value), "{events:?} instead of {value}");
        self.writes.push(write);
        Ok(())
    }

    /// Sends one request, again whenever another node leads, and records how long it took.
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
                Err(NOT_LEADER) if began.elapsed() < REQUEST_TIMEOUT => {
                    self.moves += 1;
                    *client = find_leader(nodes, topic)?;
                }
                Err(code) => bail!("error code {code}"),
            }
        }
    }
}

/// Connects to the leader, creating the topic if it is missing.
fn find_leader(nodes: &[SocketAddr], topic: &str) -> Result<Client> {
    let began = Instant::now();
    while began.elapsed() < REQUEST_TIMEOUT {
        let leader = nodes.iter().find_map(|node| Client::to_leader(*node, topic, REQUEST_TIMEOUT).ok());
        if let Some(leader) = leader {
            return Ok(leader);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("no node leads")
}

/// Sends `count` damaged inputs, each on a connection of its own, on two threads. `mend` may repair what
/// would be noticed too early, such as checksums. Returns how long it took.
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
                send_damaged(to, &if turn % 2 == 0 { bytes } else { mend(&bytes) })?;
            }
            Ok(())
        })
    });
    for thread in threads {
        thread.join().expect("the thread returns its errors")?;
    }
    Ok(began.elapsed())
}

/// Sends `bytes` on a connection of its own and waits for a response. Only that nobody listens is an error.
fn send_damaged(to: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, REQUEST_TIMEOUT).context("the node does not listen")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read(&mut [0; 4096]);
    Ok(())
}

/// Opens `count` connections, including those that the node closes at once.
pub fn many_clients(to: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(TcpStream::connect_timeout(&to, REQUEST_TIMEOUT)?)).collect()
}

/// Returns whether the node is known to have closed the connection.
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

/// Returns a process's resident memory now and at its highest, in MiB.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib >> 10)
    };
    mib("VmRSS:").zip(mib("VmHWM:")).context("no memory figures")
}

/// Returns the committed seeds of a fuzz target, without those whose names begin with one of `without`.
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

/// Returns the most memory that a running node has taken so far, in MiB, without asking node `but`.
pub fn most_memory(cluster: &Cluster, but: NodeId) -> Result<u64> {
    let running = cluster.ids().into_iter().filter(|id| *id != but);
    let peaks = running.map(|id| memory(cluster.os_pid(id)).map(|(_, peak)| peak));
    Ok(peaks.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
}
