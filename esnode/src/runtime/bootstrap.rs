//! The raft thread before its node has a cluster.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Event;
use crate::net::peer::{PeerEvent, RefusalCode, Refused};
use crate::replica::{Bootstrap, Bootstrapped, Input, JoinError, decline};

/// Time after which the log says which nodes are waited for, and then again each time.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The result of a fresh node's wait for a cluster.
pub enum JoinOutcome {
    /// It has a cluster.
    Bootstrapped(Bootstrapped),
    /// It was told to stop first.
    Stopped,
}

/// Waits until a fresh node has a cluster.
///
/// # Errors
/// [`JoinError`].
pub fn find_cluster(events: &Receiver<Event>, bootstrap: &mut Bootstrap) -> Result<JoinOutcome, JoinError> {
    let mut log_at = Instant::now() + LOG_INTERVAL;
    while !bootstrap.is_complete() {
        match events.recv_deadline(log_at) {
            Err(RecvTimeoutError::Timeout) => {
                log_at = Instant::now() + LOG_INTERVAL;
                bootstrap.log_absent();
            }
            Err(RecvTimeoutError::Disconnected) | Ok(Event::Input(Input::Stop)) => {
                return Ok(JoinOutcome::Stopped);
            }
            Ok(Event::Peer(event)) => {
                if let Some(joined) = on_peer(bootstrap, event)? {
                    return Ok(JoinOutcome::Bootstrapped(joined));
                }
            }
            Ok(Event::Input(Input::Request(request, waiter))) => waiter.respond(decline(&request)),
            Ok(Event::Input(_) | Event::DiskFailed(_)) => {}
        }
    }
    Ok(JoinOutcome::Bootstrapped(Bootstrapped::New))
}

fn on_peer(bootstrap: &mut Bootstrap, event: PeerEvent) -> Result<Option<Bootstrapped>, JoinError> {
    match event {
        PeerEvent::Hello(hello) => bootstrap.hello(hello)?,
        PeerEvent::Messages(from, messages) => return Ok(bootstrap.messages(from, &messages)),
        PeerEvent::Connected(peer) => bootstrap.registry().connected(peer),
        PeerEvent::Disconnected(peer) => bootstrap.registry().disconnected(peer),
        PeerEvent::Refused(peer, Refused { code: RefusalCode::Removed | RefusalCode::Abandoned, .. }) => {
            bootstrap.refused_as_removed(peer)?;
        }
        PeerEvent::Refused(..) => {}
    }
    Ok(None)
}
