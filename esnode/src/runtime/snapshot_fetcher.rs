//! Fetches snapshots of other nodes, for a node that is far behind: a thread receives the snapshot and the segments
//! before it on a connection of its own. A failed attempt is repeated when the replica asks again, and continues with
//! the pieces that are there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;
use shared::ids::NodeId;

use super::{Event, stored_batches};
use crate::net::peer::{Files, Transport};
use crate::process::thread_priority::lower;
use crate::replica::{FetchedSnapshot, Input, Snapshot};
use crate::storage::stats::Stats;
use crate::storage::{Incoming, Log, OfferedPack, OfferedSegment, OpenError, Staged, is_full};

/// A snapshot of another node, with the segments before it.
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

/// Why an attempt has failed.
#[derive(Debug)]
enum FetchError {
    /// Another attempt may succeed.
    Passing(io::Error),
    /// This node's disk can no longer be trusted.
    Disk(io::Error),
}

/// Fetches snapshots of other nodes.
pub(super) struct SnapshotFetcher {
    pub(super) incoming: Incoming,
    pub(super) transport: Arc<Transport>,
    /// For its statistics.
    pub(super) log: Log,
    pub(super) events: Sender<Event>,
}

impl SnapshotFetcher {
    /// Begins to fetch from this node. This node has applied everything up to `have`.
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

    /// Deletes what an unfinished attempt has left.
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
            // The damaged file was deleted, and will be received again.
            damaged => Self::Passing(io::Error::other(damaged)),
        }
    }
}

/// Classifies an error of this node's disk. A full disk may have space later.
fn disk(error: io::Error) -> FetchError {
    if is_full(&error) { FetchError::Passing(error) } else { FetchError::Disk(error) }
}

/// Receives everything that an earlier attempt has not received.
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
    let packs = offer.packs.iter().flatten();
    let pieces = offer.segments.iter().chain(packs.map(|pack| &pack.piece));
    let bytes: u64 = pieces.map(|piece| piece.length).sum();
    tracing::info!(
        from,
        have,
        to = offer.index,
        bytes,
        segments = offer.segments.len(),
        packs = offer.packs.as_ref().map_or(0, Vec::len),
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
    let segments = offer.segments.iter().map(|piece| (*piece, piece));
    let (received, parts) =
        receive_all(incoming, &mut files, stats, segments, |piece| incoming.check(*piece))?;
    let packs = offer.packs.iter().flatten().map(|pack| (pack.piece, pack));
    let check = |pack: &OfferedPack| incoming.check_pack(pack, stored_batches::is_intact);
    let (more, packs) = receive_all(incoming, &mut files, stats, packs, check)?;
    let packs = offer.packs.is_some().then_some(packs);
    let staged = Arc::new(incoming.complete(&offer, payload.into(), parts, packs)?);
    tracing::info!(received = received + more, took = ?started.elapsed(), "the files are here");
    Ok(Fetched { staged, snapshot })
}

/// Receives what is missing of all files, and checks each one while the next arrives. Returns the number of bytes
/// received.
fn receive_all<'a, P: Sync + 'a, T: Send>(
    incoming: &Incoming,
    files: &mut Files,
    stats: &Stats,
    pieces: impl Iterator<Item = (OfferedSegment, &'a P)>,
    check: impl Fn(&P) -> Result<T, OpenError> + Sync,
) -> Result<(u64, Vec<T>), FetchError> {
    let check = &check;
    thread::scope(|scope| {
        let (mut received, mut parts) = (0, Vec::new());
        let mut last: Option<Checking<'_, T>> = None;
        for (piece, offered) in pieces {
            received += receive(incoming, files, stats, piece)?;
            parts.extend(last.take().map(checked).transpose()?);
            last = Some(scope.spawn(move || {
                lower();
                check(offered)
            }));
        }
        parts.extend(last.map(checked).transpose()?);
        Ok((received, parts))
    })
}

/// A file that is being checked.
type Checking<'scope, T> = thread::ScopedJoinHandle<'scope, Result<T, OpenError>>;

fn checked<T>(checking: Checking<'_, T>) -> Result<T, FetchError> {
    let ended = checking.join();
    Ok(ended
        .map_err(|_| io::Error::other("reading a file through came to no end; the reason stands above"))??)
}

/// Receives what is missing of one file. Returns the number of bytes received.
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
