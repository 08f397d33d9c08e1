//! When a checkpoint is due, what is in it, and the thread that writes it.
//!
//! The raft thread only copies the state, which is cheap; encoding and the disk are the thread's.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use shared::ids::NodeId;

use super::formats::{Unreadable, readable};
use super::input::Input;
use super::run::Driver;
use crate::consensus::ConfState;
use crate::process::thread_priority::lower;
use crate::state_machine::StateMachine;
use crate::storage::checkpoint::is_full;
use crate::storage::{Checkpoints, Log};

/// Ticks from one checkpoint to the next, at least: a busy node spends its disk on events.
const MIN_TICKS: u64 = 100;
/// Payload of the log between two, at most, in bytes: few large entries are much to replay, and to keep, too.
const MAX_PAYLOAD_BETWEEN: u64 = 256 << 20;
/// The newest content of checkpoints that this program knows.
const FORMAT: u32 = 1;

/// What every entry up to a certain one has led to.
#[derive(Clone, Debug)]
pub struct Image {
    /// The members.
    pub conf_state: ConfState,
    /// The state machine; knows the entry's index.
    pub stream: StateMachine,
}

/// A checkpoint is whole, but its content is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A later version of this program wrote it.
    #[error(
        "the newest checkpoint has content of version {0}; this program knows versions up to {FORMAT}. Start the \
         version of esnode that wrote it, or a later one"
    )]
    Version(u32),
    /// It is of a cluster whose data this program cannot read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is not what this program writes.
    #[error("the content of the newest checkpoint is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// An image as it is stored, in JSON: fields may be added without a new format.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    members: StoredMembers,
    stream: StateMachine,
}

#[derive(Serialize, Deserialize)]
struct StoredMembers {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
    voters_outgoing: Vec<NodeId>,
    learners_next: Vec<NodeId>,
    auto_leave: bool,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Image {
    /// Reads a checkpoint's payload back.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn decode(payload: &[u8]) -> Result<Self, ImageError> {
        let Format { format } = serde_json::from_slice(payload)?;
        if format > FORMAT {
            return Err(ImageError::Version(format));
        }
        let Stored { members, stream, .. } = serde_json::from_slice(payload)?;
        readable(&stream)?;
        let conf_state = ConfState {
            voters: members.voters,
            learners: members.learners,
            voters_outgoing: members.voters_outgoing,
            learners_next: members.learners_next,
            auto_leave: members.auto_leave,
            ..ConfState::default()
        };
        Ok(Self { conf_state, stream })
    }

    fn encode(self) -> io::Result<Vec<u8>> {
        let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave, .. } = self.conf_state;
        let members = StoredMembers { voters, learners, voters_outgoing, learners_next, auto_leave };
        Ok(serde_json::to_vec(&Stored { format: FORMAT, members, stream: self.stream })?)
    }
}

/// The thread, and when it gets its next work.
pub(super) struct Checkpointing {
    interval: u64,
    /// Index of the last one begun.
    last: u64,
    /// Payload of the log up to it.
    last_payload: u64,
    /// No other before this tick.
    not_before: u64,
    /// Somebody waits for the next one.
    hurried: bool,
    /// The one being written: index, term and members.
    under_way: Option<Made>,
    worker: Option<Worker>,
}

/// Index, term and members of a checkpoint.
pub(super) type Made = (u64, u64, ConfState);

/// The thread, and the way to it: terms and images.
struct Worker {
    images: Sender<(u64, Image)>,
    thread: JoinHandle<()>,
}

impl Checkpointing {
    /// Starts the thread. A checkpoint is due every `interval` entries after entry `last`, up to
    /// which there was that much payload.
    pub(super) fn start(
        interval: u64,
        (last, last_payload): (u64, u64),
        checkpoints: Checkpoints,
        log: Log,
        inputs: Sender<Input>,
    ) -> io::Result<Self> {
        let (images, received) = bounded(1);
        let thread = thread::Builder::new().name("checkpoint".into()).spawn(move || {
            lower();
            run(&checkpoints, &log, &received, &inputs);
        })?;
        Ok(Self {
            interval,
            last,
            last_payload,
            not_before: 0,
            hurried: false,
            under_way: None,
            worker: Some(Worker { images, thread }),
        })
    }

    /// Whether it is time for one, with everything up to `applied` applied, which is so much payload.
    pub(super) fn due(&self, tick: u64, applied: u64, payload: u64) -> bool {
        let new = applied.saturating_sub(self.last);
        let much = payload.saturating_sub(self.last_payload) >= MAX_PAYLOAD_BETWEEN;
        let wanted = new >= self.interval || ((much || self.hurried) && new > 0);
        wanted && self.under_way.is_none() && tick >= self.not_before
    }

    /// Hands the image of everything up to its entry, of this term, to the thread.
    pub(super) fn begin(&mut self, tick: u64, term: u64, image: Image) {
        (self.last, self.last_payload) = (image.stream.applied_index(), image.stream.payload());
        self.not_before = tick + MIN_TICKS;
        self.hurried = false;
        let made = (self.last, term, image.conf_state.clone());
        // The thread ends before this one only after it has told why.
        let sent = self.worker.as_ref().is_some_and(|worker| worker.images.try_send((term, image)).is_ok());
        self.under_way = sent.then_some(made);
    }

    /// The thread is ready for another one. Returns the one it has written, if it could.
    pub(super) fn done(&mut self, written: bool) -> Option<Made> {
        self.under_way.take().filter(|_| written)
    }

    /// The next one is due as soon as there is anything new.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether the last one begun is of entry `index`, or of a later one.
    pub(super) fn covers(&self, index: u64) -> bool {
        self.last >= index
    }

    /// There is one from another node, of everything up to entry `index`, which is so much payload.
    pub(super) fn installed(&mut self, index: u64, payload: u64) {
        (self.last, self.last_payload) = (index, payload);
    }
}

impl Drop for Checkpointing {
    /// Waits until the one under way is written: another process may have the directory next.
    fn drop(&mut self) {
        if let Some(Worker { images, thread }) = self.worker.take() {
            drop(images);
            // A panic there was printed.
            drop(thread.join());
        }
    }
}

fn run(checkpoints: &Checkpoints, log: &Log, images: &Receiver<(u64, Image)>, inputs: &Sender<Input>) {
    for (term, image) in images {
        let index = image.stream.applied_index();
        let written = image.encode().and_then(|payload| checkpoints.write(log, index, term, &payload));
        let input = match written {
            Err(error) if is_full(&error) => {
                tracing::warn!(index, %error, "no room for a checkpoint; the next one is tried later");
                Input::Checkpointed(false)
            }
            Err(error) => Input::DiskFailed(error),
            Ok(()) => {
                tracing::debug!(index, "wrote a checkpoint");
                Input::Checkpointed(true)
            }
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
}

impl Driver {
    /// What another node's checkpoint says is the state now.
    pub(super) fn take_over(&mut self, conf_state: ConfState, stream: StateMachine) {
        let index = stream.applied_index();
        tracing::info!(index, "caught up by files");
        *self.parts.stream.write() = stream;
        self.applied = index;
        self.parts.core.applied(index);
        let payload = self.parts.stream.read().payload();
        self.checkpointing.installed(index, payload);
        self.follow_members();
        if let Ok(Some(term)) = self.parts.log.term(index) {
            self.offer_checkpoint((index, term, conf_state));
        }
        self.after_apply(index);
        self.reads.applied(index);
    }

    /// Followers that lack much may be sent to this checkpoint, and Raft lets go of what they then do not need.
    pub(super) fn offer_checkpoint(&mut self, (index, term, conf_state): Made) {
        if self.catch_up.is_taking() {
            // It is of the log that is about to go, whose start must not move meanwhile.
            return;
        }
        self.parts.core.checkpointed(index, term, conf_state);
        let kept = self.parts.log.index_before(self.parts.checkpoints.keep_bytes);
        self.parts.core.compact(kept.saturating_sub(1).min(index));
        // What holds no event that is kept, and is not replayed from this checkpoint, may leave the disk. The checkpoint's
        // own entry stays: whoever is sent there gets the log up to it.
        let needed = self.parts.stream.read().first_needed();
        self.parts.log.retire(needed.min(index));
    }

    pub(super) fn checkpoint_if_due(&mut self) {
        if self.parts.core.wants_checkpoint() {
            self.checkpointing.hurry();
        }
        // Of a node that takes another one's checkpoint, Raft has the members of that one, and the state is the old one.
        if self.catch_up.is_taking()
            || !self.checkpointing.due(self.tick, self.applied, self.parts.stream.read().payload())
        {
            return;
        }
        // Applied is durable, so its term is known.
        if let Ok(Some(term)) = self.parts.log.term(self.applied) {
            let conf_state = self.parts.core.conf_state();
            let stream = self.parts.stream.read().clone();
            self.checkpointing.begin(self.tick, term, Image { conf_state, stream });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let conf_state = ConfState {
            voters: vec![1, 2],
            learners: vec![4],
            voters_outgoing: vec![1, 2, 3],
            learners_next: vec![3],
            auto_leave: true,
            ..ConfState::default()
        };
        Image { conf_state, stream: StateMachine::default() }
    }

    #[test]
    fn an_image_reads_back() {
        let payload = image().encode().unwrap();
        let back = Image::decode(&payload).unwrap();
        assert_eq!(back.conf_state, image().conf_state);
        assert_eq!(back.encode().unwrap(), payload);
    }

    #[test]
    fn later_content_is_told_from_nonsense() {
        let later = Image::decode(br#"{"format":2,"members":"other"}"#).unwrap_err();
        assert!(matches!(later, ImageError::Version(2)));
        assert!(matches!(Image::decode(b"{}").unwrap_err(), ImageError::Malformed(_)));
    }

    #[test]
    fn the_next_is_due_after_the_interval_and_not_while_one_is_written() {
        let mut pace = Checkpointing {
            interval: 10,
            last: 5,
            last_payload: 1,
            not_before: 0,
            hurried: false,
            under_way: None,
            worker: None,
        };
        assert!(!pace.due(0, 14, 1) && pace.due(0, 15, 1));
        assert!(!pace.due(0, 6, MAX_PAYLOAD_BETWEEN) && pace.due(0, 6, 1 + MAX_PAYLOAD_BETWEEN));
        pace.under_way = Some((5, 1, ConfState::default()));
        assert!(!pace.due(0, 15, 1));
        assert_eq!(pace.done(true), Some((5, 1, ConfState::default())));
        pace.begin(7, 1, image());
        assert!(!pace.due(6 + MIN_TICKS, 15, 1) && pace.due(7 + MIN_TICKS, 15, 1));
    }
}
