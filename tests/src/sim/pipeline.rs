//! An exactly-once pipeline: it writes the numbers from 0 on into a topic, each in a transaction that also commits how far it
//! has come. Several instances share one transactional id; each fences those before it.

use bytes::Bytes;
use esnode::state_machine::command::{Command, Reply};
use esnode::state_machine::groups::{CommittedOffset, GroupChange, OffsetCommit};
use esnode::state_machine::transactions::{Ending, ProducerIdentity, TransactionChange};
use esnode::state_machine::{StateMachine, TopicId};
use fastrand::Rng;

use super::bugs::Bug;
use super::client::Body;
use super::records;

/// The topic of all instances, with one partition.
pub const TOPIC: &str = "pipeline";
/// Their transactional id.
pub const ID: &str = "pipeline";
/// The group that their offset belongs to.
const GROUP: &str = "pipeline";

/// One instance after the other, in one client.
#[derive(Clone, Debug)]
pub struct Pipeline {
    step: Step,
    producer: ProducerIdentity,
    topic: TopicId,
    /// The number to write next.
    next: u64,
    /// Its sequence number.
    sequence: i32,
    /// Whether the transaction is to be committed.
    commits: bool,
}

/// What an instance does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Init,
    Look,
    AddPartition,
    Append,
    AddGroup,
    CommitOffset,
    End,
}

/// Where the pipeline goes on, as far as a state machine has applied: the topic, and the number to write next.
pub fn position(state: &StateMachine) -> Option<(TopicId, u64)> {
    let topic = state.topic(TOPIC)?.id;
    let offset = state.group(GROUP).and_then(|group| group.offsets().get(topic, 0));
    Some((topic, offset.map_or(0, |offset| offset.offset.cast_unsigned())))
}

/// What a node makes of an instance's command: it knows what the instance before has under way.
pub fn as_coordinated(state: &StateMachine, command: Command, bug: Option<Bug>) -> Vec<Command> {
    let Command::Transaction { id, mut change } = command else { return vec![command] };
    let before = state.transaction(&id);
    if let (Some(before), Some(Bug::AnyEpoch)) = (before, bug) {
        believe(&mut change, before.producer());
    }
    let mut commands = Vec::new();
    match (&mut change, before) {
        (TransactionChange::Init { .. }, Some(before)) => {
            let abort = before.ending(before.producer(), false, 0).ok().map(TransactionChange::End);
            commands.extend(abort.map(|change| Command::Transaction { id: id.clone(), change }));
        }
        (TransactionChange::End(ending), Some(before)) => {
            ending.partitions = before.partitions().iter().copied().collect();
        }
        _ => {}
    }
    commands.push(Command::Transaction { id, change });
    commands
}

/// Takes whoever it is for the newest instance.
fn believe(change: &mut TransactionChange, newest: ProducerIdentity) {
    match change {
        TransactionChange::AddPartitions { producer, .. }
        | TransactionChange::AddGroup { producer, .. }
        | TransactionChange::CommitOffsets { producer, .. }
        | TransactionChange::End(Ending { producer, .. }) => *producer = newest,
        TransactionChange::Init { .. } | TransactionChange::Expire { .. } => {}
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        let producer = ProducerIdentity { id: -1, epoch: -1 };
        Self { step: Step::Create, producer, topic: 0, next: 0, sequence: 0, commits: true }
    }
}

impl Pipeline {
    /// What it asks next.
    pub fn body(&self, timestamp: i64, bug: Option<Bug>) -> Body {
        let producer = self.producer;
        let change = match self.step {
            Step::Create => {
                // What it writes is kept, to be compared in the end.
                let forever = |key: &str| (key.to_owned(), "-1".to_owned());
                let configs = ["retention.ms", "retention.bytes"].map(forever).into();
                return Body::Write(vec![Command::CreateTopic {
                    name: TOPIC.into(),
                    partitions: 1,
                    configs,
                }]);
            }
            Step::Look => return Body::Pipeline,
            Step::Append => return self.append(timestamp),
            Step::CommitOffset if bug == Some(Bug::OffsetsApart) => {
                let change = GroupChange::Commit(self.commit());
                return Body::Write(vec![Command::Group { group: GROUP.into(), change }]);
            }
            Step::Init => TransactionChange::Init { timeout_ms: 60_000, known: None },
            Step::AddPartition => {
                TransactionChange::AddPartitions { producer, partitions: vec![(self.topic, 0)] }
            }
            Step::AddGroup => TransactionChange::AddGroup { producer, group: GROUP.into() },
            Step::CommitOffset => {
                TransactionChange::CommitOffsets { producer, group: GROUP.into(), commit: self.commit() }
            }
            Step::End => TransactionChange::End(Ending {
                producer,
                commit: self.commits,
                fence: false,
                time: timestamp,
                partitions: Vec::new(),
            }),
        };
        Body::Write(vec![Command::Transaction { id: ID.into(), change }])
    }

    fn append(&self, timestamp: i64) -> Body {
        let batch: Bytes = records::in_transaction(self.next, self.producer, self.sequence, timestamp)
            .expect("a batch in memory encodes");
        Body::Append { topic: TOPIC.into(), partition: 0, batch }
    }

    fn commit(&self) -> OffsetCommit {
        let offset = CommittedOffset {
            offset: (self.next + 1).cast_signed(),
            leader_epoch: -1,
            metadata: String::new(),
            committed: 0,
        };
        OffsetCommit {
            member: String::new(),
            instance: None,
            generation: -1,
            offsets: vec![(self.topic, 0, offset)],
        }
    }

    /// It was told this. Returns the number that is committed now, if one is. An instance that is refused anything ends, and
    /// another one begins.
    pub fn replied(&mut self, reply: &Reply, rng: &mut Rng) -> Option<u64> {
        let mut committed = None;
        self.step = match (self.step, reply) {
            (Step::Create, _) => Step::Init,
            (Step::Init, Reply::ProducerInitialized(producer)) => {
                (self.producer, self.sequence) = (*producer, 0);
                Step::Look
            }
            (Step::AddPartition, Reply::Done) => Step::Append,
            (Step::Append, Reply::Appended { .. }) => {
                self.sequence += 1;
                Step::AddGroup
            }
            (Step::AddGroup, Reply::Done) => Step::CommitOffset,
            (Step::CommitOffset, Reply::Done | Reply::Group(_)) => {
                self.commits = rng.u8(..8) > 0;
                Step::End
            }
            (Step::End, Reply::Done) if self.commits => {
                committed = Some(self.next);
                self.next += 1;
                Step::AddPartition
            }
            (Step::End, Reply::Done) => Step::Look,
            _ => Step::Init,
        };
        committed
    }

    /// It has heard where the pipeline goes on.
    pub fn looked(&mut self, position: Option<(TopicId, u64)>) {
        let Some((topic, next)) = position else { return };
        (self.topic, self.next, self.step) = (topic, next, Step::AddPartition);
    }

    /// No answer came: it asks again, or ends, and another instance begins.
    pub fn unknown(&mut self, rng: &mut Rng) {
        if self.step != Step::Create && rng.u8(..4) == 0 {
            self.step = Step::Init;
        }
    }

    /// Whether it is about to fence the instances of others, which then do so in turn.
    pub fn begins(&self) -> bool {
        self.step == Step::Init
    }
}
