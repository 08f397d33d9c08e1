//! A client that writes an event every few milliseconds and looks for the leader whenever one refuses it, as
//! Kafka's clients do. The time between two acknowledgements is what an operation costs its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;

/// Pause between two events.
const PAUSE: Duration = Duration::from_millis(5);
/// Limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// A running probe.
pub struct ProbeClient {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Vec<Instant>>,
}

impl ProbeClient {
    /// Starts to write to partition 0 of `topic`; any of `nodes` may be asked who leads.
    pub fn start(nodes: Vec<SocketAddr>, topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let worker = std::thread::spawn(move || {
            let (mut client, mut acknowledged) = (None, Vec::new());
            while !stopped.load(Relaxed) {
                client = client.or_else(|| {
                    nodes.iter().find_map(|node| Client::to_leader(*node, &topic, REQUEST_TIMEOUT).ok())
                });
                let written = client.as_mut().map(|client| client.produce(&topic, 0, b"probe"));
                if matches!(written, Some(Ok(Ok(_)))) {
                    acknowledged.push(Instant::now());
                    std::thread::sleep(PAUSE);
                } else {
                    client = None;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            acknowledged
        });
        Self { stop, worker }
    }

    /// Stops it. Returns the times between two acknowledgements, longest first.
    pub fn finish(self) -> Vec<Duration> {
        self.stop.store(true, Relaxed);
        let acknowledged = self.worker.join().expect("a client never panics");
        let mut gaps: Vec<_> = acknowledged.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        gaps
    }
}
