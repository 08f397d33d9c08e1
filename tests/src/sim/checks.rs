//! What must hold whatever happens. The checks see everything at once, as no node can, and keep the first account of
//! each fact: whoever tells it differently later is wrong.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use esnode::entry::Entry;
use shared::ids::NodeId;

use super::disk::Replayed;
use super::records::Value;

/// A topic's and partition's place: both by number in the simulator's own list.
pub type Place = (usize, u32);

/// A promise was broken: which, and how it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err($crate::sim::checks::Broken(format!($($what)*)));
        }
    };
}
pub(super) use ensure;

/// Entries known by term and what they carry.
type Fact = (u64, u64);

/// All that was ever true.
#[derive(Default)]
pub struct Checks {
    leaders: BTreeMap<u64, NodeId>,
    /// By index, from 1: what was committed there, and in which term at the latest.
    committed: Vec<(Fact, u64)>,
    /// By index and term: what the entry carries, and the term of the entry before it.
    logged: BTreeMap<(u64, u64), (u64, u64)>,
    /// State digests by applied index.
    states: BTreeMap<u64, u32>,
    /// What is at each offset.
    values: BTreeMap<(Place, i64), Value>,
    /// Where each value is. A value sent again by a plain producer may have several places.
    offsets: BTreeMap<Value, i64>,
    /// Acknowledged values and where they must be.
    acked: BTreeMap<(Place, i64), Value>,
    /// Up to where a fresh read must reach, by partition.
    floor: BTreeMap<Place, i64>,
}

impl Checks {
    /// Election safety, and leader completeness when the term is new: the leader's log holds all that was committed
    /// in earlier terms. (Votes may arrive so late that a later term has leaders and commits already.)
    pub fn leads(&mut self, node: NodeId, term: u64, log: &Replayed) -> Result<bool, Broken> {
        if let Some(first) = self.leaders.get(&term) {
            ensure!(*first == node, "election safety: nodes {first} and {node} both lead term {term}");
            return Ok(false);
        }
        self.leaders.insert(term, node);
        for (index, (fact, by)) in (1..).zip(&self.committed) {
            let found = log.entry(index).map(fact_of);
            ensure!(
                *by >= term || found == Some(*fact),
                "leader completeness: node {node} leads term {term} without the committed entry {index} of term {}",
                fact.0
            );
        }
        Ok(true)
    }

    /// A node in `term` learnt that `entry` is committed: it never changes from now on.
    pub fn committed(&mut self, node: NodeId, term: u64, entry: &Entry) -> Result<(), Broken> {
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
            }
        }
        Ok(())
    }

    /// Log matching: `entry` is durable at `node`, right after an entry of term `before`.
    pub fn logged(&mut self, node: NodeId, entry: &Entry, before: u64) -> Result<(), Broken> {
        let (term, data) = fact_of(entry);
        let first = self.logged.entry((entry.index, term)).or_insert((data, before));
        ensure!(
            *first == (data, before),
            "log matching: node {node} has another entry {} of term {term}, or another entry before it",
            entry.index
        );
        Ok(())
    }

    /// State machine safety: the state after `index` is the same everywhere.
    pub fn applied(&mut self, node: NodeId, index: u64, digest: u32) -> Result<(), Broken> {
        let first = self.states.entry(index).or_insert(digest);
        ensure!(*first == digest, "state machine safety: node {node} differs after applying entry {index}");
        Ok(())
    }

    /// A producer was told that `values` begin at `offset`.
    pub fn acked(&mut self, place: Place, offset: i64, values: &[Value]) -> Result<(), Broken> {
        for (offset, value) in (offset..).zip(values) {
            self.at(place, offset, *value)?;
            self.acked.insert((place, offset), *value);
        }
        self.reached(place, offset + values.len() as i64);
        Ok(())
    }

    /// A reader saw `value` at `offset`: everyone must, and nobody anywhere else.
    pub fn at(&mut self, place: Place, offset: i64, value: Value) -> Result<(), Broken> {
        let first = *self.values.entry((place, offset)).or_insert(value);
        ensure!(
            first == value,
            "one order: offset {offset} of {place:?} is record {value:x} for one and {first:x} for another"
        );
        let first = *self.offsets.entry(value).or_insert(offset);
        ensure!(
            first == offset,
            "no duplicates: record {value:x} of {place:?} is at offset {offset} and at {first}"
        );
        Ok(())
    }

    /// Up to where a fresh read that begins now must reach.
    pub fn floor(&self, place: Place) -> i64 {
        self.floor.get(&place).copied().unwrap_or(0)
    }

    /// A fresh read, or an acknowledgement, reached `next`; no later one may fall short of it.
    pub fn reached(&mut self, place: Place, next: i64) {
        let floor = self.floor.entry(place).or_insert(0);
        *floor = next.max(*floor);
    }

    /// A whole partition, as one node tells it at the end: all that was acknowledged is in it, where it was said to be.
    pub fn whole(&mut self, node: NodeId, place: Place, values: &[Value]) -> Result<(), Broken> {
        for (offset, value) in (0..).zip(values) {
            self.at(place, offset, *value)?;
        }
        for ((_, offset), value) in self.acked.range((place, 0)..=(place, i64::MAX)) {
            let found = usize::try_from(*offset).ok().and_then(|at| values.get(at));
            ensure!(
                found == Some(value),
                "acknowledged never lost: node {node} has {found:x?} at offset {offset} of {place:?}, \
                 where record {value:x} was acknowledged"
            );
        }
        Ok(())
    }

    /// How many records were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acked.len()
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
    (entry.term, hash(&entry.data) ^ entry.kind as u64)
}

fn hash(data: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}
