//! Files between nodes, on a connection of their own, so that Raft's messages never wait for them. A node that is far
//! behind asks what it lacks, then requests it piece by piece.
//!
//! The node that needs files opens the connection with a greeting in a frame of another kind, which is validated by the
//! usual rules. It decides how fast it requests pieces, up to a limit that leaves the leader enough bandwidth.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shared::ids::NodeId;

use super::claims::Token;
use super::frame::{Encoded, FrameError, FrameReader, Kind, write_frames};
use super::greeting::{Greeting, MAX_GREETING};
use super::handshake::{Expected, accept};
use super::link::Link;
use super::refusal;
use super::refused::Refused;
use super::shared_state::Shared;
use crate::process::thread_priority::lower;
use crate::storage::{Offer, Outgoing};

/// Size of a requested piece, in bytes.
const PIECE: u64 = 256 << 10;
/// Number of requests that may wait for their pieces: a megabyte in total, whatever the size of the files.
const MAX_PENDING_PIECES: u64 = 4;
/// Largest rate of sending, in bytes per second.
const RATE: u64 = 256 << 20;
/// A connection is closed after this time without a request.
const IDLE: Duration = Duration::from_secs(60);
/// Identifies the snapshot where segments are identified by their generation. A generation is 0 only with a probability
/// of 2^-64.
const SNAPSHOT: u64 = 0;

/// A connection to a node that has files.
pub struct Files {
    stream: Arc<TcpStream>,
    frames: FrameReader,
    /// Keeps the connection registered as ours.
    _own: Own,
}

struct Own {
    link: Arc<Link>,
    token: Token,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.link.claims.ended(self.token);
    }
}

impl Files {
    /// Dials a peer for files.
    ///
    /// # Errors
    /// `NotFound` for a node that is no peer; `PermissionDenied` when either side refuses the other; the system's.
    pub(super) fn dial(shared: &Shared, peer: NodeId) -> io::Result<Self> {
        let link = shared.link(peer).ok_or(io::ErrorKind::NotFound)?;
        let stream = Arc::new(link.connect(shared.connect_timeout())?);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(shared.silence()))?;
        stream.set_write_timeout(Some(shared.silence()))?;
        // The peer asks about the connection at once, before it answers.
        let own = Own { token: link.claims.draw(true), link };
        write_frames(&mut &*stream, &[shared.greeting_with(peer, own.token).encode_as(Kind::FilesHello)])?;
        let mut files = Self { stream, frames: FrameReader::new(MAX_GREETING), _own: own };
        let refuse = |refused: Refused| io::Error::new(io::ErrorKind::PermissionDenied, refused);
        let theirs = match files.next()? {
            (Kind::Hello, body) => Greeting::decode(body)?,
            (Kind::Refused, body) => return Err(refuse(Refused::decode(body)?)),
            _ => return Err(FrameError::Malformed.into()),
        };
        accept(&shared.hello(), shared.protocol, &theirs, Expected::Dialled(peer)).map_err(refuse)?;
        files.frames.set_max_body(shared.max_frame);
        Ok(files)
    }

    /// Returns what the peer has for a node whose log ends at entry `have`; `None` if it has nothing.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn ask(&mut self, have: u64) -> io::Result<Option<Offer>> {
        let body = Bytes::copy_from_slice(&have.to_le_bytes());
        write_frames(&mut &*self.stream, &[Encoded::new(Kind::FilesAsk, vec![body])])?;
        Ok(serde_json::from_slice(&self.answer(Kind::FilesOffer)?)?)
    }

    /// Requests the bytes `from..to` of the segment with this generation, or of the snapshot (`None`), and passes them
    /// to `each` in order.
    ///
    /// # Errors
    /// Those of the connection and of `each`.
    pub fn fetch(
        &mut self,
        generation: Option<u64>,
        from: u64,
        to: u64,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut asked, mut have) = (from, from);
        while have < to {
            while asked < to && asked - have < MAX_PENDING_PIECES * PIECE {
                let length = PIECE.min(to - asked);
                write_frames(&mut &*self.stream, &[wanted(generation, asked, length)])?;
                asked += length;
            }
            let piece = self.answer(Kind::FilesPiece)?;
            if piece.len() as u64 != PIECE.min(to - have) {
                return Err(io::Error::other("the other node no longer has what it offered"));
            }
            each(&piece)?;
            have += piece.len() as u64;
        }
        Ok(())
    }

    fn answer(&mut self, kind: Kind) -> io::Result<Bytes> {
        match self.next()? {
            (found, body) if found == kind => Ok(body),
            _ => Err(FrameError::Malformed.into()),
        }
    }

    fn next(&mut self) -> io::Result<(Kind, Bytes)> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(frame);
            }
            self.frames.fill(&mut &*self.stream)?;
        }
    }
}

fn wanted(generation: Option<u64>, offset: u64, length: u64) -> Encoded {
    let mut body = BytesMut::with_capacity(24);
    body.put_u64_le(generation.unwrap_or(SNAPSHOT));
    body.put_u64_le(offset);
    body.put_u64_le(length);
    Encoded::new(Kind::FilesWant, vec![body.freeze()])
}

/// Answers requests until the connection is closed or this node stops. They must come from a member, with the data
/// directory that the cluster has for it, and be confirmed by the peer itself.
pub fn serve(
    shared: &Shared,
    link: &Link,
    connection: u64,
    stream: &Arc<TcpStream>,
    frames: FrameReader,
    theirs: &Greeting,
) -> io::Result<()> {
    if shared.binding(link.id) != Some(theirs.hello.store) {
        // The peer's disk was lost or replaced, which it learns from its other connection; or it is not a member yet.
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    refusal::await_proof(shared, link, (connection, stream), shared.silence())?;
    link.set_files(connection, Arc::clone(stream));
    shared.strangers.leave(connection);
    let ended = answer_all(shared, stream, frames, link.id);
    link.clear_files(connection);
    ended
}

fn answer_all(shared: &Shared, stream: &TcpStream, mut frames: FrameReader, asker: NodeId) -> io::Result<()> {
    write_frames(&mut &*stream, &[shared.greeting(asker).encode()])?;
    stream.set_read_timeout(Some(IDLE))?;
    lower();
    let mut answering = Answering { gathered: None, started: Instant::now(), sent: 0 };
    while !shared.is_stopping() {
        while let Some((kind, body)) = frames.next_frame()? {
            let answer = answering.answer(shared, kind, body)?;
            write_frames(&mut &*stream, &[answer])?;
            answering.breathe();
        }
        frames.fill(&mut &*stream)?;
    }
    Ok(())
}

struct Answering {
    gathered: Option<Outgoing>,
    started: Instant,
    sent: u64,
}

impl Answering {
    fn answer(&mut self, shared: &Shared, kind: Kind, mut body: Bytes) -> io::Result<Encoded> {
        match kind {
            Kind::FilesAsk => {
                let have = body.try_get_u64_le().map_err(FrameError::from)?;
                let source = shared.files.get().ok_or(io::ErrorKind::NotConnected)?;
                self.gathered = source(have)?;
                let offer = serde_json::to_vec(&self.gathered.as_ref().map(Outgoing::offer))?;
                Ok(Encoded::new(Kind::FilesOffer, vec![offer.into()]))
            }
            Kind::FilesWant => {
                let mut field = || body.try_get_u64_le().map_err(FrameError::from);
                let (generation, offset, length) = (field()?, field()?, field()?);
                let generation = Some(generation).filter(|generation| *generation != SNAPSHOT);
                let gathered = self.gathered.as_ref().ok_or(FrameError::Malformed)?;
                let piece = gathered.read(generation, offset, length.min(PIECE))?;
                self.sent += piece.len() as u64;
                Ok(Encoded::new(Kind::FilesPiece, vec![piece]))
            }
            _ => Err(FrameError::Malformed.into()),
        }
    }

    /// Waits if more was sent than the rate allows.
    fn breathe(&self) {
        let due = Duration::from_micros(self.sent.saturating_mul(1_000_000) / RATE);
        thread::sleep(due.saturating_sub(self.started.elapsed()));
    }
}
