//! A producer that writes without a pause, as client libraries do: idempotent, to the leader that Metadata
//! names, each event sent again until it is acknowledged. An interruption of the service is a gap between two
//! acknowledgements.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, Event, numbered};
use crate::cluster::Cluster;

/// Limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts at one event after which the test fails.
const MAX_ATTEMPTS: u32 = 2000;

/// One acknowledged event.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it was acknowledged.
    pub at: Instant,
    /// How often it had to be sent again.
    pub retries: u32,
}

/// A running producer.
pub struct ContinuousWriter {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<Vec<Ack>>>,
}

impl ContinuousWriter {
    /// Starts to write to partition 0 of an existing topic.
    pub fn start(cluster: &Cluster, topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let nodes = cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect();
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        Self { stop, worker: std::thread::spawn(move || Producer::new(nodes, topic)?.run(&stopped)) }
    }

    /// Stops it. Returns what was acknowledged, in order.
    pub fn finish(self) -> Result<Vec<Ack>> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.join().ok().context("the producer panicked")?
    }
}

struct Producer {
    nodes: Vec<SocketAddr>,
    topic: String,
    id: i64,
    turn: usize,
    connected: Option<Client>,
}

/// Asks for a producer id, again while the leader changes, as client libraries do.
fn producer_id(node: SocketAddr) -> Result<i64> {
    let began = Instant::now();
    loop {
        match Client::connect(node, REQUEST_TIMEOUT)?.producer_id()? {
            Ok(id) => return Ok(id),
            Err(code) if began.elapsed() > REQUEST_TIMEOUT => bail!("no producer id: code {code}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

impl Producer {
    fn new(nodes: Vec<SocketAddr>, topic: String) -> Result<Self> {
        let first = *nodes.first().context("no nodes")?;
        let id = producer_id(first)?;
        Ok(Self { nodes, topic, id, turn: 0, connected: None })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Vec<Ack>> {
        let mut acks = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let sequence = i32::try_from(acks.len())?;
            let mut retries = 0;
            while !self.attempt(sequence) {
                retries += 1;
                ensure!(retries < MAX_ATTEMPTS, "event {sequence} is never acknowledged");
            }
            acks.push(Ack { at: Instant::now(), retries });
        }
        Ok(acks)
    }

    /// Sends one event to the leader. Returns whether it was acknowledged.
    fn attempt(&mut self, sequence: i32) -> bool {
        if self.connected.is_none() {
            self.connected = self.find_leader();
        }
        let Some(client) = self.connected.as_mut() else { return false };
        let sent = numbered(sequence.to_string().as_bytes(), self.id, sequence)
            .and_then(|batch| client.produce_batch(&self.topic, 0, batch));
        let acknowledged = matches!(sent, Ok(Ok(_)));
        if !acknowledged {
            // Whoever refuses names the leader; clients go there without asking anybody else.
            let named = client.named_leader();
            self.connected = named.and_then(|leader| Client::connect(leader, REQUEST_TIMEOUT).ok());
        }
        acknowledged
    }

    /// Asks one node after the other who leads; that is no retry of the event.
    fn find_leader(&mut self) -> Option<Client> {
        (0..MAX_ATTEMPTS).find_map(|_| {
            self.turn += 1;
            let node = self.nodes[self.turn % self.nodes.len()];
            let found = Client::to_leader(node, &self.topic, REQUEST_TIMEOUT);
            if found.is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
            found.ok()
        })
    }
}

/// Returns the longest gap between two acknowledgements that overlaps the time from `from` to `to`.
pub fn longest_gap(acks: &[Ack], from: Instant, to: Instant) -> Duration {
    let touching = acks.windows(2).filter(|two| two[1].at >= from && two[0].at <= to);
    touching.map(|two| two[1].at - two[0].at).max().unwrap_or_default()
}

/// Checks that the log holds each acknowledged event once, in order, and nothing else.
pub fn check_each_once(acks: &[Ack], log: &[Event]) -> Result<()> {
    ensure!(log.len() == acks.len(), "{} acknowledged, {} in the log", acks.len(), log.len());
    for (number, event) in log.iter().enumerate() {
        ensure!(event.value == number.to_string().as_bytes(), "event {number} is {:?}", event.value);
    }
    Ok(())
}
