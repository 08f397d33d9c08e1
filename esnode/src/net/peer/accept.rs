//! The peers' connections to us: accept, hear who it is, have the peer say so too, read messages, answer with signs of life.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::ids::NodeId;
use tracing::{debug, warn};

use super::claims::Token;
use super::codec;
use super::frame::{Encoded, FrameError, FrameReader, Kind, write_frames};
use super::handshake::{Answer, Greeting, MAX_GREETING, Refused, accept, unproven};
use super::link::Link;
use super::transport::Shared;
use super::{Hello, PeerEvent};
use super::{dial, files};

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
    let address = from.ip().to_canonical();
    shared.strangers.come(connection, stream.clone(), address, shared.reaches(address));
    let of_thread = shared.clone();
    let spawned = thread::Builder::new().name(format!("peer-in-{connection}")).spawn(move || {
        let shared = of_thread;
        if let Err(error) = serve(&shared, connection, &stream) {
            debug!(%from, connection, %error, "a peer's connection ended");
        }
        shared.strangers.leave(connection);
        let _ = stream.shutdown(Shutdown::Both);
    });
    if spawned.is_err() {
        shared.strangers.leave(connection);
    }
    spawned.map(drop)
}

fn serve(shared: &Arc<Shared>, connection: u64, stream: &Arc<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(shared.silence()))?;
    let mut frames = FrameReader::new(MAX_GREETING);
    let (kind, greeting) = meet(shared, stream, &mut frames)?;
    validate(shared, stream, &greeting)?;
    // It may have been let go just now.
    let Some(link) = shared.link(greeting.hello.node) else { return Ok(()) };
    shared.strangers.greeted(connection);
    let carries = (kind == Kind::Hello).then(|| stream.clone());
    link.claims.make(connection, greeting.token, carries, |connection, stream| {
        shared.admit(&link, connection, stream);
    });
    // Whether it is the peer's the peer must say, on our connection to it.
    link.queue.redial();
    link.queue.announce();
    let ended = if kind == Kind::FilesHello {
        files::serve(shared, &link, connection, stream, frames, &greeting)
    } else {
        Inbound::new(shared, &link, connection, stream, frames, greeting).run()
    };
    link.claims.forget(connection);
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
fn validate(shared: &Shared, stream: &TcpStream, theirs: &Greeting) -> io::Result<()> {
    let (ours, peer): (Hello, _) = (shared.hello(), theirs.hello.node);
    let verdict = match shared.refusal_of(&theirs.hello) {
        Some(refused) => Err(refused),
        None => accept(&ours, shared.protocol, theirs, shared.expected(peer)),
    };
    match verdict {
        Ok(_) => Ok(()),
        Err(refused) => Err(refuse(shared, stream, peer, refused)),
    }
}

/// Tells the other side, and the log once.
pub(super) fn refuse(shared: &Shared, stream: &TcpStream, peer: NodeId, refused: Refused) -> io::Error {
    let _ = write_frames(&mut &*stream, &[refused.encode()]);
    let times = match shared.link(peer) {
        Some(_) => {
            let news = shared.refusals.lock().insert(peer, refused.code) != Some(refused.code);
            if news { shared.peers_refused.due() } else { None }
        }
        None => shared.strangers_refused.due(),
    };
    if let Some(times) = times {
        warn!(peer, code = ?refused.code, times, "refused a peer's connection: {refused}");
    }
    io::Error::new(io::ErrorKind::PermissionDenied, refused)
}

/// Waits at most for `longest` until the peer says that the connection is its own.
///
/// # Errors
/// `PermissionDenied` when it denies it, or cannot be asked.
pub(super) fn await_proof(
    shared: &Shared,
    link: &Link,
    (connection, stream): (u64, &TcpStream),
    longest: Duration,
) -> io::Result<()> {
    let denied = match link.claims.wait(connection, longest) {
        Some(true) => return Ok(()),
        verdict => verdict.is_some(),
    };
    let refused = unproven(link.id, &(link.host.clone(), link.port), denied);
    Err(refuse(shared, stream, link.id, refused))
}

/// A connection that says it is a peer's. Until the peer has said so too, nothing on it is believed.
struct Inbound<'a> {
    shared: &'a Shared,
    link: &'a Link,
    connection: u64,
    stream: &'a TcpStream,
    frames: FrameReader,
    /// What was last said on it.
    greeting: Greeting,
    /// The peer has said that it is its own.
    proven: bool,
    /// Revision of our Hello that the peer has.
    revision: u64,
    started: Instant,
    last_write: Instant,
    last_read: Instant,
}

impl<'a> Inbound<'a> {
    fn new(
        shared: &'a Shared,
        link: &'a Link,
        connection: u64,
        stream: &'a TcpStream,
        frames: FrameReader,
        greeting: Greeting,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            link,
            connection,
            stream,
            frames,
            greeting,
            proven: false,
            revision: 0,
            started: now,
            last_write: now,
            last_read: now,
        }
    }

    fn run(mut self) -> io::Result<()> {
        self.answer()?;
        // Reads end early enough to show a sign of life in time.
        self.stream.set_read_timeout(Some(self.shared.keepalive()))?;
        loop {
            self.look()?;
            while let Some((kind, body)) = self.next()? {
                match kind {
                    Kind::Messages => self.pass_on(body)?,
                    Kind::Hello => self.heard(Greeting::decode(body)?)?,
                    Kind::Keepalive => {}
                    Kind::Ask => self.own(Answer::decode(body)?.token)?,
                    Kind::Refused => return self.refused(&Refused::decode(body)?),
                    _ => return Err(FrameError::Malformed.into()),
                }
            }
            self.answer()?;
            match self.frames.fill(&mut &*self.stream) {
                Ok(bytes) => {
                    self.last_read = Instant::now();
                    if self.proven {
                        self.link.heard(bytes);
                    }
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

    /// The next frame. Whoever is not proven has little to say: more than that waits for the proof, which is on its way, as
    /// the peer says nothing of length before it was asked.
    fn next(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        if let (false, Err(FrameError::Length(_))) = (self.proven, self.frames.peek()) {
            self.prove()?;
        }
        Ok(self.frames.next_frame()?)
    }

    /// Whether the peer has spoken for this connection meanwhile. One of which it has not for long ends.
    fn look(&mut self) -> io::Result<()> {
        match self.link.claims.verdict(self.connection) {
            _ if self.proven => Ok(()),
            None if self.started.elapsed() < self.shared.silence() => Ok(()),
            _ => self.prove(),
        }
    }

    fn prove(&mut self) -> io::Result<()> {
        if self.proven {
            return Ok(());
        }
        let longest = self.shared.silence().saturating_sub(self.started.elapsed());
        await_proof(self.shared, self.link, (self.connection, self.stream), longest)?;
        // A link closed, or a transport stopped, just before that has not seen this connection.
        if self.link.queue.is_closed() || self.shared.is_stopping() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.proven = true;
        self.shared.refusals.lock().remove(&self.link.id);
        self.frames.set_max_body(self.shared.max_frame);
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        self.link.if_newest(&self.greeting, || self.shared.emit(PeerEvent::Hello(self.greeting.hello)));
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
        self.write(frame)
    }

    fn write(&mut self, frame: Encoded) -> io::Result<()> {
        write_frames(&mut &*self.stream, &[frame])?;
        self.last_write = Instant::now();
        Ok(())
    }

    fn heard(&mut self, greeting: Greeting) -> io::Result<()> {
        if greeting.hello.node != self.link.id {
            return Err(FrameError::Malformed.into());
        }
        validate(self.shared, self.stream, &greeting)?;
        self.greeting = greeting;
        if self.proven {
            self.tell();
        }
        Ok(())
    }

    /// The peer wants to know whether one of the connections that name this node is ours.
    fn own(&mut self, token: Token) -> io::Result<()> {
        let (shared, link) = (self.shared, self.link);
        let own = link.claims.owns(token, || dial::open(shared, link));
        self.write(Answer { token, own }.encode(Kind::Own))
    }

    /// A peer speaks for itself and to us.
    fn pass_on(&mut self, body: Bytes) -> io::Result<()> {
        self.prove()?;
        let length = body.len();
        let mut messages = codec::decode(body)?;
        let (me, peer) = (self.shared.node_id, self.link.id);
        messages.retain(|message| message.to == me && message.from == peer);
        while !messages.is_empty() && !self.shared.is_stopping() {
            match self.link.inbox.put(messages, length, self.shared.keepalive()) {
                Ok(messages) => {
                    self.shared.emit(PeerEvent::Messages(peer, messages));
                    break;
                }
                // The node has its hands full. The peer waits, and sees that we live.
                Err(back) => messages = back,
            }
            self.answer()?;
        }
        self.last_read = Instant::now();
        Ok(())
    }

    fn refused(&self, refused: &Refused) -> io::Result<()> {
        if self.link.is_news(refused.text.clone()) {
            warn!(peer = self.link.id, code = ?refused.code, "the peer refused our answer: {refused}");
        }
        Ok(())
    }
}
