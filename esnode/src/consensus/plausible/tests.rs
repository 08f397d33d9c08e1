//! Each rule alone, then any message whatever given to a real core.

use bytes::Bytes;
use fastrand::Rng;
use shared::spec::RaftTiming;

use super::*;
use crate::consensus::{ConfChange, ConfChangeType, Core, CoreConfig, Durable, ReadFailed, Timing};
use crate::entry::HardState;

/// A follower of term 5 whose log ends at entry 20 of term 4; entry 10 of term 3 is committed.
const PLACE: Place = Place { id: 1, term: 5, leads: false, last_index: 20, committed: (10, 3) };

fn message(kind: MessageType) -> Message {
    Message { kind, from: 2, to: 1, term: 5, ..Message::default() }
}

fn normal(index: u64, term: u64) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: Bytes::from_static(b"x") }
}

fn appends(entries: Vec<Entry>) -> Message {
    Message { index: 20, log_term: 4, commit: 900, entries, ..message(MessageType::Append) }
}

fn sends_there(index: u64, term: u64, members: ConfState) -> Message {
    let snapshot = Some(SnapshotMetadata { index, term, conf_state: members });
    Message { snapshot, ..message(MessageType::Snapshot) }
}

fn voters(voters: &[NodeId]) -> ConfState {
    ConfState { voters: voters.to_vec(), ..ConfState::default() }
}

/// Whether `message`, changed by `change`, is refused.
fn refused(message: &Message, change: impl FnOnce(&mut Message)) -> bool {
    let mut message = message.clone();
    change(&mut message);
    plausible(message, &PLACE).is_err()
}

const KINDS: [MessageType; 9] = [
    MessageType::Append,
    MessageType::AppendResponse,
    MessageType::RequestVote,
    MessageType::RequestVoteResponse,
    MessageType::RequestPreVote,
    MessageType::RequestPreVoteResponse,
    MessageType::Heartbeat,
    MessageType::HeartbeatResponse,
    MessageType::TimeoutNow,
];

#[test]
fn numbers_that_nobody_counts_to_are_refused_in_every_kind() {
    for kind in KINDS {
        let good = message(kind);
        assert!(!refused(&good, |_| {}), "{kind:?}");
        assert!(refused(&good, |m| m.term = u64::MAX), "{kind:?}");
        assert!(refused(&good, |m| m.term = PLACE.term + MAX_TERM_STEP + 1), "{kind:?}");
        assert!(refused(&good, |m| m.term = 0), "{kind:?}: Raft takes it for a message to itself");
        assert!(refused(&good, |m| m.index = u64::MAX), "{kind:?}");
        assert!(refused(&good, |m| m.commit = u64::MAX), "{kind:?}");
        assert!(refused(&good, |m| m.commit_term = u64::MAX), "{kind:?}");
        assert!(refused(&good, |m| m.reject_hint = u64::MAX), "{kind:?}");
        assert!(refused(&good, |m| m.log_term = 6), "{kind:?}");
        assert!(refused(&good, |m| m.from = PLACE.id), "{kind:?}");
        assert!(refused(&good, |m| m.from = 0), "{kind:?}");
        let entries = kind != MessageType::Append;
        assert_eq!(refused(&good, |m| m.entries = vec![normal(1, 1)]), entries, "{kind:?}");
        assert!(refused(&good, |m| m.snapshot = Some(SnapshotMetadata::default())), "{kind:?}");
    }
    assert!(!refused(&message(MessageType::Heartbeat), |m| m.term = PLACE.term + MAX_TERM_STEP));
}

#[test]
fn a_heartbeat_is_taken_without_a_commit_that_cannot_be() {
    let with =
        |commit| plausible(Message { commit, ..message(MessageType::Heartbeat) }, &PLACE).unwrap().commit;
    assert_eq!((with(20), with(21), with(MAX_NUMBER)), (20, 0, 0));
}

#[test]
fn entries_follow_each_other() {
    let good = appends(vec![normal(21, 4), normal(22, 5)]);
    assert!(!refused(&good, |_| {}));
    assert!(refused(&good, |m| m.log_term = 0), "Raft would find that it matches, beyond its log's end");
    assert!(refused(&good, |m| m.index = 0));
    assert!(refused(&good, |m| m.entries[1].index = 24));
    assert!(refused(&good, |m| m.entries[0].index = 22));
    assert!(refused(&good, |m| m.entries[0].index = u64::MAX));
    assert!(refused(&good, |m| m.entries[1].term = 6), "of a term after the message's");
    assert!(refused(&good, |m| m.entries[1].term = 3));
    assert!(refused(&good, |m| m.entries[0].term = 0));
    assert!(refused(&good, |m| m.entries[0].data = vec![0; LARGEST_PAYLOAD + 1].into()));
    assert!(!refused(&good, |m| m.entries[0].data = vec![0; LARGEST_PAYLOAD].into()));
    assert!(refused(&good, |m| m.log_term = 2), "what is committed is in every later leader's log");
    assert!(!refused(&good, |m| (m.log_term, m.term, m.entries) = (2, 4, Vec::new())), "it is an old one");
}

#[test]
fn changes_of_the_members_are_flat_and_of_the_kind_that_is_written() {
    let change = ConfChange { kind: ConfChangeType::AddVoter, node: 9, context: Bytes::new() };
    let with = |kind, data| appends(vec![Entry { kind, data, ..normal(21, 5) }]);
    let data = change.encode();
    assert!(!refused(&with(EntryKind::ConfChange, data.clone()), |_| {}));
    assert!(refused(&with(EntryKind::ConfChangeV2, data), |_| {}));
    assert!(refused(&with(EntryKind::ConfChange, vec![0x0b; 100_000].into()), |_| {}));
}

#[test]
fn nobody_has_more_than_there_is() {
    let answer = Message { index: 21, ..message(MessageType::AppendResponse) };
    let leader = Place { leads: true, ..PLACE };
    assert!(plausible(answer.clone(), &leader).is_err());
    assert!(plausible(Message { index: 20, ..answer.clone() }, &leader).is_ok());
    assert!(
        plausible(Message { term: 6, ..answer.clone() }, &leader).is_ok(),
        "it only says that its term is over"
    );
    assert!(plausible(answer, &PLACE).is_ok(), "nobody counts it");
    for kind in [MessageType::RequestVote, MessageType::RequestPreVote] {
        let vote = Message { index: 30, log_term: 4, commit: 30, commit_term: 4, ..message(kind) };
        assert!(!refused(&vote, |_| {}));
        assert!(refused(&vote, |m| m.commit = 31));
        assert!(refused(&vote, |m| m.commit_term = 5));
    }
}

#[test]
fn a_snapshot_is_of_this_history_and_has_members() {
    let refuses = |index, term, members: ConfState| refused(&sends_there(index, term, members), |_| {});
    assert!(
        !refuses(30, 4, voters(&[1, 2, 3])) && !refuses(10, 3, voters(&[1])) && !refuses(3, 1, voters(&[1]))
    );
    assert!(refused(&message(MessageType::Snapshot), |_| {}), "it names none");
    assert!(refuses(10, 4, voters(&[1])), "another entry is committed there");
    assert!(refuses(0, 1, voters(&[1])) && refuses(MAX_NUMBER + 1, 1, voters(&[1])));
    assert!(refuses(30, 0, voters(&[1])) && refuses(30, 6, voters(&[1])));
    assert!(
        refuses(30, 4, voters(&[])) && refuses(30, 4, voters(&[1, 0])) && refuses(30, 4, voters(&[1, 1]))
    );
    assert!(refuses(30, 4, voters(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])));
    assert!(refuses(30, 4, ConfState { learners: vec![1], ..voters(&[1]) }));
    assert!(refuses(30, 4, ConfState { voters_outgoing: vec![2], ..voters(&[1]) }));
    assert!(refuses(30, 4, ConfState { learners_next: vec![2], ..voters(&[1]) }));
    assert!(refuses(30, 4, ConfState { auto_leave: true, ..voters(&[1]) }));
}

/// A disk that takes everything at once.
#[derive(Clone, Default)]
struct Disk(std::rc::Rc<std::cell::RefCell<Held>>);

#[derive(Default)]
struct Held {
    /// Index and term of what a snapshot stands for.
    base: (u64, u64),
    entries: Vec<Entry>,
}

impl Durable for Disk {
    fn first_index(&self) -> u64 {
        self.0.borrow().base.0 + 1
    }
    fn last_index(&self) -> u64 {
        let held = self.0.borrow();
        held.base.0 + held.entries.len() as u64
    }
    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
        let held = self.0.borrow();
        let found = held.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term);
        Ok(found.or((index == held.base.0).then_some(held.base.1)))
    }
    fn entries(&self, low: u64, high: u64, _max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
        let held = self.0.borrow();
        Ok(held.entries.iter().filter(|entry| (low..high).contains(&entry.index)).cloned().collect())
    }
}

/// One voter of three, and what it holds.
struct Victim {
    core: Core<Disk>,
    disk: Disk,
    state: HardState,
    restored: (u64, u64),
}

impl Victim {
    fn new() -> Self {
        let disk = Disk::default();
        disk.0.borrow_mut().entries = (1..=8)
            .map(|index| Entry {
                index,
                term: index.div_ceil(3),
                kind: EntryKind::Normal,
                data: Bytes::new(),
            })
            .collect();
        let state = HardState { term: 3, vote: 0, commit: 4 };
        let core = Self::start(&disk, state);
        Self { core, disk, state, restored: (0, 0) }
    }

    fn start(disk: &Disk, hard_state: HardState) -> Core<Disk> {
        let applied = disk.0.borrow().base.0;
        let config = CoreConfig {
            id: 1,
            seed: 1,
            timing: Timing::from_spec(&RaftTiming::default()),
            hard_state,
            conf_state: voters(&[1, 2, 3]),
            applied,
            tail_bytes: 0,
        };
        Core::new(config, disk.clone()).unwrap()
    }

    fn perform(&mut self) {
        while let Some(effects) = self.core.effects() {
            if let Some(work) = effects.persist {
                self.state = work.hard_state.unwrap_or(self.state);
                let mut held = self.disk.0.borrow_mut();
                if work.snapshot.is_some() {
                    *held = Held { base: self.restored, entries: Vec::new() };
                }
                if let Some(first) = work.entries.first().map(|entry| entry.index) {
                    held.entries.retain(|entry| entry.index < first);
                    held.entries.extend(work.entries);
                }
                drop(held);
                self.core.persisted(work.number);
                if let Some(index) = work.snapshot {
                    self.core.applied(index);
                }
            }
            for fetch in effects.fetch {
                let found = self.disk.entries(fetch.low, fetch.high, fetch.max_bytes).unwrap();
                self.core.fetched(fetch, found);
            }
            if let Some(last) = effects.committed.last().map(|entry| entry.index) {
                for entry in &effects.committed {
                    let _ = self.core.apply_change(entry);
                }
                self.core.applied(last);
            }
        }
    }
}

/// A number that may hurt: near what the node has, near what nothing can be, or anything.
fn number(random: &mut Rng, near: u64) -> u64 {
    match random.u8(..80) {
        0 => 0,
        1 => u64::MAX - random.u64(..3),
        2 => MAX_NUMBER + 1 - random.u64(..3),
        3 => random.u64(..),
        _ => near.saturating_add(random.u64(..6)).saturating_sub(3),
    }
}

fn forged(random: &mut Rng, place: &Place) -> Message {
    let mut message = Message { from: random.u64(2..5), to: 1, ..Message::default() };
    let kinds = if random.u8(..8) == 0 { &MessageType::ALL[..] } else { &KINDS };
    message.kind = kinds[random.usize(..kinds.len())];
    message.term = if random.u8(..4) > 0 { place.term.max(1) } else { number(random, place.term) };
    let before = random.u64(..3);
    message.log_term = number(random, message.term.saturating_sub(before)).min(u64::MAX - 3);
    let near = if random.bool() { place.last_index } else { place.committed.0 };
    message.index = number(random, near);
    message.commit = number(random, place.last_index);
    message.commit_term = if random.bool() { place.committed.1 } else { number(random, place.committed.1) };
    message.reject = random.bool();
    message.reject_hint = number(random, place.last_index);
    if random.u8(..8) == 0 {
        message.context = b"CampaignTransfer".to_vec().into();
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for _ in 0..random.usize(..4) * usize::from(message.kind == MessageType::Append) {
        index = if random.u8(..20) == 0 { number(random, index) } else { index.wrapping_add(1) };
        term = if random.u8(..8) > 0 { term.max(1) } else { number(random, place.term) };
        let mut entry = normal(index, term);
        if random.u8(..6) == 0 {
            let kinds = [ConfChangeType::AddVoter, ConfChangeType::AddLearner, ConfChangeType::Remove];
            let (kind, node) = (kinds[random.usize(..3)], random.u64(..5));
            entry.data = ConfChange { kind, node, context: Bytes::new() }.encode();
            entry.kind = EntryKind::from_u8(random.u8(1..3)).unwrap();
        }
        message.entries.push(entry);
    }
    if message.kind == MessageType::Snapshot {
        let members = ConfState {
            voters: (0..random.u64(..4)).map(|_| random.u64(..4)).collect(),
            learners: (0..random.u64(..2)).map(|_| random.u64(..5)).collect(),
            ..ConfState::default()
        };
        let there = sends_there(number(random, place.last_index), number(random, place.term), members);
        message.snapshot = there.snapshot;
    }
    message
}

#[test]
fn no_message_whatever_ends_a_node_and_it_starts_again() {
    let count = 1000;
    let mut taken = 0;
    for seed in 0..count {
        let mut random = Rng::with_seed(seed);
        let mut victim = Victim::new();
        for _ in 0..200 {
            for _ in 0..random.u32(..10) {
                victim.core.tick();
            }
            victim.perform();
            let message = forged(&mut random, &victim.core.place());
            victim.restored =
                message.snapshot.as_ref().map_or((0, 0), |metadata| (metadata.index, metadata.term));
            let outcome = victim.core.receive(message);
            taken += u64::from(outcome.is_ok());
            victim.perform();
        }
        assert!(victim.state.term <= MAX_NUMBER, "seed {seed}");
        Victim::start(&victim.disk, victim.state);
    }
    assert!(taken > count * 20, "too few get through to try Raft: {taken}");
}
