//! The transport as the node sees it: start, send, announce, ask, stop.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::version::Range;
use socket2::SockRef;

use super::claims::Token;
use super::files::Source;
use super::handshake::{Expected, Greeting, RefusalCode, Refused, removed};
use super::known::Known;
use super::link::Link;
use super::strangers::Strangers;
use super::{Formats, Hello, PeerEvent, PeerStats, accept, dial};
use crate::consensus::Message;
use crate::net::listen::listen;
use crate::process::rate_limited_log::RateLimitedLog;
use crate::process::version::PROTOCOL;

/// Bytes of messages that may wait for one peer.
const QUEUE_BYTES: usize = 64 << 20;
/// A connection that brought nothing for this many `rpc_timeout` is dead.
const SILENT_TIMEOUTS: u32 = 10;
/// Signs of life that must be missing in a row for that.
const SIGNS_OF_LIFE: u32 = 4;
/// Attempts to connect wait this many `rpc_timeout` at most.
const CONNECT_TIMEOUTS: u32 = 5;

/// A peer's id, host and port.
pub type PeerAddress = (NodeId, String, u16);

/// How a transport is set up.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This node.
    pub node_id: NodeId,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// Host and port at which the others reach this node.
    pub at: (String, u16),
    /// The nodes of the configuration: the members until the log says more, and dialled for as long as they may be some.
    pub peers: Vec<PeerAddress>,
    /// What this node says of itself at first.
    pub hello: Hello,
    /// A connection that brought nothing for ten times as long is dead, and an attempt to connect has five times.
    pub rpc_timeout: Duration,
    /// Largest body of a frame, in bytes; a message above it is dropped.
    pub max_frame: usize,
}

/// The running transport. Dropping it stops it.
pub struct Transport {
    shared: Arc<Shared>,
    local: SocketAddr,
    acceptor: Mutex<Option<(Arc<TcpListener>, JoinHandle<()>)>>,
}

/// What the transport's threads share.
pub(super) struct Shared {
    pub node_id: NodeId,
    pub protocol: Range,
    pub rpc_timeout: Duration,
    pub max_frame: usize,
    /// Counts what was announced: a connection that has sent an older one sends it again.
    pub revision: AtomicU64,
    pub stopping: AtomicBool,
    pub next_connection: AtomicU64,
    /// Accepted connections that are not proven to be a member's.
    pub strangers: Strangers,
    /// Whom we refused last and why: the same is not logged at every retry.
    pub refusals: Mutex<HashMap<NodeId, RefusalCode>>,
    /// Refusals of nodes that are no peers, and of those that say they are: anybody can make up as many as they like.
    pub strangers_refused: RateLimitedLog,
    pub peers_refused: RateLimitedLog,
    /// Answers those who ask for files, once it is there.
    pub files: OnceLock<Source>,
    queue_bytes: usize,
    incarnation: u64,
    at: (String, u16),
    announced: RwLock<Announced>,
    known: Mutex<Known>,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    events: Box<dyn Fn(PeerEvent) + Send + Sync>,
}

struct Announced {
    hello: Hello,
    bindings: HashMap<NodeId, StoreId>,
    spent: HashMap<StoreId, NodeId>,
}

impl Transport {
    /// Listens, and begins to dial every peer. `events` is called on the transport's threads, and must not block.
    ///
    /// # Errors
    /// The peer port cannot be opened, or a thread cannot be started.
    pub fn start(
        config: TransportConfig,
        events: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_with(config, events, PROTOCOL, QUEUE_BYTES)
    }

    pub(super) fn start_with(
        config: TransportConfig,
        events: impl Fn(PeerEvent) + Send + Sync + 'static,
        protocol: Range,
        queue_bytes: usize,
    ) -> io::Result<Self> {
        let listener = Arc::new(listen(config.listen)?);
        let local = listener.local_addr()?;
        let shared = Arc::new(Shared {
            node_id: config.node_id,
            protocol,
            rpc_timeout: config.rpc_timeout,
            max_frame: config.max_frame,
            revision: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            next_connection: AtomicU64::new(0),
            strangers: Strangers::default(),
            refusals: Mutex::default(),
            strangers_refused: RateLimitedLog::default(),
            peers_refused: RateLimitedLog::default(),
            files: OnceLock::new(),
            queue_bytes,
            incarnation: fastrand::u64(1..),
            at: config.at,
            announced: RwLock::new(Announced {
                hello: config.hello,
                bindings: HashMap::new(),
                spent: HashMap::new(),
            }),
            known: Mutex::new(Known::new(config.node_id, config.peers)),
            links: RwLock::default(),
            events: Box::new(events),
        });
        let acceptor = {
            let (shared, listener) = (shared.clone(), listener.clone());
            thread::Builder::new()
                .name("peer-accept".into())
                .spawn(move || accept::run(&shared, &listener))?
        };
        let transport = Self { shared, local, acceptor: Mutex::new(Some((listener, acceptor))) };
        transport.shared.follow_known()?;
        Ok(transport)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The address listened on; its port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends or queues `messages` for `to`, all or none, without waiting. `false`: they were dropped, because the peer is
    /// unknown or not connected, or reads too slowly. Called from one thread at a time, or their order is anyone's guess.
    pub fn send(&self, to: NodeId, messages: Vec<Message>) -> bool {
        let links = self.shared.links.read();
        let Some(link) = links.get(&to) else { return false };
        let count = messages.len() as u64;
        let accepted = link.send_now(&messages) || link.queue.offer(messages);
        if !accepted {
            link.messages_dropped.fetch_add(count, Relaxed);
        }
        accepted
    }

    /// Replaces what this node says of itself and tells every peer at once.
    pub fn set_hello(&self, hello: Hello) {
        self.shared.announce(|announced| announced.hello = hello);
    }

    /// This node belongs to a cluster now: tells every peer.
    pub fn set_cluster(&self, cluster: ClusterId) {
        self.shared.announce(|announced| announced.hello.cluster = Some(cluster));
    }

    /// The data directory says that it is written in this on-disk format: tells every peer.
    pub fn set_active_format(&self, format: u16) {
        self.shared.announce(|announced| announced.hello.formats.active = format);
    }

    /// What this node says of its on-disk formats.
    pub fn formats(&self) -> Formats {
        self.shared.hello().formats
    }

    /// The voters that the cluster was bootstrapped with, as far as this node knows.
    pub fn initial_voters(&self) -> Vec<NodeId> {
        self.shared.hello().initial_voters.into_iter().filter(|id| *id != 0).collect()
    }

    /// Replaces which data directory each peer is bound to: what fills [`Hello::your_store`] for it. Tells them. Whoever
    /// comes with one that is `spent` is refused from now on, and whose it was is no peer because the configuration says so.
    pub fn set_bindings(&self, bindings: HashMap<NodeId, StoreId>, spent: HashMap<StoreId, NodeId>) {
        self.shared.known.lock().set_gone(spent.values().copied().collect());
        self.shared.announce(|announced| {
            announced.bindings = bindings;
            announced.spent = spent;
        });
    }

    /// Replaces the members, this node among them. Those that are new, stand in the configuration, or are named by one of
    /// these two, are dialled; others are let go; those with the same address stay.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn set_peers(&self, members: Vec<PeerAddress>) -> io::Result<()> {
        let news = self.shared.known.lock().set_members(members);
        self.shared.follow_known()?;
        if news {
            self.shared.announce(|_| {});
        }
        Ok(())
    }

    /// Peers with both directions up.
    pub fn connected(&self) -> Vec<NodeId> {
        let links = self.shared.links.read();
        links.values().filter(|link| link.connected()).map(|link| link.id).collect()
    }

    /// The figures of every peer.
    pub fn peer_stats(&self) -> Vec<PeerStats> {
        self.shared.links.read().values().map(|link| link.stats()).collect()
    }

    /// Closes the port and every connection. Afterwards no event begins; one that had begun may still end.
    pub fn stop(&self) {
        if self.shared.stopping.swap(true, SeqCst) {
            return;
        }
        self.shared.links.read().values().for_each(|link| link.close());
        self.shared.strangers.close();
        if let Some((listener, acceptor)) = self.acceptor.lock().take() {
            // Wakes the thread in accept(); closing the descriptor would not.
            let _ = SockRef::from(&*listener).shutdown(Shutdown::Both);
            let _ = acceptor.join();
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Tells the node, unless the transport has been stopped.
    pub fn emit(&self, event: PeerEvent) {
        if !self.stopping.load(SeqCst) {
            (self.events)(event);
        }
    }

    /// Whether everything is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// What to say to `to`, and which revision of it that is.
    pub fn greeting(&self, to: NodeId) -> Greeting {
        self.greeting_with(to, 0)
    }

    /// The same, on a connection of ours that is known by `token`.
    pub fn greeting_with(&self, to: NodeId, token: Token) -> Greeting {
        let names = self.known.lock().members().to_vec();
        let announced = self.announced.read();
        let your_store = announced.bindings.get(&to).copied().or(announced.hello.your_store);
        Greeting {
            protocol: self.protocol,
            to,
            incarnation: self.incarnation,
            revision: self.revision.load(SeqCst),
            hello: Hello { your_store, ..announced.hello },
            at: self.at.clone(),
            token: Some(token),
            names,
        }
    }

    /// What this node says of itself to nobody in particular.
    pub fn hello(&self) -> Hello {
        self.announced.read().hello
    }

    /// The peer with this id.
    pub fn link(&self, id: NodeId) -> Option<Arc<Link>> {
        self.links.read().get(&id).cloned()
    }

    /// The data directory that the cluster knows the peer by, if it does.
    pub fn binding(&self, id: NodeId) -> Option<StoreId> {
        self.announced.read().bindings.get(&id).copied()
    }

    /// The refusal of a node that comes with a removed member's data directory.
    pub fn refusal_of(&self, hello: &Hello) -> Option<Refused> {
        self.announced.read().spent.contains_key(&hello.store).then(|| removed(hello.node))
    }

    /// Who that is that says it is node `id`.
    pub fn expected(&self, id: NodeId) -> Expected {
        if id != self.node_id && self.known.lock().is_member(id) {
            Expected::Member
        } else if self.link(id).is_some() {
            Expected::Named
        } else {
            Expected::Stranger
        }
    }

    /// Whether a peer was last reached at this address.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.links.read().values().any(|link| link.is_at(address))
    }

    /// The peer has said that this connection to us is its own: it takes the place of the one before.
    pub fn admit(&self, link: &Link, connection: u64, stream: Arc<TcpStream>) {
        if self.strangers.leave(connection) {
            link.set_inbound(connection, stream);
        }
    }

    /// Node `by`, which we have dialled, says who the members are.
    pub fn named(self: &Arc<Self>, by: NodeId, members: Vec<PeerAddress>) -> io::Result<()> {
        if self.known.lock().name(by, members) { self.follow_known() } else { Ok(()) }
    }

    /// Dials whoever is known, and lets go of whoever is no longer.
    fn follow_known(self: &Arc<Self>) -> io::Result<()> {
        let mut links = self.links.write();
        // Within the lock: what was known last is followed last.
        let places = self.known.lock().places();
        let mut gone = std::mem::take(&mut *links);
        for (id, (host, port)) in places.into_iter().filter(|_| !self.is_stopping()) {
            let kept = gone.remove(&id).filter(|link| {
                let same = link.host == host && link.port == port;
                if !same {
                    link.close();
                }
                same
            });
            let link = match kept {
                Some(link) => link,
                None => self.start_link(id, host, port)?,
            };
            links.insert(id, link);
        }
        drop(links);
        gone.values().for_each(|link| link.close());
        Ok(())
    }

    /// After this long without a byte a connection is dead.
    pub fn silence(&self) -> Duration {
        self.rpc_timeout * SILENT_TIMEOUTS
    }

    /// A sign of life is sent when nothing else was for this long.
    pub fn keepalive(&self) -> Duration {
        self.silence() / SIGNS_OF_LIFE
    }

    /// How long an attempt to connect may take.
    pub fn connect_timeout(&self) -> Duration {
        self.rpc_timeout * CONNECT_TIMEOUTS
    }

    fn announce(&self, change: impl FnOnce(&mut Announced)) {
        let mut announced = self.announced.write();
        change(&mut announced);
        // Within the lock: a greeting's revision and content belong together.
        self.revision.fetch_add(1, SeqCst);
        drop(announced);
        self.links.read().values().for_each(|link| link.queue.announce());
    }

    fn start_link(self: &Arc<Self>, id: NodeId, host: String, port: u16) -> io::Result<Arc<Link>> {
        let link = Arc::new(Link::new(id, host, port, self.queue_bytes));
        let (shared, of_thread) = (self.clone(), link.clone());
        thread::Builder::new()
            .name(format!("peer-{id}-send"))
            .spawn(move || dial::run(&shared, &of_thread))?;
        Ok(link)
    }
}
