//! Tests of the machine alone, fed by hand.

use shared::spec::RaftTiming;

use super::*;
use crate::consensus::{ConfChangeType, ReadFailed};
use crate::entry::EntryKind;

/// What was durable before the start.
struct Old(Vec<Entry>);

impl Durable for Old {
    fn first_index(&self) -> u64 {
        1
    }
    fn last_index(&self) -> u64 {
        self.0.len() as u64
    }
    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
        let found = self.0.iter().find(|entry| entry.index == index).map(|entry| entry.term);
        Ok(found.or((index == 0).then_some(0)))
    }
    fn entries(&self, low: u64, high: u64, _max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
        Ok(self.0.iter().filter(|entry| (low..high).contains(&entry.index)).cloned().collect())
    }
}

fn follower() -> Core<Old> {
    started(Vec::new())
}

/// One of three voters, with this log and no commit index.
fn started(log: Vec<Entry>) -> Core<Old> {
    let config = CoreConfig {
        id: 1,
        seed: 1,
        timing: Timing::from_spec(&RaftTiming::default()),
        hard_state: HardState::default(),
        conf_state: ConfState { voters: vec![1, 2, 3], ..ConfState::default() },
        applied: 0,
        tail_bytes: 0,
    };
    Core::new(config, Old(log)).unwrap()
}

fn empty(index: u64, term: u64) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: Bytes::new() }
}

/// A message of node 2.
fn message(kind: MessageType, term: u64) -> Message {
    Message { kind, from: 2, to: 1, term, ..Message::default() }
}

#[test]
fn the_commit_index_is_not_written_ahead_of_the_entries_that_it_covers() {
    let mut core = follower();
    let entries = (1..=2).map(|index| empty(index, 1)).collect();
    let append = Message { commit: 2, entries, ..message(MessageType::Append, 1) };
    core.receive(append).unwrap();
    let work = core.effects().and_then(|effects| effects.persist).unwrap();
    assert_eq!(work.entries.len(), 2);
    assert_eq!(work.hard_state, Some(HardState { term: 1, vote: 0, commit: 0 }));
}

#[test]
fn a_follower_that_misses_entries_says_how_far_behind_it_is() {
    let mut core = follower();
    let append = Message { commit: 900, index: 800, log_term: 1, ..message(MessageType::Append, 1) };
    core.receive(append).unwrap();
    assert_eq!((core.status().commit, core.status().applied), (900, 0));
}

#[test]
fn quiet_ticks_do_nothing_and_the_next_one_acts() {
    let mut core = follower();
    let quiet = core.quiet_ticks();
    assert!(quiet >= 15, "{quiet}");
    (0..quiet).for_each(|_| core.tick());
    assert!(core.effects().is_none());
    assert_eq!(core.quiet_ticks(), 0);
    core.tick();
    assert!(!core.effects().expect("a campaign").send.is_empty());
}

#[test]
fn the_disk_is_waited_for_while_it_does_not_get_on() {
    let mut core = follower();
    let mut write = |index: u64, ticks: u32| {
        let (log_term, entries) = (u64::from(index > 1), vec![empty(index, 1)]);
        let append = Message { index: index - 1, log_term, entries, ..message(MessageType::Append, 1) };
        core.receive(append).unwrap();
        let number = core.effects().and_then(|effects| effects.persist).unwrap().number;
        (0..ticks).for_each(|_| core.tick());
        (number, core.disk_wait())
    };
    let ((first, one), (second, both)) = (write(1, 4), write(2, 5));
    assert_eq!((one, both), (4, 9));
    core.persisted(first);
    core.tick();
    assert_eq!(core.disk_wait(), 1, "the second one has waited for longer, but the disk works");
    core.persisted(second);
    core.tick();
    assert_eq!(core.disk_wait(), 0);
}

/// Delivers an answer of node 2.
fn answer(core: &mut Core<Old>, kind: MessageType, term: u64, index: u64) {
    core.receive(Message { index, ..message(kind, term) }).unwrap();
}

/// Does what there is to do, with a disk that is done at once. Returns what was sent and committed.
fn perform(core: &mut Core<Old>) -> (Vec<Message>, Vec<Entry>) {
    let (mut sent, mut committed) = (Vec::new(), Vec::new());
    while let Some(effects) = core.effects() {
        sent.extend(effects.send);
        committed.extend(effects.committed);
        if let Some(work) = effects.persist {
            core.persisted(work.number);
        }
    }
    (sent, committed)
}

fn leader() -> Core<Old> {
    let mut core = follower();
    while core.role() == Role::Follower {
        core.tick();
    }
    perform(&mut core);
    answer(&mut core, MessageType::RequestPreVoteResponse, 1, 0);
    perform(&mut core);
    answer(&mut core, MessageType::RequestVoteResponse, 1, 0);
    perform(&mut core);
    answer(&mut core, MessageType::AppendResponse, 1, 1);
    let (_, committed) = perform(&mut core);
    assert_eq!((core.role(), committed.len()), (Role::Leader, 1));
    core.applied(1);
    core
}

/// Makes `change` of the leader itself; the disk still has an entry behind it when it is applied.
fn changes_itself(kind: ConfChangeType) -> (Core<Old>, Vec<Message>) {
    let mut core = leader();
    core.propose_change(&ConfChange { kind, node: 1, context: Bytes::new() }).unwrap();
    perform(&mut core);
    core.propose(vec![Bytes::from_static(b"behind")]).unwrap();
    let late = core.effects().and_then(|effects| effects.persist).unwrap().number;
    answer(&mut core, MessageType::AppendResponse, 1, 2);
    let (_, committed) = perform(&mut core);
    core.apply_change(&committed[0]).unwrap();
    core.applied(2);
    core.persisted(late);
    let (sent, _) = perform(&mut core);
    (core, sent)
}

#[test]
fn a_leader_that_is_no_voter_any_more_hands_over_to_the_best_voter() {
    for kind in [ConfChangeType::Remove, ConfChangeType::AddLearner] {
        let (mut core, sent) = changes_itself(kind);
        assert_eq!((core.role(), core.leader()), (Role::Follower, None), "{kind:?}");
        let now = sent.iter().find(|message| message.kind == MessageType::TimeoutNow);
        assert_eq!(now.map(|message| message.to), Some(2), "{kind:?}: node 3 has nothing");
        (0..1000).for_each(|_| core.tick());
        assert_eq!(core.role(), Role::Follower, "{kind:?}: it does not come back");
    }
}

#[test]
fn a_node_does_not_campaign_before_its_snapshot_is_installed() {
    let mut core = follower();
    let snapshot = Some(SnapshotMetadata { index: 40, term: 2, conf_state: core.conf_state() });
    core.receive(Message { snapshot, ..message(MessageType::Snapshot, 3) }).unwrap();
    let work = core.effects().and_then(|effects| effects.persist).unwrap();
    assert_eq!(work.snapshot, Some(40));
    (0..1000).for_each(|_| core.tick());
    answer(&mut core, MessageType::TimeoutNow, 3, 0);
    assert_eq!((core.role(), core.leader()), (Role::Follower, None));
}

fn adds(index: u64, node: NodeId) -> Entry {
    let data = ConfChange { kind: ConfChangeType::AddVoter, node, context: Bytes::new() }.encode();
    Entry { index, term: 1, kind: EntryKind::ConfChange, data }
}

#[test]
fn a_restarted_node_asks_no_members_from_before_a_change_that_another_one_follows() {
    let mut core = started(vec![adds(1, 4), adds(2, 5)]);
    (0..1000).for_each(|_| core.tick());
    let (sent, committed) = perform(&mut core);
    assert!(sent.is_empty(), "it campaigns among members that are no more");
    assert_eq!(committed, [adds(1, 4)], "the last change may still be replaced");
    core.apply_change(&committed[0]).unwrap();
    core.applied(1);
    (0..1000).for_each(|_| core.tick());
    let (sent, _) = perform(&mut core);
    assert!([2, 3, 4].iter().all(|node| sent.iter().any(|message| message.to == *node)));
}

#[test]
fn what_no_cluster_comes_to_is_no_state_to_start_from() {
    let start = |term, commit, applied| {
        let config = CoreConfig {
            id: 1,
            seed: 1,
            timing: Timing::from_spec(&RaftTiming::default()),
            hard_state: HardState { term, vote: 0, commit },
            conf_state: ConfState { voters: vec![1, 2, 3], ..ConfState::default() },
            applied,
            tail_bytes: 0,
        };
        let log = Old(vec![adds(1, 4), adds(2, 5)]);
        Core::new(config, log).map(|core| core.term())
    };
    assert_eq!(start(MAX_NUMBER, 2, 0).unwrap(), MAX_NUMBER);
    for (term, commit, applied) in
        [(u64::MAX, 0, 0), (MAX_NUMBER + 1, 2, 0), (3, 1 << 63, 0), (3, 3, 0), (3, 2, 3)]
    {
        let text = start(term, commit, applied).unwrap_err().to_string();
        assert!(text.contains("escli recover"), "{text}");
    }
}
