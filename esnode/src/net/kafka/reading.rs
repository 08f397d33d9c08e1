//! Reads partitions' batches back out of the log. Blocking: belongs on a thread where waiting for a disk holds up
//! nobody else.
//!
//! Entries hold batches of many partitions, so several partitions are read in one walk over the log.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;

use super::ids::leader_epoch;
use crate::batch_index::Wanted;
use crate::entry::{Entry, EntryKind};
use crate::node::handle::Handle;
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::command::Command;
use crate::state_machine::{Position, StateMachine, Topic, TopicId};

/// Bytes of entries read at a time.
const CHUNK: u64 = 1 << 20;

/// A partition of a topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The topic's number, which tells it from a later topic of the same name.
    pub topic: TopicId,
    /// The partition.
    pub partition: u32,
}

impl Source {
    /// The partition's state, unless its topic is gone.
    pub fn find<'a>(&self, state_machine: &'a StateMachine) -> Option<&'a crate::state_machine::Partition> {
        let topic = state_machine.topic_by_id(self.topic)?;
        topic.partitions.get(self.partition as usize)
    }

    /// The partition with this name and number, if there is one.
    pub fn resolve(state_machine: &StateMachine, name: &TopicName, partition: i32) -> Option<Self> {
        Self::of(state_machine.topic(name)?, partition)
    }

    /// The partition of a topic with this number, if it has one.
    pub fn of(topic: &Topic, partition: i32) -> Option<Self> {
        let partition = u32::try_from(partition).ok()?;
        topic.partitions.get(partition as usize)?;
        Some(Self { topic: topic.id, partition })
    }
}

/// Partitions to read, each known by its place among them.
#[derive(Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
    places: HashMap<(TopicId, u32), usize>,
}

impl Sources {
    /// In this order.
    pub fn new(list: Vec<Source>) -> Self {
        let places = list
            .iter()
            .enumerate()
            .map(|(place, source)| ((source.topic, source.partition), place))
            .collect();
        Self { list, places }
    }
}

/// A batch that has offsets.
#[derive(Clone, Debug)]
pub struct LiveBatch<'a> {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// The term it was appended in.
    pub leader_epoch: i32,
    /// As the producer sent it.
    pub batch: &'a Bytes,
}

/// The batches of one entry that belong to the partitions looked for.
#[derive(Debug)]
pub struct Batches {
    /// The entry.
    pub index: u64,
    leader_epoch: i32,
    appends: Vec<Append>,
}

#[derive(Debug)]
struct Append {
    ordinal: u32,
    place: usize,
    batch: Bytes,
}

/// Where in the log a walk to what is `wanted` begins, which no index finds and which is known to be at `at` or later.
pub fn place_in_log(node: &Handle, source: &Source, wanted: Wanted, at: Position) -> io::Result<Position> {
    let key = (source.topic, source.partition);
    let (index, base_offset) = node.batches().place_in_log(key, wanted, (at.index, at.base_offset))?;
    Ok(Position { index, base_offset })
}

/// Reads the next entries from `low` up to but not including `high`, and picks out the batches of `sources`.
/// Empty when there is nothing more to read.
pub fn read(node: &Handle, sources: &Sources, low: u64, high: u64) -> io::Result<Vec<Batches>> {
    let entries = node.log().entries(low, high, CHUNK)?;
    let mut read = entries.iter().map(|entry| pick(entry, sources)).collect::<io::Result<Vec<_>>>()?;
    // Commands that were refused when applied lie in the log too; only the state knows which.
    let state_machine = node.state_machine();
    let partitions: Vec<_> = sources.list.iter().map(|source| source.find(&state_machine)).collect();
    for Batches { index, appends, .. } in &mut read {
        appends.retain(|append| {
            partitions[append.place].is_some_and(|partition| !partition.is_rejected(*index, append.ordinal))
        });
        // Stable, so that a partition's batches stay in order.
        appends.sort_by_key(|append| append.place);
    }
    Ok(read)
}

fn pick(entry: &Entry, sources: &Sources) -> io::Result<Batches> {
    let mut appends = Vec::new();
    if entry.kind == EntryKind::Normal {
        for (ordinal, command) in (0..).zip(Command::decode_all(&entry.data)) {
            let command = command.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            for (topic, partition, batch) in command.batches() {
                if let Some(place) = sources.places.get(&(topic, partition)) {
                    appends.push(Append { ordinal, place: *place, batch });
                }
            }
        }
    }
    Ok(Batches { index: entry.index, leader_epoch: leader_epoch(entry.term), appends })
}

impl Batches {
    /// Hands the batches of the partition at `place` to `each`, until it breaks. Moves `at` past this entry, or
    /// leaves it alone when `each` broke. An entry other than the one that `at` is at has nothing to offer.
    pub fn walk(
        &self,
        place: usize,
        at: &mut Position,
        mut each: impl FnMut(LiveBatch<'_>) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        if at.index != self.index {
            return Ok(ControlFlow::Continue(()));
        }
        let mut base_offset = at.base_offset;
        let begin = self.appends.partition_point(|append| append.place < place);
        for Append { batch, .. } in self.appends[begin..].iter().take_while(|append| append.place == place) {
            let header = BatchHeader::read(batch).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a batch without a header in the log")
            })?;
            let last_offset = base_offset + i64::from(header.last_offset_delta);
            let live = LiveBatch { base_offset, last_offset, leader_epoch: self.leader_epoch, batch };
            if each(live).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            base_offset = last_offset + 1;
        }
        *at = Position { index: self.index + 1, base_offset };
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A batch of so many records and bytes, as far as reading looks at it.
    pub fn batch(records: i32, size: usize) -> Bytes {
        let mut batch = vec![0; size];
        batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&records.to_be_bytes());
        batch.into()
    }

    /// What an entry holds: by place, in order.
    pub fn entry(index: u64, appends: &[(usize, Bytes)]) -> Batches {
        let appends = (0..)
            .zip(appends)
            .map(|(ordinal, (place, batch))| Append { ordinal, place: *place, batch: batch.clone() })
            .collect();
        Batches { index, leader_epoch: 6, appends }
    }

    fn walk(batches: &Batches, place: usize, at: &mut Position, most: usize) -> Vec<(i64, i64)> {
        let mut seen = Vec::new();
        let flow = batches.walk(place, at, |live| {
            if seen.len() == most {
                return ControlFlow::Break(());
            }
            seen.push((live.base_offset, live.last_offset));
            ControlFlow::Continue(())
        });
        assert!(flow.is_ok());
        seen
    }

    #[test]
    fn offsets_are_counted_through_one_partitions_batches() {
        let read = entry(4, &[(0, batch(9, 70)), (1, batch(2, 70)), (1, batch(3, 70)), (2, batch(9, 70))]);
        let mut at = Position { index: 4, base_offset: 100 };
        assert_eq!(walk(&read, 1, &mut at, 9), [(100, 101), (102, 104)]);
        assert_eq!(at, Position { index: 5, base_offset: 105 });
    }

    #[test]
    fn whoever_stops_comes_back_to_the_same_entry() {
        let read = entry(4, &[(1, batch(2, 70)), (1, batch(3, 70))]);
        let mut at = Position { index: 4, base_offset: 100 };
        assert_eq!(walk(&read, 1, &mut at, 1), [(100, 101)]);
        assert_eq!(at, Position { index: 4, base_offset: 100 });
    }

    #[test]
    fn an_entry_elsewhere_or_of_others_offers_nothing() {
        let read = entry(4, &[(1, batch(2, 70))]);
        for index in [3, 5] {
            let mut at = Position { index, base_offset: 100 };
            assert_eq!(walk(&read, 1, &mut at, 9), vec![]);
            assert_eq!(at, Position { index, base_offset: 100 });
        }
        let mut at = Position { index: 4, base_offset: 100 };
        assert_eq!(walk(&read, 0, &mut at, 9), vec![]);
        assert_eq!(at, Position { index: 5, base_offset: 100 });
    }
}
