//! What a node does with messages that name a snapshot, because it is too far behind for entries.
//!
//! Such a message says only that there is a snapshot. The sender's newest one is fetched first; then the message is given to
//! Raft, naming the snapshot that was fetched; and only when Raft agrees is that installed. Whatever fails is begun again
//! with the next such message, which the leader repeats.

use shared::ids::NodeId;

use super::environment::FetchedSnapshot;
use crate::consensus::{Message, MessageType, SnapshotMetadata};

/// What to do about a message.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: it is being done.
    Wait,
    /// Fetch a snapshot from this node, then call [`SnapshotInstaller::fetched`].
    Fetch(NodeId),
    /// Give this message to Raft, in place of the one that came.
    Receive(Box<Message>),
}

/// How far it has come.
#[derive(Default)]
enum State<F> {
    #[default]
    Idle,
    Fetching,
    /// The snapshot is here, but it came when Raft stood in another term than the message.
    Ready(F),
    /// Raft was asked to take it; what it makes of that is in its next effects.
    Asked(F),
    /// It is being put in its place, by the write of this number.
    Installing(u64, F),
}

/// Brings a node that is far behind to another one's snapshot.
pub(super) struct SnapshotInstaller<F> {
    state: State<F>,
    /// The latest message that named a snapshot.
    latest: Option<Message>,
}

impl<F> Default for SnapshotInstaller<F> {
    fn default() -> Self {
        Self { state: State::Idle, latest: None }
    }
}

/// Whether the message names a snapshot for its receiver.
pub(super) fn names_snapshot(message: &Message) -> bool {
    message.kind == MessageType::Snapshot
}

impl<F: FetchedSnapshot> SnapshotInstaller<F> {
    /// A message names a snapshot for this node, which has applied everything up to `have`.
    pub(super) fn named(&mut self, message: Message, have: u64) -> Next {
        if message.snapshot.as_ref().map_or(0, |metadata| metadata.index) <= have {
            // This node has that already, and its word of it was lost. Raft says it again; nothing else would until the
            // sender's next snapshot.
            return Next::Receive(Box::new(message));
        }
        let from = message.from;
        self.latest = Some(message);
        match std::mem::take(&mut self.state) {
            State::Ready(fetched) if fetched.index() > have => {
                self.ask(fetched).map_or(Next::Wait, |message| Next::Receive(Box::new(message)))
            }
            State::Idle | State::Ready(_) => {
                self.state = State::Fetching;
                Next::Fetch(from)
            }
            // What Raft was asked to take must be at hand when it does.
            busy @ (State::Fetching | State::Asked(_) | State::Installing(..)) => {
                self.state = busy;
                Next::Wait
            }
        }
    }

    /// The fetch has ended, with a snapshot or without. Returns the message to give to Raft now, if it stands in `term`
    /// still.
    pub(super) fn fetched(&mut self, fetched: Option<F>, have: u64, term: u64) -> Option<Message> {
        self.state = State::Idle;
        let fetched = fetched.filter(|fetched| fetched.index() > have)?;
        if self.latest.as_ref().is_some_and(|latest| latest.term == term) {
            return self.ask(fetched);
        }
        self.state = State::Ready(fetched);
        None
    }

    fn ask(&mut self, fetched: F) -> Option<Message> {
        let mut message = self.latest.clone()?;
        let (index, term) = (fetched.index(), fetched.term());
        let conf_state = fetched.snapshot().conf_state.clone();
        message.snapshot = Some(SnapshotMetadata { index, term, conf_state });
        self.state = State::Asked(fetched);
        Some(message)
    }

    /// Raft takes the snapshot: what is to be installed by the write of this number.
    pub(super) fn install(&mut self, number: u64) -> Option<&F> {
        let State::Asked(fetched) = std::mem::take(&mut self.state) else { return None };
        self.state = State::Installing(number, fetched);
        match &self.state {
            State::Installing(_, fetched) => Some(fetched),
            _ => None,
        }
    }

    /// Raft has no more effects: what it has not taken by now is of no use.
    pub(super) fn answered(&mut self) {
        if matches!(self.state, State::Asked(_)) {
            self.state = State::Idle;
        }
    }

    /// All writes up to `number` are durable. Returns what this node is at now, if one of them was the installation.
    pub(super) fn installed(&mut self, number: u64) -> Option<F> {
        match std::mem::take(&mut self.state) {
            State::Installing(install, fetched) if install <= number => Some(fetched),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Whether Raft was asked to take a snapshot, or it is being installed: the members may be those of that snapshot
    /// already, while log and state are still the old ones.
    pub(super) fn is_installing(&self) -> bool {
        matches!(self.state, State::Asked(_) | State::Installing(..))
    }

    /// Whether a message has ever named a snapshot.
    pub(super) fn was_named(&self) -> bool {
        self.latest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::consensus::ConfState;
    use crate::replica::Snapshot;
    use crate::state_machine::StateMachine;

    struct Fetched(Snapshot);

    impl FetchedSnapshot for Fetched {
        type Staged = ();

        fn term(&self) -> u64 {
            3
        }

        fn snapshot(&self) -> &Snapshot {
            &self.0
        }

        fn staged(&self) {}

        fn into_snapshot(self) -> Snapshot {
            self.0
        }
    }

    fn fetched(index: u64) -> Option<Fetched> {
        let conf_state = ConfState { voters: vec![1, 2, 9], ..ConfState::default() };
        let mut state = StateMachine::default();
        state.apply(index, 3, &Bytes::new());
        Some(Fetched(Snapshot { conf_state, state }))
    }

    fn message(term: u64) -> Message {
        let snapshot = Some(SnapshotMetadata { index: 60, ..SnapshotMetadata::default() });
        Message { kind: MessageType::Snapshot, from: 2, to: 1, term, snapshot, ..Message::default() }
    }

    #[test]
    fn raft_is_asked_to_take_what_was_fetched_not_what_the_message_named() {
        let mut installer = SnapshotInstaller::<Fetched>::default();
        assert!(matches!(installer.named(message(4), 10), Next::Fetch(2)));
        assert!(matches!(installer.named(message(4), 10), Next::Wait));
        assert!(!installer.is_installing());
        let asked = installer.fetched(fetched(70), 10, 4).unwrap();
        assert!(installer.is_installing(), "its members are no longer those of its state");
        let metadata = asked.snapshot.unwrap();
        assert_eq!((metadata.index, metadata.term), (70, 3));
        assert_eq!(metadata.conf_state.voters, [1, 2, 9]);
        assert_eq!(installer.install(8).map(FetchedSnapshot::index), Some(70));
        installer.answered();
        assert!(
            installer.is_installing() && installer.installed(7).is_none() && installer.installed(9).is_some()
        );
        assert!(!installer.is_installing());
    }

    #[test]
    fn another_message_does_not_take_away_what_raft_was_just_asked_to_take() {
        let mut installer = SnapshotInstaller::<Fetched>::default();
        installer.named(message(4), 10);
        assert!(installer.fetched(fetched(70), 10, 4).is_some());
        assert!(matches!(installer.named(message(4), 10), Next::Wait));
        assert!(installer.install(8).is_some(), "Raft takes it for granted that this is written");
    }

    #[test]
    fn what_raft_refuses_or_has_is_fetched_again() {
        let mut installer = SnapshotInstaller::<Fetched>::default();
        installer.named(message(4), 10);
        assert!(installer.fetched(fetched(70), 10, 4).is_some());
        installer.answered();
        assert!(matches!(installer.named(message(4), 10), Next::Fetch(2)));
        assert!(installer.fetched(fetched(70), 70, 4).is_none());
        assert!(matches!(installer.named(message(4), 10), Next::Fetch(2)));
        assert!(installer.fetched(None, 10, 4).is_none());
        assert!(matches!(installer.named(message(4), 10), Next::Fetch(2)));
    }

    #[test]
    fn a_leader_that_does_not_know_how_far_the_node_is_hears_it_from_raft() {
        let mut installer = SnapshotInstaller::<Fetched>::default();
        assert!(matches!(installer.named(message(4), 59), Next::Fetch(2)));
        let Next::Receive(message) = installer.named(message(4), 60) else {
            panic!("there is nothing to fetch")
        };
        assert_eq!(message.snapshot.unwrap().index, 60);
    }

    #[test]
    fn what_comes_in_another_term_waits_for_the_next_message() {
        let mut installer = SnapshotInstaller::<Fetched>::default();
        installer.named(message(4), 10);
        assert!(installer.fetched(fetched(70), 10, 5).is_none());
        let Next::Receive(asked) = installer.named(message(5), 10) else { panic!("it is there") };
        assert_eq!(asked.term, 5);
    }
}
