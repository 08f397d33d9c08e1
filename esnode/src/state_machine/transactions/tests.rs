//! Transactions in the state machine, against a plain model under random commands.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::state_machine::batch::{BatchHeader, TRANSACTIONAL};
use crate::state_machine::clock::Tick;
use crate::state_machine::command::Command;
use crate::state_machine::groups::{CommittedOffset, GroupError};
use crate::state_machine::tests::batch;

const PARTITIONS: u32 = 3;

/// A state, and the log that it comes from.
#[derive(Default)]
struct Log {
    state: StateMachine,
    entries: Vec<Bytes>,
}

impl Log {
    fn with_topic() -> Self {
        let mut log = Self::default();
        log.apply(&Command::CreateTopic {
            name: "t".into(),
            partitions: PARTITIONS,
            configs: BTreeMap::new(),
        });
        log
    }

    fn apply(&mut self, command: &Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode(&mut payload);
        self.entries.push(payload.freeze());
        let index = self.entries.len();
        self.state.apply(index as u64, 1, &self.entries[index - 1]).replies.remove(0)
    }

    fn change(&mut self, id: &str, change: TransactionChange) -> Reply {
        self.apply(&Command::Transaction { id: id.to_owned(), change })
    }

    fn init(&mut self, id: &str, known: Option<ProducerIdentity>) -> Result<ProducerIdentity, Reply> {
        match self.change(id, TransactionChange::Init { timeout_ms: 60_000, known }) {
            Reply::ProducerInitialized(producer) => Ok(producer),
            other => Err(other),
        }
    }

    fn add(&mut self, id: &str, producer: ProducerIdentity, partition: u32) -> Reply {
        self.change(id, TransactionChange::AddPartitions { producer, partitions: vec![(1, partition)] })
    }

    fn append(&mut self, producer: ProducerIdentity, partition: u32, sequence: i32) -> Reply {
        self.apply(&Command::Append { topic: 1, partition, batch: transactional(producer, sequence) })
    }

    fn end(&mut self, id: &str, producer: ProducerIdentity, commit: bool) -> Reply {
        let transaction = self.state.transaction(id).expect("it is known");
        match transaction.ending(producer, commit, 5) {
            Ok(ending) => self.change(id, TransactionChange::End(ending)),
            Err(error) => refused(error),
        }
    }

    fn partition(&self, partition: u32) -> &crate::state_machine::Partition {
        &self.state.topic_by_id(1).unwrap().partitions[partition as usize]
    }

    /// The batches of a partition with their offsets, as a reader finds them.
    fn batches(&self, partition: u32) -> Vec<(i64, BatchHeader)> {
        let (mut offset, mut found) = (0, Vec::new());
        for (index, entry) in (1..).zip(&self.entries) {
            for (ordinal, command) in (0..).zip(Command::decode_all(entry)) {
                for (_, of, batch) in command.unwrap().batches() {
                    if of != partition || self.partition(partition).is_rejected(index, ordinal) {
                        continue;
                    }
                    let header = BatchHeader::read(&batch).unwrap();
                    found.push((offset, header));
                    offset += header.records();
                }
            }
        }
        assert_eq!(offset, self.partition(partition).high_watermark());
        found
    }

    /// What a committed reader makes of it, as Kafka's clients do: by the list of aborted transactions and the markers.
    fn committed(&self, partition: u32) -> Vec<BatchId> {
        let stable = self.partition(partition).last_stable_offset();
        let mut aborted = self.partition(partition).aborted_between(0, stable);
        let (mut passed_over, mut seen) = (BTreeSet::new(), Vec::new());
        for (offset, header) in self.batches(partition) {
            if offset >= stable {
                break;
            }
            while aborted.first().is_some_and(|next| next.first <= offset) {
                passed_over.insert(aborted.remove(0).producer);
            }
            if header.is_control() {
                passed_over.remove(&header.producer_id);
            } else if !header.is_transactional() || !passed_over.contains(&header.producer_id) {
                seen.push(id_of(partition, &header));
            }
        }
        seen
    }
}

/// Partition, producer id, epoch and sequence number of a batch.
type BatchId = (u32, i64, i16, i32);

fn id_of(partition: u32, header: &BatchHeader) -> BatchId {
    (partition, header.producer_id, header.producer_epoch, header.base_sequence)
}

fn transactional(producer: ProducerIdentity, sequence: i32) -> Bytes {
    let mut batch = batch(2, 0, Some((producer.id, producer.epoch, sequence))).to_vec();
    batch[21..23].copy_from_slice(&TRANSACTIONAL.to_be_bytes());
    batch.into()
}

/// A transactional id as the model has it.
#[derive(Default)]
struct Model {
    producer: Option<ProducerIdentity>,
    partitions: BTreeSet<u32>,
    is_ongoing: bool,
    /// Batches of the transaction under way.
    open: Vec<BatchId>,
    /// The next sequence number in each partition.
    sequences: BTreeMap<u32, i32>,
}

/// What has happened to all of them.
#[derive(Default)]
struct History {
    /// Whether the batch's transaction was committed.
    ended: BTreeMap<BatchId, bool>,
    commits: usize,
    aborts: usize,
    refusals: usize,
}

impl Model {
    /// Does something at random with the transactional id, and compares what comes of it.
    fn step(&mut self, id: &str, log: &mut Log, history: &mut History, random: &mut fastrand::Rng) {
        let Some(newest) = self.producer else {
            self.producer = Some(log.init(id, None).unwrap());
            return;
        };
        // An instance of before tries, too.
        let is_fenced = random.u8(..) < 30;
        let producer = ProducerIdentity { epoch: newest.epoch - i16::from(is_fenced), ..newest };
        let partition = random.u32(..PARTITIONS);
        match random.u8(..100) {
            0..10 => {
                let outcome = log.init(id, None);
                assert_eq!(outcome.is_err(), self.is_ongoing);
                if let Ok(next) = outcome {
                    *self = Self { producer: Some(next), ..Self::default() };
                }
            }
            10..30 => {
                let reply = log.add(id, producer, partition);
                assert_eq!(reply == Reply::Done, !is_fenced, "{reply:?}");
                if !is_fenced {
                    self.is_ongoing = true;
                    self.partitions.insert(partition);
                }
            }
            30..75 => {
                let next = self.sequences.entry(partition).or_default();
                let reply = log.append(producer, partition, *next);
                let is_allowed = !is_fenced && self.partitions.contains(&partition);
                assert_eq!(matches!(reply, Reply::Appended { .. }), is_allowed, "{reply:?}");
                if is_allowed {
                    self.open.push((partition, producer.id, producer.epoch, *next));
                    *next += 2;
                } else {
                    history.refusals += 1;
                }
            }
            _ => {
                let commit = random.bool();
                let reply = log.end(id, producer, commit);
                assert_eq!(reply == Reply::Done, !is_fenced && self.is_ongoing, "{reply:?}");
                if reply == Reply::Done {
                    self.end(commit, history);
                }
            }
        }
    }

    fn end(&mut self, commit: bool, history: &mut History) {
        *(if commit { &mut history.commits } else { &mut history.aborts }) += 1;
        history.ended.extend(self.open.drain(..).map(|batch| (batch, commit)));
        (self.is_ongoing, self.partitions) = (false, BTreeSet::new());
    }
}

/// Committed readers see what was committed, up to the first batch whose transaction is under way.
fn compare(log: &Log, models: &[Model], history: &History) {
    for partition in 0..PARTITIONS {
        let is_open = |id: &BatchId| models.iter().any(|model| model.open.contains(id));
        let batches = log.batches(partition);
        let open =
            batches.iter().find(|(_, header)| !header.is_control() && is_open(&id_of(partition, header)));
        let stable = open.map_or(log.partition(partition).high_watermark(), |(offset, _)| *offset);
        assert_eq!(log.partition(partition).last_stable_offset(), stable);
        let before = batches.iter().filter(|(offset, header)| *offset < stable && !header.is_control());
        let ids = before.map(|(_, header)| id_of(partition, header));
        assert_eq!(log.committed(partition), ids.filter(|id| history.ended[id]).collect::<Vec<_>>());
    }
}

#[test]
fn committed_readers_see_what_was_committed_and_nothing_else() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut counts = [0; 3];
    for _ in 0..150 {
        let (mut log, mut history) = (Log::with_topic(), History::default());
        let mut models: Vec<Model> = (0..3).map(|_| Model::default()).collect();
        for _ in 0..80 {
            let at = random.usize(..models.len());
            models[at].step(&at.to_string(), &mut log, &mut history, &mut random);
            compare(&log, &models, &history);
        }
        let stored = serde_json::to_vec(&log.state).unwrap();
        let restored: StateMachine = serde_json::from_slice(&stored).unwrap();
        assert_eq!(restored.digest(), log.state.digest());
        assert_eq!(restored.transactions.bytes, log.state.transactions.bytes);
        assert_eq!(restored.transactions.ids, log.state.transactions.ids);
        let History { commits, aborts, refusals, .. } = history;
        counts.iter_mut().zip([commits, aborts, refusals]).for_each(|(all, one)| *all += one);
    }
    assert!(counts.iter().all(|count| *count > 300), "commits, aborts, refusals: {counts:?}");
}

#[test]
fn a_transaction_that_grew_meanwhile_does_not_end() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    log.add("a", producer, 0);
    let ending = log.state.transaction("a").unwrap().ending(producer, true, 5).unwrap();
    log.add("a", producer, 1);
    log.append(producer, 1, 0);
    let reply = log.change("a", TransactionChange::End(ending));
    assert_eq!(reply, refused(TransactionError::Concurrent));
    assert!(log.partition(0).is_rejected(5 + 1, 0), "readers pass over its marker");
    assert_eq!((log.batches(0).len(), log.batches(1).len()), (0, 1));
    assert_eq!(log.end("a", producer, true), Reply::Done);
    assert_eq!((log.batches(0).len(), log.batches(1).len()), (1, 2));
}

#[test]
fn an_end_that_is_asked_for_again_has_happened() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    assert_eq!(log.end("a", producer, true), refused(TransactionError::InvalidState), "nothing has begun");
    log.add("a", producer, 0);
    log.end("a", producer, true);
    let transaction = log.state.transaction("a").unwrap();
    assert!(transaction.has_ended(producer, true) && !transaction.has_ended(producer, false));
    let newer = log.init("a", None).unwrap();
    assert!(!log.state.transaction("a").unwrap().has_ended(newer, true));
}

#[test]
fn whoever_asks_for_its_next_epoch_again_gets_the_same_and_others_are_fenced() {
    let mut log = Log::with_topic();
    let first = log.init("a", None).unwrap();
    let second = log.init("a", Some(first)).unwrap();
    assert_eq!(second, ProducerIdentity { id: first.id, epoch: 1 });
    assert_eq!(log.init("a", Some(first)), Ok(second), "the answer was lost");
    let third = log.init("a", None).unwrap();
    for fenced in [first, second] {
        assert_eq!(log.init("a", Some(fenced)), Err(refused(TransactionError::Fenced)));
        assert_eq!(log.add("a", fenced, 0), refused(TransactionError::Fenced));
    }
    let stranger = ProducerIdentity { id: third.id + 1, ..third };
    assert_eq!(log.add("a", stranger, 0), refused(TransactionError::UnknownProducer));
    assert_eq!(log.add("b", third, 0), refused(TransactionError::UnknownProducer));
}

#[test]
fn whoever_takes_too_long_is_fenced() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    log.add("a", producer, 0);
    log.append(producer, 0, 0);
    let mut ending = log.state.transaction("a").unwrap().ending(producer, false, 5).unwrap();
    ending.fence = true;
    assert_eq!(log.change("a", TransactionChange::End(ending)), Reply::Done);
    assert_eq!(log.append(producer, 0, 2), Reply::Refused(Refusal::FencedEpoch));
    assert_eq!(log.end("a", producer, true), refused(TransactionError::Fenced));
    assert_eq!(log.init("a", None).unwrap().epoch, 2);
}

#[test]
fn used_up_epochs_are_followed_by_another_producer_id() {
    let mut log = Log::with_topic();
    let mut producer = log.init("a", None).unwrap();
    while producer.epoch < i16::MAX - 1 {
        producer = log.init("a", None).unwrap();
    }
    let next = log.init("a", None).unwrap();
    assert_eq!(next, ProducerIdentity { id: producer.id + 1, epoch: 0 });
    log.add("a", next, 0);
    assert!(matches!(log.append(next, 0, 0), Reply::Appended { .. }));
    assert_eq!(log.append(producer, 0, 0), refused(TransactionError::UnknownProducer));
}

#[test]
fn the_same_producer_writes_nothing_else_meanwhile() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    log.add("a", producer, 0);
    log.append(producer, 0, 0);
    let plain = |sequence| batch(2, 0, Some((producer.id, producer.epoch, sequence)));
    let append = |sequence| Command::Append { topic: 1, partition: 0, batch: plain(sequence) };
    assert_eq!(log.apply(&append(2)), refused(TransactionError::InvalidState));
    log.end("a", producer, true);
    assert!(matches!(log.apply(&append(2)), Reply::Appended { .. }));
}

fn offset(offset: i64) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch: -1, metadata: String::new(), committed: 0 }
}

fn commit(offsets: Vec<(TopicId, u32, CommittedOffset)>) -> OffsetCommit {
    OffsetCommit { member: String::new(), instance: None, generation: -1, offsets }
}

#[test]
fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    let offsets = |next| TransactionChange::CommitOffsets {
        producer,
        group: "g".to_owned(),
        commit: commit(vec![(1, 0, offset(next))]),
    };
    assert_eq!(log.change("a", offsets(5)), refused(TransactionError::InvalidState), "not added");
    for (next, is_committed, after) in [(5, true, Some(5)), (9, false, Some(5)), (7, true, Some(7))] {
        log.change("a", TransactionChange::AddGroup { producer, group: "g".to_owned() });
        assert_eq!(log.change("a", offsets(next - 1)), Reply::Done);
        assert_eq!(log.change("a", offsets(next)), Reply::Done);
        let group = log.state.group("g").unwrap();
        assert_eq!(group.pending().collect::<Vec<_>>(), [(1, 0)]);
        log.end("a", producer, is_committed);
        let group = log.state.group("g").unwrap();
        assert_eq!(group.offsets().get(1, 0).map(|offset| offset.offset), after);
        assert_eq!(group.pending().count(), 0);
    }
    log.change("a", TransactionChange::AddGroup { producer, group: "new".to_owned() });
    let change = TransactionChange::CommitOffsets {
        producer,
        group: "new".to_owned(),
        commit: OffsetCommit { generation: 3, member: "m".to_owned(), ..commit(Vec::new()) },
    };
    let unknown = Reply::Refused(Refusal::Group(GroupError::IllegalGeneration));
    assert_eq!(log.change("a", change), unknown);
    log.end("a", producer, true);
    assert!(log.state.group("new").is_none());
}

#[test]
fn an_aborted_transaction_leaves_no_group_behind() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    log.change("a", TransactionChange::AddGroup { producer, group: "g".to_owned() });
    let commit = commit(vec![(1, 0, offset(1))]);
    log.change("a", TransactionChange::CommitOffsets { producer, group: "g".to_owned(), commit });
    assert!(log.state.group("g").is_some());
    log.end("a", producer, false);
    assert!(log.state.group("g").is_none());
}

#[test]
fn a_transaction_ends_although_its_topic_is_deleted() {
    let mut log = Log::with_topic();
    let producer = log.init("a", None).unwrap();
    log.add("a", producer, 0);
    log.append(producer, 0, 0);
    log.apply(&Command::DeleteTopic { name: "t".to_owned() });
    assert_eq!(log.end("a", producer, true), Reply::Done);
    assert_eq!(log.state.transaction("a").unwrap().phase(), Phase::CompleteCommit);
}

#[test]
fn what_nobody_uses_is_forgotten_but_not_under_way() {
    let mut log = Log::with_topic();
    let tick = |ms| Command::Clock(Tick { ms, wall: ms, doubted: false, made_up: 0 });
    log.apply(&tick(1000));
    let (used, _) = (log.init("used", None).unwrap(), log.init("unused", None).unwrap());
    log.add("used", used, 0);
    log.apply(&tick(2000));
    for id in ["used", "unused"] {
        log.change(id, TransactionChange::Expire { unused_since: 999 });
        assert!(log.state.transaction(id).is_some());
        log.change(id, TransactionChange::Expire { unused_since: 1000 });
    }
    assert!(log.state.transaction("unused").is_none());
    assert_eq!(log.state.transaction("used").unwrap().began(), Some(1000));
    let again = log.init("unused", None).unwrap();
    assert!(again.id > used.id + 1, "nobody else has had the producer id");
}

/// The bytes of Kafka's own control batch: version 0, kind commit, coordinator epoch 0.
#[test]
fn a_marker_is_a_control_batch() {
    let producer = ProducerIdentity { id: 7, epoch: 3 };
    let marker = marker(&Ending { producer, commit: true, fence: false, time: 5, partitions: Vec::new() });
    assert_eq!(marker.len(), MARKER);
    let header = BatchHeader::read(&marker).unwrap();
    assert!(header.is_control() && header.is_transactional() && header.is_intact(&marker));
    assert_eq!((header.producer(), header.records(), header.max_timestamp), (producer, 1, 5));
    let (length, _) = crate::state_machine::batch::extent(&marker).unwrap();
    assert_eq!(length, MARKER);
    assert_eq!(marker[61..], [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 0, 0]);
}
