//! What must hold whatever happens. The checks see everything at once, as no node can, and keep the first account of
//! each fact: whoever tells it differently later is wrong.

use std::collections::{BTreeMap, BTreeSet};

use esnode::consensus::ConfState;
use esnode::entry::Entry;
use esnode::replica::change_of;
use esnode::state_machine::members::Change;
use shared::ids::NodeId;

use super::log::Replayed;
use super::records::{self, Value};
use super::trace::{mix, mix_bytes};

/// A topic's and partition's place: both by number in the simulator's own list.
pub type Place = (usize, u32);

/// A promise was broken: which, and how it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvariantViolation(pub String);

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err($crate::sim::checks::InvariantViolation(format!($($what)*)));
        }
    };
}
pub(super) use ensure;

/// Entries known by term and what they carry.
type Fact = (u64, u64);

/// What was logged at an index: the entry, and the term of the one before it.
type Logged = (Fact, u64);

/// All that was ever true. Everything is found by number, so that each check costs the same however long the run.
pub struct Checks {
    leaders: BTreeMap<u64, NodeId>,
    /// By index, from 1: what was committed there, and in which term at the latest.
    committed: Vec<(Fact, u64)>,
    /// By index, from 1: one for each term that had an entry there.
    logged: Vec<Vec<Logged>>,
    /// State digests by applied index.
    states: BTreeMap<u64, u32>,
    /// Members by the index of the change that made them; the initial ones at 0.
    members: BTreeMap<u64, ConfState>,
    /// By topic and partition.
    partitions: BTreeMap<Place, Partition>,
    /// Where each value is, by producer and number.
    offsets: Vec<Vec<Option<i64>>>,
    acknowledged: usize,
    /// What the consumer group has committed, as far as a member was told so.
    offsets_committed: BTreeSet<i64>,
    /// The numbers that the pipeline has committed, as far as an instance was told so.
    transactions: BTreeSet<u64>,
    installed: usize,
    /// A promotion that nobody has looked at yet.
    promotion: Option<(u64, NodeId)>,
}

/// What is known of a partition.
#[derive(Default)]
struct Partition {
    /// What is at each offset, and whether a producer was told so.
    values: Vec<Option<(Value, bool)>>,
    /// Up to where a fresh read must reach.
    floor: i64,
    /// Up to where a leader has ever wanted to forget.
    deleted: i64,
}

impl Checks {
    /// Nothing is known but the initial members.
    pub fn new(initial: &ConfState) -> Self {
        Self {
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            logged: Vec::new(),
            states: BTreeMap::new(),
            members: BTreeMap::from([(0, initial.clone())]),
            partitions: BTreeMap::new(),
            offsets: Vec::new(),
            acknowledged: 0,
            offsets_committed: BTreeSet::new(),
            transactions: BTreeSet::new(),
            installed: 0,
            promotion: None,
        }
    }

    /// Membership is a function of the log: `node`, which has applied everything up to `index`, must have the members
    /// that others had there.
    pub fn members(
        &mut self,
        node: NodeId,
        index: u64,
        members: &ConfState,
    ) -> Result<(), InvariantViolation> {
        let (at, first) = self.members.range(..=index).next_back().expect("the initial members are at 0");
        ensure!(
            same(first, members),
            "stale membership: node {node} has the members {members:?} at {index}, where {first:?} stand since {at}"
        );
        Ok(())
    }

    /// The members that the cluster began with.
    pub fn initial_members(&self) -> &ConfState {
        &self.members[&0]
    }

    /// The newest members, as far as anyone has applied.
    pub fn newest_members(&self) -> &ConfState {
        self.members.values().next_back().expect("the initial members are at 0")
    }

    /// The node that was just promoted, and the entry that did it; once.
    pub fn take_promotion(&mut self) -> Option<(u64, NodeId)> {
        self.promotion.take()
    }

    /// How often the members changed.
    pub fn changes(&self) -> usize {
        self.members.len() - 1
    }

    /// Election safety, and leader completeness when the term is new: the leader's log holds all that was committed
    /// in earlier terms. (Votes may arrive so late that a later term has leaders and commits already.)
    pub fn leads(&mut self, node: NodeId, term: u64, log: &Replayed) -> Result<bool, InvariantViolation> {
        if let Some(first) = self.leaders.get(&term) {
            ensure!(*first == node, "election safety: nodes {first} and {node} both lead term {term}");
            return Ok(false);
        }
        self.leaders.insert(term, node);
        let before = log.base.0;
        for (index, (fact, by)) in (1..).zip(&self.committed) {
            let found = log.entry(index).map(fact_of);
            // Of what was retired only the last term is known.
            let there = found == Some(*fact) || index < before || (index == before && log.base.1 == fact.0);
            ensure!(
                *by >= term || there,
                "leader completeness: node {node} leads term {term} without the committed entry {index} of term {}",
                fact.0
            );
        }
        Ok(true)
    }

    /// A node in `term` learnt that `entry` is committed: it never changes from now on.
    pub fn committed(&mut self, node: NodeId, term: u64, entry: &Entry) -> Result<(), InvariantViolation> {
        let at = usize::try_from(entry.index - 1).unwrap_or(usize::MAX);
        let fact = fact_of(entry);
        match self.committed.get(at) {
            Some((first, _)) => ensure!(
                *first == fact,
                "committed never changes: node {node} has entry {} of term {}, where term {} was committed",
                entry.index,
                entry.term,
                first.0
            ),
            None => {
                ensure!(at == self.committed.len(), "node {node} skipped to committed entry {}", entry.index);
                self.committed.push((fact, term));
                self.follow_members(entry);
            }
        }
        Ok(())
    }

    /// A change of the members is committed.
    fn follow_members(&mut self, entry: &Entry) {
        let Some(change) = change_of(entry) else { return };
        let mut members = self.newest_members().clone();
        members.voters.retain(|id| *id != change.node());
        members.learners.retain(|id| *id != change.node());
        match change {
            Change::Add(node, _) => members.learners.push(node),
            Change::Promote(node) => members.voters.push(node),
            Change::Remove(_) => {}
        }
        if let Change::Promote(node) = change {
            self.promotion = Some((entry.index, node));
        }
        self.members.insert(entry.index, members);
    }

    /// Log matching: `entry` is durable at `node`, right after an entry of term `before`.
    pub fn logged(&mut self, node: NodeId, entry: &Entry, before: u64) -> Result<(), InvariantViolation> {
        let at = usize::try_from(entry.index - 1).unwrap_or(usize::MAX);
        if at >= self.logged.len() {
            self.logged.resize_with(at + 1, Vec::new);
        }
        let found = (fact_of(entry), before);
        match self.logged[at].iter().find(|((term, _), _)| *term == entry.term) {
            None => self.logged[at].push(found),
            Some(first) => ensure!(
                *first == found,
                "log matching: node {node} has another entry {} of term {}, or another entry before it",
                entry.index,
                entry.term
            ),
        }
        Ok(())
    }

    /// State machine safety: the state after `index` is the same everywhere.
    pub fn applied(&mut self, node: NodeId, index: u64, digest: u32) -> Result<(), InvariantViolation> {
        let first = self.states.entry(index).or_insert(digest);
        ensure!(*first == digest, "state machine safety: node {node} differs after applying entry {index}");
        Ok(())
    }

    /// A producer was told that `values` begin at `offset`.
    pub fn acked(&mut self, place: Place, offset: i64, values: &[Value]) -> Result<(), InvariantViolation> {
        for (offset, value) in (offset..).zip(values) {
            self.at(place, offset, *value)?;
            if let Some((_, acked)) = self.slot(place, offset) {
                let new = !std::mem::replace(acked, true);
                self.acknowledged += usize::from(new);
            }
        }
        self.reached(place, offset + values.len() as i64);
        Ok(())
    }

    /// A reader saw `value` at `offset`: everyone must, and nobody anywhere else.
    pub fn at(&mut self, place: Place, offset: i64, value: Value) -> Result<(), InvariantViolation> {
        let (first, _) = *self.slot(place, offset).get_or_insert((value, false));
        ensure!(
            first == value,
            "one order: offset {offset} of {place:?} is record {value:x} for one and {first:x} for another"
        );
        let (producer, number) = records::origin(value);
        if producer >= self.offsets.len() {
            self.offsets.resize_with(producer + 1, Vec::new);
        }
        let offsets = &mut self.offsets[producer];
        if number >= offsets.len() {
            offsets.resize(number + 1, None);
        }
        let first = *offsets[number].get_or_insert(offset);
        ensure!(
            first == offset,
            "no duplicates: record {value:x} of {place:?} is at offset {offset} and at {first}"
        );
        Ok(())
    }

    fn slot(&mut self, place: Place, offset: i64) -> &mut Option<(Value, bool)> {
        let values = &mut self.partitions.entry(place).or_default().values;
        let at = usize::try_from(offset).expect("offsets count from 0");
        if at >= values.len() {
            values.resize(at + 1, None);
        }
        &mut values[at]
    }

    /// Up to where a fresh read that begins now must reach.
    pub fn floor(&self, place: Place) -> i64 {
        self.partitions.get(&place).map_or(0, |partition| partition.floor)
    }

    /// A fresh read, or an acknowledgement, reached `next`; no later one may fall short of it.
    pub fn reached(&mut self, place: Place, next: i64) {
        let floor = &mut self.partitions.entry(place).or_default().floor;
        *floor = next.max(*floor);
    }

    /// Up to where the consumer group has surely come.
    pub fn offset_floor(&self) -> i64 {
        self.offsets_committed.last().copied().unwrap_or(0)
    }

    /// A member of the consumer group was told that its commit is done. Each follows from the one before it, so two members
    /// that were told the same have both owned the partition.
    pub fn offset_committed(&mut self, offset: i64) -> Result<(), InvariantViolation> {
        let first = self.offsets_committed.insert(offset);
        ensure!(first, "one owner: two members have committed {offset}");
        Ok(())
    }

    /// Acknowledged commits of the consumer group.
    pub fn offset_commits(&self) -> usize {
        self.offsets_committed.len()
    }

    /// An instance of the pipeline was told that its transaction is committed.
    pub fn transaction_committed(&mut self, number: u64) -> Result<(), InvariantViolation> {
        let first = self.transactions.insert(number);
        ensure!(first, "exactly once: two transactions have committed {number}");
        Ok(())
    }

    /// Up to where the pipeline has surely come.
    pub fn pipeline_floor(&self) -> u64 {
        self.transactions.last().map_or(0, |last| last + 1)
    }

    /// All that committed readers of a node see of the pipeline, which is to go on with `next`: each number before it, once.
    pub fn pipeline(&self, node: NodeId, next: u64, committed: &[u64]) -> Result<(), InvariantViolation> {
        ensure!(
            committed.iter().copied().eq(0..next),
            "exactly once: node {node} goes on with {next}, and its committed readers see {committed:?}"
        );
        let floor = self.pipeline_floor();
        ensure!(
            next >= floor,
            "acknowledged never lost: node {node} goes on with {next}, and {floor} transactions were acknowledged"
        );
        Ok(())
    }

    /// Acknowledged transactions of the pipeline.
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// A leader wants to forget what is before `offset`.
    pub fn deletes(&mut self, place: Place, offset: i64) {
        let deleted = &mut self.partitions.entry(place).or_default().deleted;
        *deleted = offset.max(*deleted);
    }

    /// Up to where a leader has ever wanted to forget.
    pub fn deleted_to(&self, place: Place) -> i64 {
        self.partitions.get(&place).map_or(0, |partition| partition.deleted)
    }

    /// A node went on from another one's snapshot.
    pub fn installed(&mut self) {
        self.installed += 1;
    }

    /// A whole partition from `start` on, as one node tells it at the end: all that was acknowledged is in it, where it was
    /// said to be, unless it was due to go.
    pub fn whole(
        &mut self,
        node: NodeId,
        place: Place,
        start: i64,
        values: &[Value],
    ) -> Result<(), InvariantViolation> {
        let kept = self.deleted_to(place);
        ensure!(
            start <= kept,
            "kept is kept: node {node} has {place:?} from {start} on, due to go was up to {kept}"
        );
        for (offset, value) in (start..).zip(values) {
            self.at(place, offset, *value)?;
        }
        let Some(partition) = self.partitions.get(&place) else { return Ok(()) };
        let start = usize::try_from(start).expect("offsets count from 0");
        for (at, known) in partition.values.iter().enumerate().skip(start) {
            let Some((value, true)) = known else { continue };
            let found = values.get(at - start);
            ensure!(
                found == Some(value),
                "acknowledged never lost: node {node} has {found:x?} at offset {at} of {place:?}, \
                 where record {value:x} was acknowledged"
            );
        }
        Ok(())
    }

    /// How many records were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// How often a node went on from another one's snapshot.
    pub fn installations(&self) -> usize {
        self.installed
    }

    /// How many entries were committed.
    pub fn commits(&self) -> usize {
        self.committed.len()
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }
}

fn fact_of(entry: &Entry) -> Fact {
    (entry.term, mix(mix_bytes(&entry.data), entry.kind as u64))
}

/// The same members, in whatever order.
fn same(one: &ConfState, other: &ConfState) -> bool {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    sorted(&one.voters) == sorted(&other.voters) && sorted(&one.learners) == sorted(&other.learners)
}
