//! How a peer's connection is refused, and the proof without which it is.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use shared::ids::NodeId;
use tracing::warn;

use super::frame::write_frames;
use super::handshake::unproven;
use super::link::Link;
use super::refused::Refused;
use super::shared_state::Shared;

/// Tells the other side, and the log once.
pub fn refuse(shared: &Shared, stream: &TcpStream, peer: NodeId, refused: Refused) -> io::Error {
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
pub fn await_proof(
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
