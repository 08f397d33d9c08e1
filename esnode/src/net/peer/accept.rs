//! Connections that peers have opened to this node: accepts them, reads who the peer says it is, has the peer confirm
//! it, reads messages, and answers with signs of life.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, warn};

use super::claims::Token;
use super::codec;
use super::frame::{Encoded, FrameError, FrameReader, Kind, write_frames};
use super::greeting::{Answer, Greeting, MAX_GREETING};
use super::handshake::accept;
use super::link::Link;
use super::refusal::{await_proof, refuse};
use super::refused::Refused;
use super::shared_state::Shared;
use super::{Hello, PeerEvent, files};

/// Pause after a failed accept: usually the process is out of file descriptors, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The thread that accepts connections, until the listener is shut down.
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
    // The peer may have been removed just now.
    let Some(link) = shared.link(greeting.hello.node) else { return Ok(()) };
    shared.strangers.greeted(connection);
    let carries = (kind == Kind::Hello).then(|| stream.clone());
    link.claims.make(connection, greeting.token, carries, |connection, stream| {
        shared.admit(&link, connection, stream);
    });
    // Only the peer itself can confirm it, on our connection to it.
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

/// Reads the first frame, which must be a greeting and must arrive soon.
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

/// Refuses a peer that does not belong here, and tells it why.
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

/// A connection that claims to be a peer's. Until the peer confirms this, nothing on it is believed.
struct Inbound<'a> {
    shared: &'a Shared,
    link: &'a Link,
    connection: u64,
    stream: &'a TcpStream,
    frames: FrameReader,
    /// The last greeting on it.
    greeting: Greeting,
    /// Whether the peer has confirmed that the connection is its own.
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

    /// Returns the next frame. Before the peer has confirmed the connection, only short frames are read; a longer one
    /// waits for the confirmation. It will come soon, because the peer sends nothing long before it was asked.
    fn next(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        if let (false, Err(FrameError::Length(_))) = (self.proven, self.frames.peek()) {
            self.prove()?;
        }
        Ok(self.frames.next_frame()?)
    }

    /// Checks whether the peer has confirmed the connection meanwhile. A connection that stays unconfirmed for long is
    /// closed.
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
        // If the link was closed, or the transport stopped, just before that, they did not close this connection.
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

    /// Sends our Hello if the peer does not have the latest one, else a sign of life.
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

    /// The peer asks whether one of the connections that claim to be this node's is ours.
    fn own(&mut self, token: Token) -> io::Result<()> {
        let (shared, link) = (self.shared, self.link);
        let own = link.claims.owns(token, || shared.opened(link));
        self.write(Answer { token, own }.encode(Kind::Own))
    }

    /// The peer sends messages, which must be from it and to this node.
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
                // The node is busy. The peer waits, and sees from signs of life that we are alive.
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
