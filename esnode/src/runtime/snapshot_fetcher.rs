//! Catching up by files: a thread fetches another node's snapshot, and the segments before it, on a connection of its own.
//! What fails is begun again when the replica asks again, and goes on with the pieces that are there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;
use shared::ids::NodeId;

use super::Event;
use crate::net::peer::{Files, Transport};
use crate::process::thread_priority::lower;
use crate::replica::{FetchedSnapshot, Input, Snapshot};
use crate::storage::stats::Stats;
use crate::storage::{Incoming, Log, OfferedSegment, OpenError, ReceivedSegment, Staged, is_full};

/// A snapshot of another node, and the log before it.
#[derive(Debug)]
pub struct Fetched {
    staged: Arc<Staged>,
    snapshot: Box<Snapshot>,
}

impl FetchedSnapshot for Fetched {
    type Staged = Arc<Staged>;

    fn term(&self) -> u64 {
        self.staged.term()
    }

    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn staged(&self) -> Arc<Staged> {
        Arc::clone(&self.staged)
    }

    fn into_snapshot(self) -> Snapshot {
        *self.snapshot
    }
}

/// Why nothing was fetched.
#[derive(Debug)]
enum FetchError {
    /// What another attempt may cure.
    Passing(io::Error),
    /// This node's disk can no longer be trusted.
    Disk(io::Error),
}

/// Fetches snapshots of other nodes.
pub(super) struct SnapshotFetcher {
    pub(super) incoming: Incoming,
    pub(super) transport: Arc<Transport>,
    /// For its figures.
    pub(super) log: Log,
    pub(super) events: Sender<Event>,
}

impl SnapshotFetcher {
    /// Begins to fetch from this node, for one that has applied everything up to `have`.
    pub(super) fn begin(&self, from: NodeId, have: u64) {
        let (incoming, transport) = (self.incoming.clone(), Arc::clone(&self.transport));
        let (log, events) = (self.log.clone(), self.events.clone());
        let fetch = move || {
            lower();
            let event = match fetch(&incoming, &transport, log.stats(), from, have) {
                Ok(fetched) => Event::Input(Input::SnapshotFetched(Some(fetched))),
                Err(FetchError::Passing(error)) => failed(&error),
                Err(FetchError::Disk(error)) => Event::DiskFailed(error),
            };
            log.stats().incoming_bytes.store(0, Relaxed);
            // The raft thread is gone only when the node stops.
            let _ = events.send(event);
        };
        if let Err(error) = thread::Builder::new().name("catch-up".into()).spawn(fetch) {
            let _ = self.events.send(failed(&error));
        }
    }

    /// Removes what an unfinished fetch has left.
    pub(super) fn discard(&self) {
        let incoming = self.incoming.clone();
        thread::spawn(move || {
            if let Err(error) = incoming.discard() {
                tracing::warn!(%error, "cannot remove files of an unfinished catch-up");
            }
        });
    }
}

fn failed(error: &io::Error) -> Event {
    tracing::warn!(%error, "cannot catch up by files; the leader will send this node there again");
    Event::Input(Input::SnapshotFetched(None))
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Passing(error)
    }
}

impl From<OpenError> for FetchError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => disk(error),
            // It was removed, and is received again.
            damaged => Self::Passing(io::Error::other(damaged)),
        }
    }
}

/// An error of this node's disk; a full one may have room again later.
fn disk(error: io::Error) -> FetchError {
    if is_full(&error) { FetchError::Passing(error) } else { FetchError::Disk(error) }
}

/// Gets everything, as far as it is not there already from an earlier attempt.
fn fetch(
    incoming: &Incoming,
    transport: &Transport,
    stats: &Stats,
    from: NodeId,
    have: u64,
) -> Result<Fetched, FetchError> {
    let started = Instant::now();
    let mut files = transport.dial_files(from)?;
    let gone = || io::Error::other("the other node has no snapshot any more that would help");
    let offer = files.ask(have)?.ok_or_else(gone)?;
    let bytes: u64 = offer.segments.iter().map(|piece| piece.length).sum();
    tracing::info!(
        from,
        have,
        to = offer.index,
        bytes,
        segments = offer.segments.len(),
        "catching up by files"
    );
    stats.received_bytes.store(0, Relaxed);
    stats.incoming_bytes.store(bytes, Relaxed);
    incoming.begin(&offer).map_err(disk)?;
    let mut payload = Vec::new();
    files.fetch(None, 0, offer.payload, |piece| {
        payload.extend_from_slice(piece);
        Ok(())
    })?;
    let snapshot = Box::new(Snapshot::decode(&payload).map_err(io::Error::other)?);
    let (received, parts) = receive_all(incoming, &mut files, stats, &offer.segments)?;
    let staged = Arc::new(incoming.complete(&offer, payload.into(), parts)?);
    tracing::info!(received, took = ?started.elapsed(), "the files are here");
    Ok(Fetched { staged, snapshot })
}

/// Gets what is lacking of all segments, and reads each through while the next one comes. Returns how many bytes came.
fn receive_all(
    incoming: &Incoming,
    files: &mut Files,
    stats: &Stats,
    pieces: &[OfferedSegment],
) -> Result<(u64, Vec<ReceivedSegment>), FetchError> {
    thread::scope(|scope| {
        let (mut received, mut parts) = (0, Vec::new());
        let mut last: Option<Checking<'_>> = None;
        for piece in pieces {
            received += receive(incoming, files, stats, *piece)?;
            parts.extend(last.take().map(checked).transpose()?);
            last = Some(scope.spawn(|| {
                lower();
                incoming.check(*piece)
            }));
        }
        parts.extend(last.map(checked).transpose()?);
        Ok((received, parts))
    })
}

/// A segment that is being read through.
type Checking<'scope> = thread::ScopedJoinHandle<'scope, Result<ReceivedSegment, OpenError>>;

fn checked(checking: Checking<'_>) -> Result<ReceivedSegment, FetchError> {
    let ended = checking.join();
    Ok(ended.map_err(|_| {
        io::Error::other("reading a segment through came to no end; the reason stands above")
    })??)
}

/// Gets what is lacking of one segment. Returns how many bytes that was.
fn receive(
    incoming: &Incoming,
    files: &mut Files,
    stats: &Stats,
    piece: OfferedSegment,
) -> Result<u64, FetchError> {
    let mut receiving = incoming.receive(piece).map_err(disk)?;
    let had = receiving.have();
    stats.received_bytes.fetch_add(had, Relaxed);
    let mut failed = None;
    let fetched = files.fetch(Some(piece.generation), had, piece.length, |bytes| {
        stats.received_bytes.fetch_add(bytes.len() as u64, Relaxed);
        receiving.push(bytes).map_err(|error| {
            let kind = error.kind();
            failed = Some(disk(error));
            kind.into()
        })
    });
    match (failed, fetched) {
        (Some(error), _) => Err(error),
        (None, fetched) => Ok(fetched.map(|()| piece.length - had)?),
    }
}
