//! The state of one peer that the transport's threads share: address, queue, both connections, statistics.

use std::io;
use std::net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::net::SendFlags;
use shared::ids::NodeId;

use super::claims::Claims;
use super::codec;
use super::frame::write_frames;
use super::greeting::Greeting;
use super::inbox::Inbox;
use super::queue::Queue;
use crate::consensus::Message;

/// Messages larger than this are left to the sender thread, so that the caller does not spend its time copying.
const SEND_NOW_BYTES: usize = 64 << 10;

/// Statistics of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Id of the peer.
    pub id: NodeId,
    /// Our connection to the peer is open, and it listens to us.
    pub outbound: bool,
    /// The peer's connection to us is open, and confirmed by it.
    pub inbound: bool,
    /// Time since anything arrived from it; `None` if nothing has.
    pub last_contact: Option<Duration>,
    /// Bytes written to our connection.
    pub bytes_sent: u64,
    /// Bytes read from both connections.
    pub bytes_received: u64,
    /// Bytes that wait in the queue or for the socket.
    pub bytes_queued: u64,
    /// Number of messages that were not sent: there was no connection, the queue was full, or the connection broke.
    pub messages_dropped: u64,
    /// How often our connection was opened again after the first time.
    pub reconnects: u64,
}

/// One peer.
#[derive(Debug)]
pub struct Link {
    pub id: NodeId,
    pub host: String,
    pub port: u16,
    pub queue: Queue,
    /// The connections that claim to be this peer's.
    pub claims: Claims,
    /// Messages that the node has not handled yet.
    pub inbox: Arc<Inbox>,
    pub outbound_up: AtomicBool,
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub messages_dropped: AtomicU64,
    /// How often our connection was opened.
    pub connects: AtomicU64,
    /// The last message in the log about this peer's connection, which is not repeated at every retry.
    pub complaint: Mutex<Option<String>>,
    /// Incarnation and revision of the newest Hello received.
    pub newest: Mutex<(u64, u64)>,
    outbound: Mutex<Option<Arc<TcpStream>>>,
    inbound: Mutex<Option<(u64, Arc<TcpStream>)>>,
    /// The peer's connection for files.
    files: Mutex<Option<(u64, Arc<TcpStream>)>>,
    /// The address at which it was last reached.
    reached: Mutex<Option<IpAddr>>,
    created: Instant,
    /// Time of the last byte from it, in milliseconds since `created`, plus one; 0 if there was none.
    last_contact: AtomicU64,
}

impl Link {
    /// Returns a peer of which nothing is known yet.
    pub fn new(id: NodeId, host: String, port: u16, queue_bytes: usize) -> Self {
        Self {
            id,
            host,
            port,
            queue: Queue::new(queue_bytes),
            claims: Claims::default(),
            inbox: Arc::default(),
            outbound_up: AtomicBool::new(false),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            messages_dropped: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            complaint: Mutex::default(),
            newest: Mutex::default(),
            outbound: Mutex::default(),
            inbound: Mutex::default(),
            files: Mutex::default(),
            reached: Mutex::default(),
            created: Instant::now(),
            last_contact: AtomicU64::new(0),
        }
    }

    /// Connects to the first of its addresses that answers. Each attempt gets `timeout`.
    ///
    /// # Errors
    /// If the name has no address; otherwise the error of the last attempt.
    pub fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                // On the loopback interface, the system can choose the very port that is dialled for our end, if
                // nothing listens there.
                Ok(stream) if stream.local_addr()? == address => {
                    error = io::ErrorKind::ConnectionRefused.into();
                }
                Ok(stream) => return Ok(stream),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }

    /// Sends `messages` on the caller's thread, without waiting, if they are few and nothing is queued. This saves an
    /// event the time to wake another thread. Returns `false` if nothing was sent.
    pub fn send_now(&self, messages: &[Message]) -> bool {
        if messages.iter().map(codec::encoded_len).sum::<usize>() > SEND_NOW_BYTES {
            return false;
        }
        let Some(stream) = self.outbound.lock().clone() else { return false };
        self.queue.write_past(|| {
            let mut wire = Vec::new();
            let mut frames = Vec::new();
            codec::encode(messages, SEND_NOW_BYTES, &mut frames);
            write_frames(&mut wire, &frames)?;
            let sent = rustix::net::send(&*stream, &wire, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
            self.bytes_sent.fetch_add(sent as u64, Relaxed);
            Ok(Bytes::from(wire.split_off(sent)))
        })
    }

    /// Notes that `bytes` arrived from the peer.
    pub fn heard(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
        let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last_contact.store(now + 1, Relaxed);
    }

    /// Checks that `greeting` is at least as new as any received, and if so remembers it and calls `tell`. The lock is
    /// held meanwhile, so that greetings on two connections cannot change their order.
    pub fn if_newest(&self, greeting: &Greeting, tell: impl FnOnce()) {
        let mut newest = self.newest.lock();
        if newest.0 != greeting.incarnation || newest.1 <= greeting.revision {
            *newest = (greeting.incarnation, greeting.revision);
            tell();
        }
    }

    /// Sets our connection, from the attempt to open it until it ends, so that [`Link::close`] can close it.
    pub fn set_outbound(&self, stream: Option<Arc<TcpStream>>) {
        if let Some(address) = stream.as_ref().and_then(|stream| stream.peer_addr().ok()) {
            *self.reached.lock() = Some(address.ip().to_canonical());
        }
        *self.outbound.lock() = stream;
    }

    /// Whether the peer was last reached at this address.
    pub fn is_at(&self, address: IpAddr) -> bool {
        *self.reached.lock() == Some(address)
    }

    /// Sets the peer's connection to us. A previous one is closed, since the peer has restarted or given it up.
    pub fn set_inbound(&self, connection: u64, stream: Arc<TcpStream>) {
        if let Some((_, old)) = self.inbound.lock().replace((connection, stream)) {
            let _ = old.shutdown(Shutdown::Both);
        }
    }

    /// The peer's connection has ended. Does nothing if another one has replaced it.
    pub fn clear_inbound(&self, connection: u64) {
        let mut inbound = self.inbound.lock();
        if inbound.as_ref().is_some_and(|(current, _)| *current == connection) {
            *inbound = None;
        }
    }

    /// Sets the peer's connection for files; it has one at a time.
    pub fn set_files(&self, connection: u64, stream: Arc<TcpStream>) {
        if let Some((_, old)) = self.files.lock().replace((connection, stream)) {
            let _ = old.shutdown(Shutdown::Both);
        }
    }

    /// The peer's connection for files has ended. Does nothing if another one has replaced it.
    pub fn clear_files(&self, connection: u64) {
        let mut files = self.files.lock();
        if files.as_ref().is_some_and(|(current, _)| *current == connection) {
            *files = None;
        }
    }

    /// Returns whether both connections are open.
    pub fn connected(&self) -> bool {
        self.outbound_up.load(Relaxed) && self.inbound.lock().is_some()
    }

    /// Returns whether `text` differs from the last one, and remembers it.
    pub fn is_news(&self, text: String) -> bool {
        let mut complaint = self.complaint.lock();
        let news = complaint.as_ref() != Some(&text);
        *complaint = Some(text);
        news
    }

    /// Ends the sender thread, and closes both connections.
    pub fn close(&self) {
        self.queue.close();
        let outbound = self.outbound.lock().take();
        let inbound = self.inbound.lock().take().map(|(_, stream)| stream);
        let files = self.files.lock().take().map(|(_, stream)| stream);
        for stream in outbound.into_iter().chain(inbound).chain(files) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns the statistics.
    pub fn stats(&self) -> PeerStats {
        let contact = self.last_contact.load(Relaxed).checked_sub(1).map(Duration::from_millis);
        PeerStats {
            id: self.id,
            outbound: self.outbound_up.load(Relaxed),
            inbound: self.inbound.lock().is_some(),
            last_contact: contact.map(|at| self.created.elapsed().saturating_sub(at)),
            bytes_sent: self.bytes_sent.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            bytes_queued: self.queue.bytes() as u64,
            messages_dropped: self.messages_dropped.load(Relaxed),
            reconnects: self.connects.load(Relaxed).saturating_sub(1),
        }
    }
}
