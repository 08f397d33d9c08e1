//! A client that writes an event every few milliseconds and looks for the leader whenever it is sent away, as every
//! client does: how long it was without an acknowledgement is what an operation costs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::client::Client;

/// Between two events.
const BEAT: Duration = Duration::from_millis(5);
/// An answer that takes longer is given up.
const LIMIT: Duration = Duration::from_millis(500);

/// The client, at work.
pub struct Pulse {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Vec<Instant>>,
}

impl Pulse {
    /// Begins to write to partition 0 of `topic`, which any of `nodes` knows.
    pub fn start(nodes: Vec<SocketAddr>, topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, topic) = (Arc::clone(&stop), topic.to_owned());
        let worker = std::thread::spawn(move || {
            let (mut client, mut acknowledged) = (None, Vec::new());
            while !theirs.load(Relaxed) {
                client = client.or_else(|| nodes.iter().find_map(|node| leader(*node, &topic).ok()));
                let written = client.as_mut().map(|client| client.produce(&topic, 0, b"beat"));
                if matches!(written, Some(Ok(Ok(_)))) {
                    acknowledged.push(Instant::now());
                    std::thread::sleep(BEAT);
                } else {
                    client = None;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            acknowledged
        });
        Self { stop, worker }
    }

    /// Ends it; the times between two acknowledgements, the longest first.
    pub fn finish(self) -> Vec<Duration> {
        self.stop.store(true, Relaxed);
        let acknowledged = self.worker.join().expect("a client never panics");
        let mut gaps: Vec<_> = acknowledged.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        gaps
    }
}

/// A connection to whoever leads, by the account of `node`.
fn leader(node: SocketAddr, topic: &str) -> Result<Client> {
    let mut client = Client::connect(node, LIMIT)?;
    let metadata = client.metadata(&[topic])?;
    let of_topic = metadata.topics.first().context("the topic")?;
    let leader = of_topic.partitions.first().context("its partition")?.leader_id;
    let broker = metadata.brokers.iter().find(|broker| broker.node_id == leader).context("its leader")?;
    let address = format!("{}:{}", broker.host.as_str(), broker.port).parse()?;
    if address == node { Ok(client) } else { Client::connect(address, LIMIT) }
}
