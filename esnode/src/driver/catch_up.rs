//! Catching up by files: what a node does that Raft sends to a checkpoint because it is too far behind for entries.
//!
//! The message that sends it says only that there is one. A thread gets the checkpoint and the segments before it from
//! the sender, on a connection of its own; then the message is given to Raft, naming the checkpoint that is there now;
//! and only when Raft agrees does it take its place in the log. Whatever fails is begun again with the next such
//! message, which the leader repeats, and goes on with the pieces that are there.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;
use shared::ids::NodeId;

use super::checkpoints::Image;
use super::input::Input;
use crate::consensus::Message;
use crate::net::peer::{Files, Transport};
use crate::nice::give_way;
use crate::storage::checkpoint::is_full;
use crate::storage::outgoing::Piece;
use crate::storage::{Incoming, OpenError, Staged};

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

/// How far it has come.
#[derive(Default)]
enum State {
    #[default]
    Idle,
    Pulling,
    /// Everything is there; Raft was asked to take it or not yet.
    Ready(Pulled, Asked),
    /// The writer puts it in its place, as the work of this number.
    Installing(u64, Box<Image>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

/// A node's way back from far behind.
pub(super) struct CatchUp {
    incoming: Incoming,
    transport: Arc<Transport>,
    inputs: Sender<Input>,
    state: State,
    /// The latest message that sent this node to a checkpoint.
    latest: Option<Message>,
}

impl CatchUp {
    pub(super) fn new(incoming: Incoming, transport: Arc<Transport>, inputs: Sender<Input>) -> Self {
        Self { incoming, transport, inputs, state: State::Idle, latest: None }
    }

    /// Raft sends this node, which has applied everything up to `have`, to a checkpoint. Returns the message to give to
    /// Raft when everything it needs is there.
    pub(super) fn sent(&mut self, message: Message, have: u64) -> Option<Message> {
        let from = message.from;
        self.latest = Some(message);
        match &self.state {
            State::Pulling | State::Installing(..) => None,
            State::Ready(..) => self.ask(have).or_else(|| self.begin(from, have)),
            State::Idle => self.begin(from, have),
        }
    }

    /// The thread is done. Returns the message to give to Raft now, if it stands in `term` still.
    pub(super) fn pulled(&mut self, pulled: io::Result<Pulled>, have: u64, term: u64) -> Option<Message> {
        self.state = match pulled {
            Ok(pulled) => State::Ready(pulled, Asked::No),
            Err(error) => {
                tracing::warn!(%error, "cannot catch up by files; the leader will send this node there again");
                State::Idle
            }
        };
        self.latest.as_ref().filter(|latest| latest.term == term)?;
        self.ask(have)
    }

    /// The message with what is there, to be given to Raft once; what Raft has not taken then is of no use.
    fn ask(&mut self, have: u64) -> Option<Message> {
        let State::Ready(pulled, asked) = &mut self.state else { return None };
        if pulled.staged.index() <= have || *asked == Asked::Yes {
            self.state = State::Idle;
            return None;
        }
        *asked = Asked::Yes;
        let mut message = self.latest.clone()?;
        let metadata = message.mut_snapshot().mut_metadata();
        metadata.index = pulled.staged.index();
        metadata.term = pulled.staged.term();
        metadata.set_conf_state(pulled.image.conf_state.clone());
        Some(message)
    }

    /// Raft takes it: what the writer is to install, as the work of this number.
    pub(super) fn install(&mut self, number: u64) -> Option<Arc<Staged>> {
        let State::Ready(pulled, _) = std::mem::take(&mut self.state) else { return None };
        let Pulled { staged, image } = pulled;
        self.state = State::Installing(number, image);
        Some(staged)
    }

    /// Work up to `number` is durable: what the state is then, if that was the installation.
    pub(super) fn installed(&mut self, number: u64) -> Option<Image> {
        if !matches!(self.state, State::Installing(install, _) if install <= number) {
            return None;
        }
        match std::mem::take(&mut self.state) {
            State::Installing(_, image) => Some(*image),
            _ => None,
        }
    }

    /// Whether the writer is putting another node's segments in their place.
    pub(super) fn is_installing(&self) -> bool {
        matches!(self.state, State::Installing(..))
    }

    /// Clears away what an earlier life of this node has left, if nobody has sent it to a checkpoint since.
    pub(super) fn discard_if_unneeded(&self) {
        if self.latest.is_none() {
            let incoming = self.incoming.clone();
            thread::spawn(move || {
                if let Err(error) = incoming.discard() {
                    tracing::warn!(%error, "cannot remove files of an unfinished catch-up");
                }
            });
        }
    }

    fn begin(&mut self, from: NodeId, have: u64) -> Option<Message> {
        let (incoming, transport) = (self.incoming.clone(), Arc::clone(&self.transport));
        let inputs = self.inputs.clone();
        let pull = move || {
            give_way();
            let input = match pull(&incoming, &transport, from, have) {
                Ok(pulled) => Input::Pulled(Ok(pulled)),
                Err(PullError::Passing(error)) => Input::Pulled(Err(error)),
                Err(PullError::Disk(error)) => Input::DiskFailed(error),
            };
            // The raft thread is gone only when the node stops.
            let _ = inputs.send(input);
        };
        match thread::Builder::new().name("catch-up".into()).spawn(pull) {
            Ok(_) => self.state = State::Pulling,
            Err(error) => tracing::warn!(%error, "cannot begin to catch up"),
        }
        None
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
fn pull(incoming: &Incoming, transport: &Transport, from: NodeId, have: u64) -> Result<Pulled, PullError> {
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
    incoming.begin(&offer).map_err(disk)?;
    let mut payload = Vec::new();
    files.fetch(None, 0, offer.payload, |piece| {
        payload.extend_from_slice(piece);
        Ok(())
    })?;
    let image = Box::new(Image::decode(&payload).map_err(io::Error::other)?);
    let mut parts = Vec::new();
    let mut received = 0;
    for piece in &offer.segments {
        received += receive(incoming, &mut files, *piece)?;
        parts.push(incoming.check(*piece)?);
    }
    let staged = Arc::new(incoming.complete(&offer, payload.into(), parts)?);
    tracing::info!(received, took = ?started.elapsed(), "the files are here");
    Ok(Pulled { staged, image })
}

/// Gets what is lacking of one segment. Returns how many bytes that was.
fn receive(incoming: &Incoming, files: &mut Files, piece: Piece) -> Result<u64, PullError> {
    let mut receiving = incoming.receive(piece).map_err(disk)?;
    let had = receiving.have();
    let mut failed = None;
    let fetched = files.fetch(Some(piece.generation), had, piece.length, |bytes| {
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

/// Whether Raft sends its receiver to a checkpoint with this message.
pub(super) fn is_sent_there(message: &Message) -> bool {
    message.get_msg_type() == raft::eraftpb::MessageType::MsgSnapshot
}
