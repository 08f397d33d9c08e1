//! What the threads of the transport share: this node's Hello, the known nodes, and the links to peers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use shared::ids::{NodeId, StoreId};
use shared::version::Range;
use tracing::info;

use super::claims::Token;
use super::config::{PeerAddress, TransportConfig};
use super::greeting::Greeting;
use super::handshake::{Expected, removed};
use super::known::Known;
use super::link::Link;
use super::refused::{RefusalCode, Refused};
use super::strangers::Strangers;
use super::{Hello, PeerEvent};
use crate::process::rate_limited_log::RateLimitedLog;
use crate::storage::Outgoing;

/// A connection is dead after this many `rpc_timeout` without a byte.
const SILENT_TIMEOUTS: u32 = 10;
/// Number of signs of life that are sent in that time.
const SIGNS_OF_LIFE: u32 = 4;
/// An attempt to connect may take this many `rpc_timeout`.
const CONNECT_TIMEOUTS: u32 = 5;

/// Returns what there is for a node whose log ends at the given entry.
pub type Source = Box<dyn Fn(u64) -> io::Result<Option<Outgoing>> + Send + Sync>;

/// What the transport's threads share.
pub struct Shared {
    pub node_id: NodeId,
    pub protocol: Range,
    pub rpc_timeout: Duration,
    pub max_frame: usize,
    /// Counts the changes of our Hello. A connection that has sent an older one sends it again.
    pub revision: AtomicU64,
    pub stopping: AtomicBool,
    pub next_connection: AtomicU64,
    /// Accepted connections that are not confirmed to be a member's.
    pub strangers: Strangers,
    /// The nodes that were refused last, and why, so that the same is not logged at every retry.
    pub refusals: Mutex<HashMap<NodeId, RefusalCode>>,
    /// Logs refusals of nodes that are no peers, or only claim to be. Anybody can cause any number of them.
    pub strangers_refused: RateLimitedLog,
    pub peers_refused: RateLimitedLog,
    /// Returns the files for nodes that ask; set when it is ready.
    pub files: OnceLock<Source>,
    queue_bytes: usize,
    /// What the thread of a link does until the link is closed; a function of a module above this one.
    dial: fn(&Arc<Self>, &Link),
    incarnation: u64,
    at: (String, u16),
    announced: RwLock<Announced>,
    known: Mutex<Known>,
    pub links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    events: Box<dyn Fn(PeerEvent) + Send + Sync>,
}

struct Announced {
    hello: Hello,
    bindings: HashMap<NodeId, StoreId>,
    spent: HashMap<StoreId, NodeId>,
}

impl Shared {
    /// Returns a transport that does not listen or connect yet. `dial` is what the thread of a link does.
    pub fn new(
        config: TransportConfig,
        protocol: Range,
        queue_bytes: usize,
        dial: fn(&Arc<Self>, &Link),
        events: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> Self {
        Self {
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
            dial,
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
        }
    }

    /// Changes this node's Hello, and announces it to every peer.
    pub fn change_hello(&self, change: impl FnOnce(&mut Hello)) {
        self.announce(|announced| change(&mut announced.hello));
    }

    /// Replaces the data directories that peers are bound to, and the retired ones with their former members.
    pub fn set_bindings(&self, bindings: HashMap<NodeId, StoreId>, spent: HashMap<StoreId, NodeId>) {
        self.known.lock().set_gone(spent.values().copied().collect());
        self.announce(|announced| {
            announced.bindings = bindings;
            announced.spent = spent;
        });
    }

    /// Replaces the members. Opens connections to new ones, and closes those to others.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn set_members(self: &Arc<Self>, members: Vec<PeerAddress>) -> io::Result<()> {
        let news = self.known.lock().set_members(members);
        self.follow_known()?;
        if news {
            self.announce(|_| {});
        }
        Ok(())
    }

    /// Sends an event to the node, unless the transport was stopped.
    pub fn emit(&self, event: PeerEvent) {
        if !self.stopping.load(SeqCst) {
            (self.events)(event);
        }
    }

    /// The peer listens to us, so messages may be sent to it.
    pub fn opened(&self, link: &Link) {
        link.queue.open();
        link.outbound_up.store(true, Relaxed);
        link.connects.fetch_add(1, Relaxed);
        *link.complaint.lock() = None;
        info!(peer = link.id, host = %link.host, port = link.port, "connected");
        self.emit(PeerEvent::Connected(link.id));
    }

    /// There is no connection to the peer, and no thread that would open one.
    pub fn closed(&self, link: &Link) {
        link.set_outbound(None);
        link.messages_dropped.fetch_add(link.queue.shut(), Relaxed);
        if link.outbound_up.swap(false, Relaxed) {
            self.emit(PeerEvent::Disconnected(link.id));
        }
    }

    /// Returns whether the transport is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Returns the greeting for `to`, with the revision of our Hello in it.
    pub fn greeting(&self, to: NodeId) -> Greeting {
        self.greeting_with(to, 0)
    }

    /// As [`Self::greeting`], for a connection of ours with this token.
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

    /// Returns the data directory that the cluster has for the peer, if it has one.
    pub fn binding(&self, id: NodeId) -> Option<StoreId> {
        self.announced.read().bindings.get(&id).copied()
    }

    /// Returns the refusal of a node that has a removed member's data directory; `None` for any other.
    pub fn refusal_of(&self, hello: &Hello) -> Option<Refused> {
        let announced = self.announced.read();
        let spent = announced.spent.contains_key(&hello.store);
        spent.then(|| removed(hello.node, announced.hello.cluster, hello.cluster))
    }

    /// Returns how far this node knows the one that claims to be node `id`.
    pub fn expected(&self, id: NodeId) -> Expected {
        if id != self.node_id && self.known.lock().is_member(id) {
            Expected::Member
        } else if self.link(id).is_some() {
            Expected::Named
        } else {
            Expected::Stranger
        }
    }

    /// Returns whether a peer was last reached at this address.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.links.read().values().any(|link| link.is_at(address))
    }

    /// The peer has confirmed that this connection is its own: it replaces the previous one.
    pub fn admit(&self, link: &Link, connection: u64, stream: Arc<TcpStream>) {
        if self.strangers.leave(connection) {
            link.set_inbound(connection, stream);
        }
    }

    /// Node `by`, which this node has connected to, has named the members.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn named(self: &Arc<Self>, by: NodeId, members: Vec<PeerAddress>) -> io::Result<()> {
        if self.known.lock().name(by, members) { self.follow_known() } else { Ok(()) }
    }

    /// Opens connections to all known nodes, and closes those to others.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn follow_known(self: &Arc<Self>) -> io::Result<()> {
        let mut links = self.links.write();
        // Inside the lock, so that the latest known nodes win.
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

    /// Returns the time without a byte after which a connection is dead.
    pub fn silence(&self) -> Duration {
        self.rpc_timeout * SILENT_TIMEOUTS
    }

    /// Returns the time after which a sign of life is sent if nothing else was.
    pub fn keepalive(&self) -> Duration {
        self.silence() / SIGNS_OF_LIFE
    }

    /// Returns how long an attempt to connect may take.
    pub fn connect_timeout(&self) -> Duration {
        self.rpc_timeout * CONNECT_TIMEOUTS
    }

    fn announce(&self, change: impl FnOnce(&mut Announced)) {
        let mut announced = self.announced.write();
        change(&mut announced);
        // Inside the lock, so that the content of a greeting fits its revision.
        self.revision.fetch_add(1, SeqCst);
        drop(announced);
        self.links.read().values().for_each(|link| link.queue.announce());
    }

    fn start_link(self: &Arc<Self>, id: NodeId, host: String, port: u16) -> io::Result<Arc<Link>> {
        let link = Arc::new(Link::new(id, host, port, self.queue_bytes));
        let (shared, of_thread) = (self.clone(), link.clone());
        thread::Builder::new()
            .name(format!("peer-{id}-send"))
            .spawn(move || (shared.dial)(&shared, &of_thread))?;
        Ok(link)
    }
}
