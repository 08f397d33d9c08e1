//! What producers were told against what the log holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use esnode::storage;
use shared::ids::NodeId;

use crate::client::{Client, Event};
use crate::cluster::Cluster;

/// Producers that run at once.
const PRODUCERS: u64 = 4;

/// A value that was tried, with the offset it was acknowledged at, if it was.
pub type Write = (String, Option<i64>);

/// Every write that was tried, with the offset it was acknowledged at, if it was.
#[derive(Default)]
pub struct Ledger {
    tried: BTreeMap<String, Option<i64>>,
}

impl Ledger {
    /// Adds what a load brought.
    pub fn extend(&mut self, writes: Vec<Write>) {
        self.tried.extend(writes);
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.tried.values().flatten().count()
    }

    /// Everything acknowledged stands at its offset, nothing stands there that was never written, and offsets have
    /// no gaps.
    pub fn check(&self, log: &[Event]) -> Result<()> {
        let mut at = BTreeMap::new();
        for (event, expected) in log.iter().zip(0..) {
            ensure!(event.offset == expected, "offset {} where {expected} was due", event.offset);
            let value = String::from_utf8_lossy(&event.value).into_owned();
            ensure!(self.tried.contains_key(&value), "{value:?} at {} was never written", event.offset);
            at.insert(event.offset, value);
        }
        for (value, offset) in &self.tried {
            let Some(offset) = offset else { continue };
            match at.get(offset) {
                Some(found) if found == value => {}
                Some(found) => bail!("{value:?} was acknowledged at {offset}, where {found:?} stands"),
                None => {
                    bail!("{value:?} was acknowledged at {offset} and is lost: the log ends at {}", log.len())
                }
            }
        }
        Ok(())
    }
}

/// Producers at work until they are told to finish.
pub struct Load {
    stop: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Vec<Write>>>,
}

impl Load {
    /// Starts producers that write values unique to `round`, each to whichever node takes them.
    pub fn start(cluster: &Cluster, topic: &str, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let nodes: Vec<_> = cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect();
        let producers = (0..PRODUCERS)
            .map(|producer| {
                let (stop, nodes, topic) = (Arc::clone(&stop), nodes.clone(), topic.to_owned());
                std::thread::spawn(move || run(&stop, &nodes, &topic, &format!("{round}-{producer}")))
            })
            .collect();
        Self { stop, producers }
    }

    /// Stops the producers; what each tried and was told.
    pub fn finish(self) -> Vec<Write> {
        self.stop.store(true, Ordering::Relaxed);
        self.producers.into_iter().flat_map(|producer| producer.join().unwrap_or_default()).collect()
    }
}

fn run(stop: &AtomicBool, nodes: &[SocketAddr], topic: &str, name: &str) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut client = None;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(connected) = client.as_mut() else {
            turn += 1;
            client = Client::connect(nodes[turn % nodes.len()], Duration::from_millis(500)).ok();
            if client.is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            continue;
        };
        let value = format!("{name}-{}", writes.len());
        let outcome = connected.produce(topic, 0, value.as_bytes());
        if !matches!(outcome, Ok(Ok(_))) {
            client = None;
        }
        writes.push((value, outcome.ok().and_then(Result::ok)));
    }
    writes
}

/// The entries of all stopped nodes are alike, byte for byte, as far as all have them: at least up to `floor`.
pub fn same_logs(cluster: &Cluster, floor: u64) -> Result<()> {
    same_logs_in(cluster.ids().into_iter().map(|id| (id, cluster.data_dir(id))), floor)
}

/// The same for nodes that were stopped elsewhere, by their data directories.
pub fn same_logs_in(dirs: impl Iterator<Item = (NodeId, PathBuf)>, floor: u64) -> Result<()> {
    let mut logs = Vec::new();
    for (id, dir) in dirs {
        let (log, ..) = storage::open(&dir, storage::Options::default())?;
        logs.push((id, log));
    }
    let common = logs.iter().map(|(_, log)| log.last_index()).min().unwrap_or(0);
    ensure!(common >= floor, "a node ends at {common}, before {floor}");
    let mut low = 1;
    while low <= floor {
        let mut chunks = Vec::new();
        for (id, log) in &logs {
            chunks.push((*id, log.entries(low, floor + 1, 1 << 20)?));
        }
        let (first, reference) = &chunks[0];
        for (id, entries) in &chunks[1..] {
            ensure!(entries == reference, "nodes {first} and {id} differ from index {low} on");
        }
        low += reference.len() as u64;
    }
    Ok(())
}
