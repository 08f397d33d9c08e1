//! The transport as the node sees it: start, send, announce, ask, stop.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::version::Range;
use socket2::SockRef;

use super::config::{PeerAddress, TransportConfig};
use super::files::Files;
use super::shared_state::{Shared, Source};
use super::{Formats, Hello, PeerEvent, PeerStats, accept, dial};
use crate::consensus::Message;
use crate::net::listen::listen;
use crate::process::version::PROTOCOL;

/// Largest size of the messages that wait for one peer, in bytes.
const QUEUE_BYTES: usize = 64 << 20;
/// The running transport. Dropping it stops it.
pub struct Transport {
    shared: Arc<Shared>,
    local: SocketAddr,
    acceptor: Mutex<Option<(Arc<TcpListener>, JoinHandle<()>)>>,
}

impl Transport {
    /// Starts to listen, and to connect to every peer. `events` is called on the transport's threads, and must not
    /// block.
    ///
    /// # Errors
    /// If the peer port cannot be opened, or a thread cannot be started.
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
        let shared = Arc::new(Shared::new(config, protocol, queue_bytes, dial::run, events));
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

    /// Returns the address that it listens on, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends or queues `messages` for `to`, all or none, without waiting. Returns `false` if they were dropped, because
    /// the peer is unknown or not connected, or reads too slowly. Must be called from one thread at a time, or the
    /// order of messages is undefined.
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

    /// Replaces this node's Hello, and sends it to every peer at once.
    pub fn set_hello(&self, hello: Hello) {
        self.shared.change_hello(|own| *own = hello);
    }

    /// This node has joined a cluster: tells every peer.
    pub fn set_cluster(&self, cluster: ClusterId) {
        self.shared.change_hello(|own| own.cluster = Some(cluster));
    }

    /// The data directory is written in this on-disk format from now on: tells every peer.
    pub fn set_active_format(&self, format: u16) {
        self.shared.change_hello(|own| own.formats.active = format);
    }

    /// Returns the on-disk formats in this node's Hello.
    pub fn formats(&self) -> Formats {
        self.shared.hello().formats
    }

    /// The voters that the cluster was bootstrapped with, as far as this node knows.
    pub fn initial_voters(&self) -> Vec<NodeId> {
        self.shared.hello().initial_voters.into_iter().filter(|id| *id != 0).collect()
    }

    /// Replaces the data directories that peers are bound to, which each peer gets as [`Hello::your_store`]. From now
    /// on a node that has a data directory in `spent` is refused, and its former member is no peer only because the
    /// configuration has it.
    pub fn set_bindings(&self, bindings: HashMap<NodeId, StoreId>, spent: HashMap<StoreId, NodeId>) {
        self.shared.set_bindings(bindings, spent);
    }

    /// Replaces the members, this node among them. Opens connections to new members, to nodes of the configuration, and
    /// to nodes that one of these names. Closes those to other nodes. Members with the same address keep their
    /// connection.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn set_peers(&self, members: Vec<PeerAddress>) -> io::Result<()> {
        self.shared.set_members(members)
    }

    /// Returns the peers to which both connections are open.
    pub fn connected(&self) -> Vec<NodeId> {
        let links = self.shared.links.read();
        links.values().filter(|link| link.connected()).map(|link| link.id).collect()
    }

    /// Returns the statistics of every peer.
    pub fn peer_stats(&self) -> Vec<PeerStats> {
        self.shared.links.read().values().map(|link| link.stats()).collect()
    }

    /// From now on answers other nodes' requests for files.
    pub fn serve_files(&self, source: Source) {
        // If it was set before, the first value stays.
        let _ = self.shared.files.set(source);
    }

    /// Opens a connection for files to a peer.
    ///
    /// # Errors
    /// `NotFound` for a node that is no peer; `PermissionDenied` if either side refuses the other; those of the
    /// connection.
    pub fn dial_files(&self, peer: NodeId) -> io::Result<Files> {
        Files::dial(&self.shared, peer)
    }

    /// Closes the port and every connection. Afterwards no event begins, but one that has begun may still be handled.
    pub fn stop(&self) {
        if self.shared.stopping.swap(true, SeqCst) {
            return;
        }
        self.shared.links.read().values().for_each(|link| link.close());
        self.shared.strangers.close();
        if let Some((listener, acceptor)) = self.acceptor.lock().take() {
            // This wakes the thread in accept(); closing the descriptor would not.
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
