//! Catching up by files: the thread that pulls what Raft sends this node to, and what becomes of it.
//!
//! A thread gets the checkpoint and the segments before it from the sender, on a connection of its own; [`WayBack`] says
//! when. Whatever fails is begun again, and goes on with the pieces that are there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;
use shared::ids::NodeId;

use super::checkpoints::Image;
use super::input::Input;
use super::way_back::{Content, Step, WayBack};
use crate::consensus::{ConfState, Message};
use crate::net::peer::{Files, Transport};
use crate::process::thread_priority::lower;
use crate::storage::checkpoint::is_full;
use crate::storage::outgoing::Piece;
use crate::storage::stats::Stats;
use crate::storage::{Incoming, Log, OpenError, Part, Staged};

/// What was got.
#[derive(Debug)]
pub struct Pulled {
    staged: Arc<Staged>,
    image: Box<Image>,
}

/// Why nothing was got.
#[derive(Debug)]
enum PullError {
    /// What another attempt may cure.
    Passing(io::Error),
    /// This node's disk can no longer be trusted.
    Disk(io::Error),
}

/// A node's way back from far behind.
pub(super) struct CatchUp {
    incoming: Incoming,
    transport: Arc<Transport>,
    /// For its figures.
    log: Log,
    inputs: Sender<Input>,
    way: WayBack<Pulled>,
}

impl Content for Pulled {
    fn index(&self) -> u64 {
        self.staged.index()
    }
    fn term(&self) -> u64 {
        self.staged.term()
    }
    fn conf_state(&self) -> &ConfState {
        &self.image.conf_state
    }
}

impl CatchUp {
    pub(super) fn new(
        incoming: Incoming,
        transport: Arc<Transport>,
        log: Log,
        inputs: Sender<Input>,
    ) -> Self {
        Self { incoming, transport, log, inputs, way: WayBack::default() }
    }

    /// Raft sends this node, which has applied everything up to `have`, to a checkpoint. Returns the message to give to
    /// Raft when everything it needs is there.
    pub(super) fn sent(&mut self, message: Message, have: u64) -> Option<Message> {
        match self.way.sent(message, have) {
            Step::Wait => None,
            Step::Give(message) => Some(*message),
            Step::Pull(from) => {
                self.begin(from, have);
                None
            }
        }
    }

    /// The thread is done. Returns the message to give to Raft now, if it stands in `term` still.
    pub(super) fn pulled(&mut self, pulled: io::Result<Pulled>, have: u64, term: u64) -> Option<Message> {
        let pulled = pulled.inspect_err(|error| {
            tracing::warn!(%error, "cannot catch up by files; the leader will send this node there again");
        });
        self.way.pulled(pulled.ok(), have, term)
    }

    /// Raft takes it: what the writer is to install, as the work of this number, and the on-disk format that it is in.
    pub(super) fn install(&mut self, number: u64) -> Option<(Arc<Staged>, u16)> {
        self.way.install(number).map(|pulled| (pulled.staged.clone(), pulled.image.stream.format()))
    }

    /// All of Raft's effects are performed.
    pub(super) fn answered(&mut self) {
        self.way.answered();
    }

    /// Work up to `number` is durable: what the state is then, if that was the installation.
    pub(super) fn installed(&mut self, number: u64) -> Option<Image> {
        self.way.installed(number).map(|pulled| *pulled.image)
    }

    /// Whether another node's checkpoint and segments are about to take the place of what is here.
    pub(super) fn is_taking(&self) -> bool {
        self.way.is_taking()
    }

    /// Clears away what an earlier life of this node has left, if nobody has sent it to a checkpoint since.
    pub(super) fn discard_if_unneeded(&self) {
        if !self.way.was_sent() {
            let incoming = self.incoming.clone();
            thread::spawn(move || {
                if let Err(error) = incoming.discard() {
                    tracing::warn!(%error, "cannot remove files of an unfinished catch-up");
                }
            });
        }
    }

    fn begin(&mut self, from: NodeId, have: u64) {
        let (incoming, transport) = (self.incoming.clone(), Arc::clone(&self.transport));
        let (log, inputs) = (self.log.clone(), self.inputs.clone());
        let pull = move || {
            lower();
            let input = match pull(&incoming, &transport, log.stats(), from, have) {
                Ok(pulled) => Input::Pulled(Ok(pulled)),
                Err(PullError::Passing(error)) => Input::Pulled(Err(error)),
                Err(PullError::Disk(error)) => Input::DiskFailed(error),
            };
            log.stats().incoming_bytes.store(0, Relaxed);
            // The raft thread is gone only when the node stops.
            let _ = inputs.send(input);
        };
        if let Err(error) = thread::Builder::new().name("catch-up".into()).spawn(pull) {
            // Nothing came of it: the next message begins again.
            self.pulled(Err(error), have, 0);
        }
    }
}

impl From<io::Error> for PullError {
    fn from(error: io::Error) -> Self {
        Self::Passing(error)
    }
}

impl From<OpenError> for PullError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => disk(error),
            // It was removed, and is received again.
            damaged => Self::Passing(io::Error::other(damaged)),
        }
    }
}

/// An error of this node's disk; a full one may have room again later.
fn disk(error: io::Error) -> PullError {
    if is_full(&error) { PullError::Passing(error) } else { PullError::Disk(error) }
}

/// Gets everything, as far as it is not there already from an earlier attempt.
fn pull(
    incoming: &Incoming,
    transport: &Transport,
    stats: &Stats,
    from: NodeId,
    have: u64,
) -> Result<Pulled, PullError> {
    let started = Instant::now();
    let mut files = transport.dial_files(from)?;
    let gone = || io::Error::other("the other node has no checkpoint any more that would help");
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
    let image = Box::new(Image::decode(&payload).map_err(io::Error::other)?);
    let (received, parts) = receive_all(incoming, &mut files, stats, &offer.segments)?;
    let staged = Arc::new(incoming.complete(&offer, payload.into(), parts)?);
    tracing::info!(received, took = ?started.elapsed(), "the files are here");
    Ok(Pulled { staged, image })
}

/// Gets what is lacking of all segments, and reads each through while the next one comes. Returns how many bytes came.
fn receive_all(
    incoming: &Incoming,
    files: &mut Files,
    stats: &Stats,
    pieces: &[Piece],
) -> Result<(u64, Vec<Part>), PullError> {
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
type Checking<'scope> = thread::ScopedJoinHandle<'scope, Result<Part, OpenError>>;

fn checked(checking: Checking<'_>) -> Result<Part, PullError> {
    let ended = checking.join();
    Ok(ended.map_err(|_| {
        io::Error::other("reading a segment through came to no end; the reason stands above")
    })??)
}

/// Gets what is lacking of one segment. Returns how many bytes that was.
fn receive(incoming: &Incoming, files: &mut Files, stats: &Stats, piece: Piece) -> Result<u64, PullError> {
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
