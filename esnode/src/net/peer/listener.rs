//! Connections that peers have dialled: check who it is, then pass on what it says.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use shared::ids::NodeId;

use super::PeerEvent;
use super::codec::{self, Frame, FrameReader, Kind, write_all};
use super::connection::introduction;
use super::handshake::{self, Introduction};
use super::transport::Shared;

/// Connections that have not introduced themselves yet, beyond those of the configured nodes.
const MAX_STRANGERS: usize = 64;

/// The acceptor thread's life.
pub(super) fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    for socket in listener.incoming() {
        if shared.stopped() {
            return;
        }
        let Ok(socket) = socket else {
            // No file descriptors are left; they come back.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if shared.strangers.load(Relaxed) >= MAX_STRANGERS {
            continue;
        }
        shared.strangers.fetch_add(1, Relaxed);
        let reader = Arc::clone(shared);
        let spawned =
            thread::Builder::new().name("peer-reader".into()).spawn(move || attend(&reader, &socket));
        if let Err(error) = spawned {
            shared.strangers.fetch_sub(1, Relaxed);
            tracing::warn!(%error, "no thread for a peer's connection");
        }
    }
}

fn attend(shared: &Arc<Shared>, socket: &TcpStream) {
    let mut reader = FrameReader::new(socket);
    let met = meet(shared, socket, &mut reader);
    shared.strangers.fetch_sub(1, Relaxed);
    let peer = match met {
        Ok(peer) => peer,
        Err(error) => return tracing::debug!(%error, "a connection to the peer port did not become one"),
    };
    let Some(outbox) = shared.outbox(peer) else { return };
    outbox.accepted.fetch_add(1, Relaxed);
    if let Err(error) = listen(shared, peer, &mut reader) {
        tracing::debug!(peer, %error, "the peer's connection ended");
    }
    outbox.accepted.fetch_sub(1, Relaxed);
}

/// Exchanges introductions.
fn meet(shared: &Shared, mut socket: &TcpStream, reader: &mut FrameReader<&TcpStream>) -> io::Result<NodeId> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(shared.silence()))?;
    socket.set_write_timeout(Some(shared.silence()))?;
    let (kind, body) = reader.next()?;
    let introduced: Introduction = match kind {
        Kind::Hello => serde_json::from_slice(&body)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it did not introduce itself")),
    };
    let peer = introduced.hello.node;
    match handshake::check(&shared.hello_for(peer), &introduced, None, &shared.known) {
        Ok(hello) => {
            write_all(&mut socket, &introduction(shared, peer)?)?;
            (shared.events)(PeerEvent::Hello(hello));
            Ok(peer)
        }
        Err(refused) => {
            write_all(&mut socket, &Frame::new(Kind::Refused, &serde_json::to_vec(&refused)?))?;
            Err(io::Error::other(refused))
        }
    }
}

fn listen(shared: &Shared, peer: NodeId, reader: &mut FrameReader<&TcpStream>) -> io::Result<()> {
    let Some(outbox) = shared.outbox(peer) else { return Ok(()) };
    while !shared.stopped() {
        let (kind, body) = reader.next()?;
        outbox.heard.store(shared.now_ms() + 1, Relaxed);
        outbox.received_bytes.fetch_add(body.len() as u64, Relaxed);
        match kind {
            Kind::KeepAlive | Kind::Refused => {}
            Kind::Hello => changed_introduction(shared, peer, &body)?,
            Kind::Messages => {
                let mut messages = codec::decode(body)?;
                messages.retain(|message| message.from == peer);
                (shared.events)(PeerEvent::Messages(peer, messages));
            }
        }
    }
    Ok(())
}

fn changed_introduction(shared: &Shared, peer: NodeId, body: &Bytes) -> io::Result<()> {
    let introduced: Introduction = serde_json::from_slice(body)?;
    let hello = handshake::check(&shared.hello_for(peer), &introduced, Some(peer), &shared.known)
        .map_err(io::Error::other)?;
    (shared.events)(PeerEvent::Hello(hello));
    Ok(())
}
