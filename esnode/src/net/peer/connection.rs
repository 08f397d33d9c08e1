//! Our connection to one peer: dial, introduce ourselves, send, dial again.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::ids::NodeId;

use super::PeerEvent;
use super::codec::{Frame, FrameReader, Kind, write_all};
use super::handshake::{self, Introduction, Refused};
use super::outbox::{Outbox, Work};
use super::transport::Shared;

/// Pause after the first failed try; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// A refusal is repeated to the node at most this often.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// Why a connection ended.
enum Ended {
    Io(io::Error),
    Refused(Refused),
    Stop,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The sender thread's life.
pub(super) fn run(shared: &Arc<Shared>, peer: NodeId, host: &str, port: u16) {
    let Some(outbox) = shared.outbox(peer) else { return };
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = attempt(shared, &outbox, peer, host, port);
        let was_up = outbox.dialled.swap(false, Relaxed);
        outbox.clear();
        if was_up {
            pause = FIRST_PAUSE;
            (shared.events)(PeerEvent::Disconnected(peer));
        }
        match ended {
            Ended::Stop => return,
            Ended::Io(error) => tracing::debug!(peer, %error, "no connection to the peer"),
            Ended::Refused(refused) => {
                (shared.events)(PeerEvent::Refused(peer, refused));
                pause = REFUSAL_PAUSE;
            }
        }
        outbox.pause(pause);
        if outbox.stopped() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn attempt(shared: &Arc<Shared>, outbox: &Outbox, peer: NodeId, host: &str, port: u16) -> Ended {
    match talk(shared, outbox, peer, host, port) {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

fn talk(
    shared: &Arc<Shared>,
    outbox: &Outbox,
    peer: NodeId,
    host: &str,
    port: u16,
) -> Result<std::convert::Infallible, Ended> {
    let mut socket = dial(shared, host, port)?;
    write_all(&mut socket, &introduction(shared, peer)?)?;
    let mut reader = FrameReader::new(&socket);
    let (kind, body) = reader.next()?;
    if kind == Kind::Refused {
        return Err(Ended::Refused(serde_json::from_slice(&body).map_err(io::Error::from)?));
    }
    let answer: Introduction = serde_json::from_slice(&body).map_err(io::Error::from)?;
    let own = shared.hello_for(peer);
    let hello = handshake::check(&own, &answer, Some(peer), &shared.known).map_err(Ended::Refused)?;
    outbox.connects.fetch_add(1, Relaxed);
    outbox.dialled.store(true, Relaxed);
    (shared.events)(PeerEvent::Hello(hello));
    (shared.events)(PeerEvent::Connected(peer));
    loop {
        let pieces = match outbox.wait(Instant::now() + shared.rpc_timeout) {
            Work::Stop => return Err(Ended::Stop),
            Work::Idle => Frame::new(Kind::KeepAlive, &[]),
            Work::Announce => introduction(shared, peer)?,
            Work::Messages(messages) => Frame::messages(&messages),
        };
        write_all(&mut socket, &pieces)?;
        outbox.sent_bytes.fetch_add(pieces.iter().map(Bytes::len).sum::<usize>() as u64, Relaxed);
    }
}

fn dial(shared: &Shared, host: &str, port: u16) -> io::Result<TcpStream> {
    let limit = shared.silence();
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(limit))?;
                socket.set_write_timeout(Some(limit))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Our introduction as a frame.
pub(super) fn introduction(shared: &Shared, peer: NodeId) -> io::Result<Vec<Bytes>> {
    let text = serde_json::to_vec(&Introduction::new(shared.hello_for(peer)))?;
    Ok(Frame::new(Kind::Hello, &text))
}
