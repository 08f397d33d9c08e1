//! What the transport's threads share: what this node says, whom it knows, the links to its peers.

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
use super::handshake::{Expected, Greeting, RefusalCode, Refused, removed};
use super::known::Known;
use super::link::Link;
use super::strangers::Strangers;
use super::{Hello, PeerEvent};
use crate::process::rate_limited_log::RateLimitedLog;
use crate::storage::Outgoing;

/// A connection that brought nothing for this many `rpc_timeout` is dead.
const SILENT_TIMEOUTS: u32 = 10;
/// Signs of life that must be missing in a row for that.
const SIGNS_OF_LIFE: u32 = 4;
/// Attempts to connect wait this many `rpc_timeout` at most.
const CONNECT_TIMEOUTS: u32 = 5;

/// Answers what a node lacks whose log ends at the given entry.
pub type Source = Box<dyn Fn(u64) -> io::Result<Option<Outgoing>> + Send + Sync>;

/// What the transport's threads share.
pub struct Shared {
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
    /// What the thread of a link does until the link is closed. What dials stands above this module.
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
    /// A transport that listens not yet, and dials nobody; `dial` is what the thread of a link does.
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

    /// Changes what this node says of itself, and tells every peer.
    pub fn change_hello(&self, change: impl FnOnce(&mut Hello)) {
        self.announce(|announced| change(&mut announced.hello));
    }

    /// Replaces which data directory each peer is bound to, and which ones are spent by whom.
    pub fn set_bindings(&self, bindings: HashMap<NodeId, StoreId>, spent: HashMap<StoreId, NodeId>) {
        self.known.lock().set_gone(spent.values().copied().collect());
        self.announce(|announced| {
            announced.bindings = bindings;
            announced.spent = spent;
        });
    }

    /// Replaces the members. Dials whoever is new, and lets go of others.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn set_members(self: &Arc<Self>, members: Vec<PeerAddress>) -> io::Result<()> {
        let news = self.known.lock().set_members(members);
        self.follow_known()?;
        if news {
            self.announce(|_| {});
        }
        Ok(())
    }

    /// Tells the node, unless the transport has been stopped.
    pub fn emit(&self, event: PeerEvent) {
        if !self.stopping.load(SeqCst) {
            (self.events)(event);
        }
    }

    /// The peer hears us: messages may go to it.
    pub fn opened(&self, link: &Link) {
        link.queue.open();
        link.outbound_up.store(true, Relaxed);
        link.connects.fetch_add(1, Relaxed);
        *link.complaint.lock() = None;
        info!(peer = link.id, host = %link.host, port = link.port, "connected");
        self.emit(PeerEvent::Connected(link.id));
    }

    /// There is no connection any more, and no thread that would open it.
    pub fn closed(&self, link: &Link) {
        link.set_outbound(None);
        link.messages_dropped.fetch_add(link.queue.shut(), Relaxed);
        if link.outbound_up.swap(false, Relaxed) {
            self.emit(PeerEvent::Disconnected(link.id));
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
        let announced = self.announced.read();
        let spent = announced.spent.contains_key(&hello.store);
        spent.then(|| removed(hello.node, announced.hello.cluster, hello.cluster))
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
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn named(self: &Arc<Self>, by: NodeId, members: Vec<PeerAddress>) -> io::Result<()> {
        if self.known.lock().name(by, members) { self.follow_known() } else { Ok(()) }
    }

    /// Dials whoever is known, and lets go of whoever is no longer.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn follow_known(self: &Arc<Self>) -> io::Result<()> {
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
            .spawn(move || (shared.dial)(&shared, &of_thread))?;
        Ok(link)
    }
}
