//! The peers' connections to us: accept, hear who it is, read messages, answer with signs of life.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use raft::eraftpb::{Message, MessageType};
use tracing::{debug, warn};

use super::codec;
use super::files;
use super::frame::{Encoded, FrameError, FrameReader, Kind, write_frames};
use super::handshake::{Expected, Greeting, MAX_GREETING, Refused, accept};
use super::link::Link;
use super::transport::Shared;
use super::{Hello, PeerEvent};

/// Connections that may be open without having said who they are; the oldest makes room for one more.
const MAX_STRANGERS: usize = 64;
/// Pause after a failed accept: usually the process is out of file descriptors, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The acceptor thread, until the listener is shut down.
pub fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(SeqCst) {
            return;
        }
        let started = accepted.and_then(|(stream, from)| start(shared, stream, from));
        if let Err(error) = started {
            warn!(%error, "cannot accept a peer's connection");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}

fn start(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    let connection = shared.next_connection.fetch_add(1, Relaxed);
    let stream = Arc::new(stream);
    let oldest = {
        let mut strangers = shared.strangers.lock();
        strangers.insert(connection, stream.clone());
        if strangers.len() > MAX_STRANGERS { strangers.pop_first() } else { None }
    };
    if let Some((_, oldest)) = oldest {
        let _ = oldest.shutdown(Shutdown::Both);
    }
    let of_thread = shared.clone();
    let spawned = thread::Builder::new().name(format!("peer-in-{connection}")).spawn(move || {
        let shared = of_thread;
        if let Err(error) = serve(&shared, connection, &stream) {
            debug!(%from, connection, %error, "a peer's connection ended");
        }
        shared.strangers.lock().remove(&connection);
        let _ = stream.shutdown(Shutdown::Both);
    });
    if spawned.is_err() {
        shared.strangers.lock().remove(&connection);
    }
    spawned.map(drop)
}

fn serve(shared: &Shared, connection: u64, stream: &Arc<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(shared.silence()))?;
    let mut frames = FrameReader::new(MAX_GREETING);
    let (kind, greeting) = meet(shared, stream, &mut frames)?;
    if kind == Kind::FilesHello {
        return files::serve(shared, stream, frames, &greeting);
    }
    let peers = shared.peer_ids();
    judge(shared, stream, &greeting, Expected::Configured(&peers))?;
    let Some(link) = shared.link(greeting.hello.node).filter(|link| !link.queue.is_closed()) else {
        return Ok(());
    };
    // Whoever claims to be a peer, from another data directory than the cluster knows it by, does not push out the one
    // that is there.
    let theirs = greeting.hello.store;
    if link.has_inbound() && shared.binding(link.id).is_some_and(|known| known != theirs) {
        let another = format!("node {} is here, with the data directory that the cluster knows", link.id);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, another));
    }
    shared.refusals.lock().remove(&link.id);
    shared.strangers.lock().remove(&connection);
    link.set_inbound(connection, stream.clone());
    // A link closed, or a transport stopped, just before that has not seen this connection.
    let ended = if link.queue.is_closed() || shared.stopping.load(SeqCst) {
        Ok(())
    } else {
        frames.set_max_body(shared.max_frame);
        link.queue.redial();
        Inbound::new(shared, &link, stream, frames).run(&greeting)
    };
    link.clear_inbound(connection);
    ended
}

/// The first frame, which must be a greeting and must come before long.
fn meet(shared: &Shared, stream: &TcpStream, frames: &mut FrameReader) -> io::Result<(Kind, Greeting)> {
    let deadline = Instant::now() + shared.silence();
    loop {
        match frames.next_frame()? {
            Some((kind @ (Kind::Hello | Kind::FilesHello), body)) => {
                return Ok((kind, Greeting::decode(body)?));
            }
            Some(_) => return Err(FrameError::Malformed.into()),
            None => {
                let rest = deadline.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                stream.set_read_timeout(Some(rest))?;
                frames.fill(&mut &*stream)?;
            }
        }
    }
}

/// Refuses, with a reason, whoever does not belong here.
pub(super) fn judge(
    shared: &Shared,
    stream: &TcpStream,
    theirs: &Greeting,
    expected: Expected<'_>,
) -> io::Result<()> {
    let ours: Hello = shared.hello();
    let Err(refused) = accept(&ours, shared.protocol, theirs, expected) else { return Ok(()) };
    let _ = write_frames(&mut &*stream, &[refused.encode()]);
    let peer = theirs.hello.node;
    let times = match shared.link(peer) {
        Some(_) => (shared.refusals.lock().insert(peer, refused.code) != Some(refused.code)).then_some(1),
        None => shared.strangers_refused.due(),
    };
    if let Some(times) = times {
        warn!(peer, code = ?refused.code, times, "refused a peer's connection: {refused}");
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
}

/// An accepted peer's connection.
struct Inbound<'a> {
    shared: &'a Shared,
    link: &'a Link,
    stream: &'a TcpStream,
    frames: FrameReader,
    /// Revision of our Hello that the peer has.
    revision: u64,
    last_write: Instant,
    last_read: Instant,
}

impl<'a> Inbound<'a> {
    fn new(shared: &'a Shared, link: &'a Link, stream: &'a TcpStream, frames: FrameReader) -> Self {
        let now = Instant::now();
        Self { shared, link, stream, frames, revision: 0, last_write: now, last_read: now }
    }

    fn run(mut self, greeting: &Greeting) -> io::Result<()> {
        self.answer()?;
        self.link.if_newest(greeting, || self.shared.emit(PeerEvent::Hello(greeting.hello)));
        // Reads end early enough to show a sign of life in time.
        self.stream.set_read_timeout(Some(self.shared.keepalive()))?;
        loop {
            while let Some((kind, body)) = self.frames.next_frame()? {
                match kind {
                    Kind::Messages => self.pass_on(codec::decode(body)?),
                    Kind::Hello => self.heard(&Greeting::decode(body)?)?,
                    Kind::Keepalive => {}
                    Kind::Refused => return self.refused(&Refused::decode(body)?),
                    _ => return Err(FrameError::Malformed.into()),
                }
            }
            self.answer()?;
            match self.frames.fill(&mut &*self.stream) {
                Ok(bytes) => {
                    self.link.heard(bytes);
                    self.last_read = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.last_read.elapsed() >= self.shared.silence() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says what the peer does not know yet of us, or at least that we are here.
    fn answer(&mut self) -> io::Result<()> {
        let frame = if self.shared.revision.load(Relaxed) != self.revision {
            let greeting = self.shared.greeting(self.link.id);
            self.revision = greeting.revision;
            greeting.encode()
        } else if self.last_write.elapsed() >= self.shared.keepalive() {
            Encoded::new(Kind::Keepalive, Vec::new())
        } else {
            return Ok(());
        };
        write_frames(&mut &*self.stream, &[frame])?;
        self.last_write = Instant::now();
        Ok(())
    }

    fn heard(&self, greeting: &Greeting) -> io::Result<()> {
        judge(self.shared, self.stream, greeting, Expected::Configured(&[self.link.id]))?;
        self.link.if_newest(greeting, || self.shared.emit(PeerEvent::Hello(greeting.hello)));
        Ok(())
    }

    /// A peer speaks for itself and to us. Only a transfer of leadership names another node, the one to take over.
    fn pass_on(&self, mut messages: Vec<Message>) {
        let (me, peer) = (self.shared.node_id, self.link.id);
        messages.retain(|message| {
            message.to == me && (message.from == peer || message.msg_type == MessageType::MsgTransferLeader)
        });
        if !messages.is_empty() {
            self.shared.emit(PeerEvent::Messages(peer, messages));
        }
    }

    fn refused(&self, refused: &Refused) -> io::Result<()> {
        if self.link.is_news(refused.text.clone()) {
            warn!(peer = self.link.id, code = ?refused.code, "the peer refused our answer: {refused}");
        }
        Ok(())
    }
}
