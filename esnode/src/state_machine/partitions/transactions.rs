//! What transactions leave in a partition: those under way, and those that were aborted, whose events committed readers
//! pass over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The transactions of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Transactions {
    /// First offset of each transaction under way, by producer id.
    open: BTreeMap<i64, i64>,
    /// By the offset of their markers. Shared with clones until it changes.
    aborted: Arc<Vec<AbortedTransaction>>,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64, i64, i64)", into = "(i64, i64, i64, i64)")]
pub struct AbortedTransaction {
    /// Its producer id.
    pub producer: i64,
    /// Offset of its first event.
    pub first: i64,
    /// Offset of its marker.
    last: i64,
    /// First offset of all transactions that ended later.
    stable: i64,
}

impl Transactions {
    /// The producer has appended an event at `offset` in its transaction.
    pub(super) fn appended(&mut self, producer: i64, offset: i64) {
        self.open.entry(producer).or_insert(offset);
    }

    /// The producer's transaction has ended with a marker at `last`, behind which the partition ends.
    pub(super) fn end(&mut self, producer: i64, last: i64, is_committed: bool) {
        let Some(first) = self.open.remove(&producer).filter(|_| !is_committed) else { return };
        let stable = self.first_open().unwrap_or(last + 1);
        Arc::make_mut(&mut self.aborted).push(AbortedTransaction { producer, first, last, stable });
    }

    /// First offset of the producer's transaction, if it has one under way here.
    pub(super) fn first_of(&self, producer: i64) -> Option<i64> {
        self.open.get(&producer).copied()
    }

    /// First offset of all transactions under way.
    pub(super) fn first_open(&self) -> Option<i64> {
        self.open.values().min().copied()
    }

    /// Those with events from `from` up to, but not including, `to`, by their first offsets.
    pub(super) fn aborted_between(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let begin = self.aborted.partition_point(|aborted| aborted.last < from);
        let mut found = Vec::new();
        for aborted in &self.aborted[begin..] {
            if aborted.first < to {
                found.push(*aborted);
            }
            // Whatever ended after this one begins at `stable` or later.
            if aborted.stable >= to {
                break;
            }
        }
        found.sort_unstable_by_key(|aborted| aborted.first);
        found
    }

    /// Forgets those whose events are all before `start`, because these events are deleted.
    pub(super) fn delete_before(&mut self, start: i64) {
        let gone = self.aborted.partition_point(|aborted| aborted.last < start);
        if gone > 0 {
            Arc::make_mut(&mut self.aborted).drain(..gone);
        }
    }

    /// Numbers that stand for the whole state, in a fixed order.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(i64)) {
        for (producer, first) in &self.open {
            put(*producer);
            put(*first);
        }
        for AbortedTransaction { producer, first, last, stable } in self.aborted.iter() {
            [producer, first, last, stable].into_iter().for_each(|number| put(*number));
        }
    }
}

impl From<(i64, i64, i64, i64)> for AbortedTransaction {
    fn from((producer, first, last, stable): (i64, i64, i64, i64)) -> Self {
        Self { producer, first, last, stable }
    }
}

impl From<AbortedTransaction> for (i64, i64, i64, i64) {
    fn from(AbortedTransaction { producer, first, last, stable }: AbortedTransaction) -> Self {
        (producer, first, last, stable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random transactions: what is found is what overlaps, and nothing else.
    #[test]
    fn those_that_overlap_are_found() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut transactions, mut all, mut next) = (Transactions::default(), Vec::new(), 0);
        let mut open = BTreeMap::new();
        for _ in 0..300 {
            let producer = random.i64(0..5);
            if random.u8(..) < 160 {
                transactions.appended(producer, next);
                open.entry(producer).or_insert(next);
            } else {
                let is_committed = random.bool();
                transactions.end(producer, next, is_committed);
                if let Some(first) = open.remove(&producer).filter(|_| !is_committed) {
                    all.push((first, next, producer));
                }
            }
            next += 1;
            assert_eq!(transactions.first_open(), open.values().min().copied());
            let from = random.i64(0..next);
            // Committed readers read only what no transaction under way may still change.
            let stable = open.values().min().copied().unwrap_or(next);
            let to = random.i64(from..=next).min(stable);
            let mut expected: Vec<_> =
                all.iter().filter(|(first, last, _)| *last >= from && *first < to).collect();
            expected.sort_unstable();
            let found = transactions.aborted_between(from, to);
            let found: Vec<_> =
                found.iter().map(|aborted| (aborted.first, aborted.last, aborted.producer)).collect();
            assert_eq!(found, expected.into_iter().copied().collect::<Vec<_>>(), "{from} {to}");
        }
        assert!(all.len() > 20);
        transactions.delete_before(next / 2);
        assert!(transactions.aborted.iter().all(|aborted| aborted.last >= next / 2));
    }
}
