//! All topics, by number. A clone costs nothing: the two share what neither has changed since, down to single
//! partitions.

use rpds::{RedBlackTreeMapSync, VectorSync};
use serde::{Deserialize, Serialize};

use super::{Topic, TopicId};
use crate::state_machine::Partition;

/// The partitions of a topic, by number.
pub type Partitions = VectorSync<Partition>;

type ById = RedBlackTreeMapSync<TopicId, Topic>;

/// All topics.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "ById", into = "ById")]
pub(in crate::state_machine) struct Topics {
    by_id: ById,
    /// The entries of the log that hold the first event of any partition, with how many partitions that is.
    first_entries: RedBlackTreeMapSync<u64, usize>,
}

/// A place among all partitions: the first one of that topic from this number on, or of a later topic.
pub(in crate::state_machine) type Place = (TopicId, usize);

impl Topics {
    pub(in crate::state_machine) fn get(&self, id: TopicId) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    pub(in crate::state_machine) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_id.values()
    }

    pub(in crate::state_machine) fn len(&self) -> usize {
        self.by_id.size()
    }

    /// Changes a topic, but no event of any partition that it has.
    pub(super) fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.by_id.get_mut(&id)
    }

    /// Adds a topic without events.
    pub(super) fn insert(&mut self, topic: Topic) {
        self.by_id.insert_mut(topic.id, topic);
    }

    pub(super) fn remove(&mut self, id: TopicId) -> Option<Topic> {
        let topic = self.by_id.get(&id)?.clone();
        self.by_id.remove_mut(&id);
        let mut first: Vec<u64> = topic.partitions.iter().filter_map(Partition::first_index).collect();
        // Many partitions begin in one entry.
        first.sort_unstable();
        first.chunk_by(u64::eq).for_each(|same| self.forget_first(same[0], same.len()));
        Some(topic)
    }

    /// Changes a partition, if there is one.
    pub(in crate::state_machine) fn change<T>(
        &mut self,
        topic: TopicId,
        partition: usize,
        change: impl FnOnce(&mut Partition) -> T,
    ) -> Option<T> {
        let found = self.by_id.get_mut(&topic)?.partitions.get_mut(partition)?;
        let before = found.first_index();
        let outcome = change(found);
        let after = found.first_index();
        if before != after {
            if let Some(index) = before {
                self.forget_first(index, 1);
            }
            if let Some(index) = after {
                let partitions = self.first_entries.get(&index).copied().unwrap_or_default();
                self.first_entries.insert_mut(index, partitions + 1);
            }
        }
        Some(outcome)
    }

    /// The oldest entry of the log that holds events; `None` if there are no events.
    pub(in crate::state_machine) fn first_index(&self) -> Option<u64> {
        self.first_entries.first().map(|(index, _)| *index)
    }

    /// So many partitions no longer have their first event in this entry.
    fn forget_first(&mut self, index: u64, partitions: usize) {
        let left = self.first_entries.get(&index).map_or(0, |known| known - partitions);
        match left {
            0 => drop(self.first_entries.remove_mut(&index)),
            left => self.first_entries.insert_mut(index, left),
        }
    }

    /// Removes from so many partitions, from `from` on, what their indexes have in excess of one entry per
    /// `index_interval`. Returns how many index entries went, and where to go on, if partitions are left.
    pub(in crate::state_machine) fn prune_indexes(
        &mut self,
        from: Place,
        partitions: usize,
        index_interval: u64,
    ) -> (usize, Option<Place>) {
        let topics = self.by_id.range(from.0..).map(|(_, topic)| topic);
        let mut places = topics.flat_map(|topic| {
            let skipped = if topic.id == from.0 { from.1 } else { 0 };
            (0..)
                .zip(&topic.partitions)
                .skip(skipped)
                .map(|(number, partition)| (topic.id, number, partition))
        });
        // What stays as it is stays shared.
        let excessive: Vec<Place> = places
            .by_ref()
            .take(partitions)
            .filter(|(.., partition)| partition.has_dense_index(index_interval))
            .map(|(topic, number, _)| (topic, number))
            .collect();
        let next = places.next().map(|(topic, number, _)| (topic, number));
        let mut removed = 0;
        for (topic, number) in excessive {
            let pruned = self.change(topic, number, |partition| {
                let before = partition.index_entries();
                partition.prune_index(index_interval);
                before - partition.index_entries()
            });
            removed += pruned.unwrap_or_default();
        }
        (removed, next)
    }
}

impl From<ById> for Topics {
    fn from(by_id: ById) -> Self {
        let partitions = by_id.values().flat_map(|topic| &topic.partitions);
        let mut first_entries = RedBlackTreeMapSync::new_sync();
        for index in partitions.filter_map(Partition::first_index) {
            let partitions = first_entries.get(&index).copied().unwrap_or_default();
            first_entries.insert_mut(index, partitions + 1);
        }
        Self { by_id, first_entries }
    }
}

impl From<Topics> for ById {
    fn from(topics: Topics) -> Self {
        topics.by_id
    }
}
