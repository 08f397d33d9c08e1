//! What a node does with the messages that send it to a checkpoint, because it is too far behind for entries.
//!
//! Such a message says only that there is a checkpoint. What it stands for is pulled from the sender first; then the
//! message is given to Raft, naming the checkpoint that is there now; and only when Raft agrees is it installed. Whatever
//! fails is begun again with the next such message, which the leader repeats. Touches nothing, so the simulator runs it.

use shared::ids::NodeId;

use crate::consensus::{ConfState, Message, MessageType, SnapshotMetadata};

/// A checkpoint that was pulled, and the log before it.
pub trait Content {
    /// Its entry.
    fn index(&self) -> u64;
    /// The entry's term.
    fn term(&self) -> u64;
    /// The members as of it.
    fn conf_state(&self) -> &ConfState;
}

/// What to do about a message.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is being done.
    Wait,
    /// Pull from this node, then call [`WayBack::pulled`].
    Pull(NodeId),
    /// Give this one to Raft, in place of the one that came.
    Give(Box<Message>),
}

/// How far it has come.
#[derive(Default)]
enum State<P> {
    #[default]
    Idle,
    Pulling,
    /// Everything is there, but it came when Raft stood in another term than the message.
    Ready(P),
    /// Raft was asked to take it; what it makes of that is in its next effects.
    Asked(P),
    /// It is put in its place, as the work of this number.
    Installing(u64, P),
}

/// A node's way back from far behind.
pub struct WayBack<P> {
    state: State<P>,
    /// The latest message that sent this node to a checkpoint.
    latest: Option<Message>,
}

impl<P> Default for WayBack<P> {
    fn default() -> Self {
        Self { state: State::Idle, latest: None }
    }
}

/// Whether Raft sends its receiver to a checkpoint with this message.
pub fn is_sent_there(message: &Message) -> bool {
    message.kind == MessageType::Snapshot
}

impl<P: Content> WayBack<P> {
    /// Raft sends this node, which has applied everything up to `have`, to a checkpoint.
    pub fn sent(&mut self, message: Message, have: u64) -> Step {
        if message.snapshot.as_ref().map_or(0, |metadata| metadata.index) <= have {
            // It has that already, and its word of it was lost. Raft says it again; nothing else would until the sender's
            // next checkpoint.
            return Step::Give(Box::new(message));
        }
        let from = message.from;
        self.latest = Some(message);
        match std::mem::take(&mut self.state) {
            State::Ready(pulled) if pulled.index() > have => {
                self.ask(pulled).map_or(Step::Wait, |message| Step::Give(Box::new(message)))
            }
            State::Idle | State::Ready(_) => {
                self.state = State::Pulling;
                Step::Pull(from)
            }
            // What Raft was asked to take must be at hand when it does.
            busy @ (State::Pulling | State::Asked(_) | State::Installing(..)) => {
                self.state = busy;
                Step::Wait
            }
        }
    }

    /// The pull is over; `None`: nothing came of it. Returns the message to give to Raft now, if it stands in `term` still.
    pub fn pulled(&mut self, pulled: Option<P>, have: u64, term: u64) -> Option<Message> {
        self.state = State::Idle;
        let pulled = pulled.filter(|pulled| pulled.index() > have)?;
        if self.latest.as_ref().is_some_and(|latest| latest.term == term) {
            return self.ask(pulled);
        }
        self.state = State::Ready(pulled);
        None
    }

    fn ask(&mut self, pulled: P) -> Option<Message> {
        let mut message = self.latest.clone()?;
        let (index, term, conf_state) = (pulled.index(), pulled.term(), pulled.conf_state().clone());
        message.snapshot = Some(SnapshotMetadata { index, term, conf_state });
        self.state = State::Asked(pulled);
        Some(message)
    }

    /// Raft takes it: what is to be installed, as the work of this number.
    pub fn install(&mut self, number: u64) -> Option<&P> {
        let State::Asked(pulled) = std::mem::take(&mut self.state) else { return None };
        self.state = State::Installing(number, pulled);
        match &self.state {
            State::Installing(_, pulled) => Some(pulled),
            _ => None,
        }
    }

    /// All of Raft's effects are performed: what it has not taken by now is of no use.
    pub fn answered(&mut self) {
        if matches!(self.state, State::Asked(_)) {
            self.state = State::Idle;
        }
    }

    /// Work up to `number` is durable: what this node is at now, if that was the installation.
    pub fn installed(&mut self, number: u64) -> Option<P> {
        match std::mem::take(&mut self.state) {
            State::Installing(install, pulled) if install <= number => Some(pulled),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Whether Raft was asked to take a checkpoint, or it is being installed: the members may be those of that checkpoint
    /// already, while log and state are still the old ones.
    pub fn is_taking(&self) -> bool {
        matches!(self.state, State::Asked(_) | State::Installing(..))
    }

    /// Whether this node was ever sent to a checkpoint.
    pub fn was_sent(&self) -> bool {
        self.latest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pulled(u64, ConfState);

    impl Content for Pulled {
        fn index(&self) -> u64 {
            self.0
        }
        fn term(&self) -> u64 {
            3
        }
        fn conf_state(&self) -> &ConfState {
            &self.1
        }
    }

    fn pulled(index: u64) -> Option<Pulled> {
        Some(Pulled(index, ConfState { voters: vec![1, 2, 9], ..ConfState::default() }))
    }

    fn message(term: u64) -> Message {
        let snapshot = Some(SnapshotMetadata { index: 60, ..SnapshotMetadata::default() });
        Message { kind: MessageType::Snapshot, from: 2, to: 1, term, snapshot, ..Message::default() }
    }

    #[test]
    fn raft_is_asked_to_take_what_was_pulled_not_what_the_message_named() {
        let mut way = WayBack::default();
        assert!(matches!(way.sent(message(4), 10), Step::Pull(2)));
        assert!(matches!(way.sent(message(4), 10), Step::Wait));
        assert!(!way.is_taking());
        let asked = way.pulled(pulled(70), 10, 4).unwrap();
        assert!(way.is_taking(), "its members are no longer those of its state");
        let metadata = asked.snapshot.unwrap();
        assert_eq!((metadata.index, metadata.term), (70, 3));
        assert_eq!(metadata.conf_state.voters, [1, 2, 9]);
        assert_eq!(way.install(8).map(Content::index), Some(70));
        way.answered();
        assert!(way.is_taking() && way.installed(7).is_none() && way.installed(9).is_some());
        assert!(!way.is_taking());
    }

    #[test]
    fn another_message_does_not_take_away_what_raft_was_just_asked_to_take() {
        let mut way = WayBack::default();
        way.sent(message(4), 10);
        assert!(way.pulled(pulled(70), 10, 4).is_some());
        assert!(matches!(way.sent(message(4), 10), Step::Wait));
        assert!(way.install(8).is_some(), "Raft takes it for granted that this is written");
    }

    #[test]
    fn what_raft_refuses_or_has_is_pulled_again() {
        let mut way = WayBack::default();
        way.sent(message(4), 10);
        assert!(way.pulled(pulled(70), 10, 4).is_some());
        way.answered();
        assert!(matches!(way.sent(message(4), 10), Step::Pull(2)));
        assert!(way.pulled(pulled(70), 70, 4).is_none());
        assert!(matches!(way.sent(message(4), 10), Step::Pull(2)));
        assert!(way.pulled(None, 10, 4).is_none());
        assert!(matches!(way.sent(message(4), 10), Step::Pull(2)));
    }

    #[test]
    fn a_leader_that_does_not_know_how_far_the_node_is_hears_it_from_raft() {
        let mut way = WayBack::<Pulled>::default();
        assert!(matches!(way.sent(message(4), 59), Step::Pull(2)));
        let Step::Give(message) = way.sent(message(4), 60) else { panic!("there is nothing to pull") };
        assert_eq!(message.snapshot.unwrap().index, 60);
    }

    #[test]
    fn what_comes_in_another_term_waits_for_the_next_message() {
        let mut way = WayBack::default();
        way.sent(message(4), 10);
        assert!(way.pulled(pulled(70), 10, 5).is_none());
        let Step::Give(asked) = way.sent(message(5), 10) else { panic!("it is there") };
        assert_eq!(asked.term, 5);
    }
}
