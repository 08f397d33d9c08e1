//! The transport as the node sees it.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use raft::eraftpb::Message;
use shared::ids::{NodeId, StoreId};

use super::outbox::Outbox;
use super::{Hello, PeerEvent, connection, listener};

/// How many `rpc_timeout`s of silence end a connection.
const SILENCE: u32 = 10;

/// How to start.
pub struct TransportConfig {
    /// Where peers connect.
    pub listener: TcpListener,
    /// What this node says of itself.
    pub hello: Hello,
    /// The other nodes: id, host, port.
    pub peers: Vec<(NodeId, String, u16)>,
    /// A connection with nothing to send says so this often.
    pub rpc_timeout: Duration,
}

/// One peer, as the transport knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Both directions are up.
    pub connected: bool,
    /// Milliseconds since it was last heard.
    pub last_contact_ms: Option<u64>,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Messages to it that were dropped.
    pub dropped: u64,
    /// Times that our connection to it came up.
    pub connects: u64,
}

/// Carries messages to the other nodes and from them.
pub struct Transport {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What all threads of the transport use.
pub(super) struct Shared {
    pub(super) events: Box<dyn Fn(PeerEvent) + Send + Sync>,
    pub(super) known: Vec<NodeId>,
    pub(super) rpc_timeout: Duration,
    pub(super) strangers: AtomicUsize,
    hello: RwLock<Hello>,
    /// The data directories that the cluster knows its members by.
    bindings: RwLock<BTreeMap<NodeId, StoreId>>,
    outboxes: BTreeMap<NodeId, Arc<Outbox>>,
    started: Instant,
    stop: AtomicBool,
}

impl Transport {
    /// Starts a thread per peer and one that accepts. `events` is called on these threads and must not block.
    pub fn start(
        config: TransportConfig,
        events: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let TransportConfig { listener, hello, peers, rpc_timeout } = config;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            events: Box::new(events),
            known: peers.iter().map(|(id, ..)| *id).collect(),
            rpc_timeout,
            strangers: AtomicUsize::new(0),
            hello: RwLock::new(hello),
            bindings: RwLock::default(),
            outboxes: peers.iter().map(|(id, ..)| (*id, Arc::default())).collect(),
            started: Instant::now(),
            stop: AtomicBool::new(false),
        });
        let acceptor = Arc::clone(&shared);
        thread::Builder::new()
            .name("peer-acceptor".into())
            .spawn(move || listener::run(&acceptor, &listener))?;
        for (peer, host, port) in peers {
            let sender = Arc::clone(&shared);
            let name = format!("peer-{peer}");
            thread::Builder::new().name(name).spawn(move || connection::run(&sender, peer, &host, port))?;
        }
        Ok(Self { shared, address })
    }

    /// Queues messages for a peer and returns at once; false when they were dropped.
    pub fn send(&self, to: NodeId, messages: Vec<Message>) -> bool {
        self.shared.outboxes.get(&to).is_some_and(|outbox| outbox.push(messages))
    }

    /// Says something else of this node from now on, to everyone.
    pub fn set_hello(&self, hello: Hello) {
        *self.shared.hello.write() = hello;
        self.announce();
    }

    /// The data directories that the cluster knows its members by: each peer is told its own.
    pub fn set_bindings(&self, bindings: BTreeMap<NodeId, StoreId>) {
        *self.shared.bindings.write() = bindings;
        self.announce();
    }

    fn announce(&self) {
        self.shared.outboxes.values().for_each(|outbox| outbox.announce());
    }

    /// What is known of the peers.
    pub fn peer_stats(&self) -> BTreeMap<NodeId, PeerStats> {
        let now = self.shared.now_ms();
        let stats = |outbox: &Outbox| {
            let heard = outbox.heard.load(Relaxed);
            PeerStats {
                connected: outbox.dialled.load(Relaxed) && outbox.accepted.load(Relaxed) > 0,
                last_contact_ms: (heard > 0).then(|| now.saturating_sub(heard - 1)),
                sent_bytes: outbox.sent_bytes.load(Relaxed),
                received_bytes: outbox.received_bytes.load(Relaxed),
                dropped: outbox.dropped.load(Relaxed),
                connects: outbox.connects.load(Relaxed),
            }
        };
        self.shared.outboxes.iter().map(|(id, outbox)| (*id, stats(outbox))).collect()
    }

    /// Ends all threads, soon.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.outboxes.values().for_each(|outbox| outbox.stop());
        // Wakes the acceptor, which waits for a connection.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(100));
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    pub(super) fn outbox(&self, peer: NodeId) -> Option<Arc<Outbox>> {
        self.outboxes.get(&peer).cloned()
    }

    /// What this node says to one peer.
    pub(super) fn hello_for(&self, peer: NodeId) -> Hello {
        Hello { your_store: self.bindings.read().get(&peer).copied(), ..*self.hello.read() }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a connection may be silent.
    pub(super) fn silence(&self) -> Duration {
        self.rpc_timeout * SILENCE
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}
