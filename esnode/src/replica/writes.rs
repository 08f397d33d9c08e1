//! The writes that are reported when they are durable, and what each of them makes durable.

use std::collections::{BTreeMap, VecDeque};

use shared::ids::{NodeId, StoreId};

use super::environment::{Environment, Staged};
use super::mistake::{Mistake, makes};
use super::{Effect, Replica, Write, WriteContent};
use crate::state_machine::members::Members;

/// What a write makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// All work of consensus up to this number.
    Work(u64),
    /// The commit index of the entry that retired the last of these data directories.
    Retired(BTreeMap<StoreId, NodeId>),
}

/// The writes under way, and the retired data directories that others may be told of.
///
/// A removed node ends when another one says that it is removed. Whoever says so and then forgets it in a crash may need
/// that node's vote again: of two nodes, one cannot elect itself after the other one was told. So others are told of a
/// removal only once the commit index that covers it is durable.
#[derive(Debug, Default)]
pub(super) struct Writes {
    last: u64,
    waiting: VecDeque<(u64, Durable)>,
    /// How many are retired, as far as this node's disk says or is about to say: their number only grows.
    retired: usize,
    /// Retired, and durably so.
    told: BTreeMap<StoreId, NodeId>,
}

impl Writes {
    /// Starts with the data directories that are retired according to what the disk held.
    pub(super) fn new(retired: &BTreeMap<StoreId, NodeId>) -> Self {
        Self { retired: retired.len(), told: retired.clone(), ..Self::default() }
    }

    /// Number of the next write, which makes this durable.
    fn number(&mut self, durable: Durable) -> u64 {
        self.last += 1;
        self.waiting.push_back((self.last, durable));
        self.last
    }

    /// What the writes up to `number` have made durable.
    fn persisted(&mut self, number: u64) -> impl Iterator<Item = Durable> + use<> {
        let done = self.waiting.partition_point(|(waiting, _)| *waiting <= number);
        self.waiting.drain(..done).map(|(_, durable)| durable).collect::<Vec<_>>().into_iter()
    }

    /// The retired data directories that others may be told of.
    pub(super) fn told(&self) -> &BTreeMap<StoreId, NodeId> {
        &self.told
    }
}

impl<E: Environment> Replica<E> {
    /// Hands work to the disk whose end nobody waits for.
    pub(super) fn write(&mut self, content: WriteContent<Staged<E>>) {
        self.effects.push(Effect::Write(Write { number: None, content }));
    }

    /// Hands work to the disk that makes this durable.
    pub(super) fn write_durably(&mut self, durable: Durable, content: WriteContent<Staged<E>>) {
        let number = Some(self.writes.number(durable));
        self.effects.push(Effect::Write(Write { number, content }));
    }

    /// The writes up to `number` are durable.
    pub(super) fn on_persisted(&mut self, number: u64) {
        for durable in self.writes.persisted(number) {
            match durable {
                Durable::Work(number) => self.work_persisted(number),
                Durable::Retired(retired) => {
                    self.writes.told = retired;
                    self.follow_members();
                }
            }
        }
    }

    /// Makes the commit index durable that covers the last change of `members`, if that has retired any data directory.
    pub(super) fn retire_durably(&mut self, members: &Members) {
        if members.retired().len() == self.writes.retired {
            return;
        }
        self.writes.retired = members.retired().len();
        if makes(Mistake::ForgetRemovals) {
            self.writes.told.clone_from(members.retired());
            return;
        }
        self.lazy = None;
        let hard_state = self.core.hard_state(members.changed_at());
        let durable = Durable::Retired(members.retired().clone());
        self.write_durably(durable, WriteContent::Append(Some(hard_state), Vec::new()));
    }

    fn work_persisted(&mut self, number: u64) {
        let installed = self.installer.installed(number);
        self.core.persisted(number);
        if let Some(fetched) = installed {
            self.take_over(fetched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_is_reported_once_and_in_order() {
        let mut writes = Writes::default();
        let retired = Durable::Retired(BTreeMap::new());
        let numbers =
            [Durable::Work(7), Durable::Work(8), retired.clone()].map(|durable| writes.number(durable));
        assert!(numbers.is_sorted());
        assert_eq!(writes.persisted(numbers[0]).collect::<Vec<_>>(), [Durable::Work(7)]);
        assert_eq!(writes.persisted(numbers[0]).count(), 0);
        assert_eq!(writes.persisted(numbers[2]).collect::<Vec<_>>(), [Durable::Work(8), retired]);
    }
}
