//! Finds batches for the index by reading the log: those of the time before the node started, of segments that came from
//! another node, and of earlier versions.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use parking_lot::RwLock;

use super::indexer::Postponed;
use crate::batch_index::recent::RecentBatch;
use crate::batch_index::{BatchEntry, IndexedBatch, PartitionKey};
use crate::entry::{Entry, EntryKind};
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::command::{Command, Stored};
use crate::state_machine::{Partition, StateMachine};
use crate::storage::Log;
use crate::storage::batch_reader::BatchReader;
use crate::storage::log::index::Position;
use crate::storage::log::segment_indexes::in_payload;

/// Bytes of entries read at a time.
const CHUNK: u64 = 1 << 20;

/// Reads the log.
pub(super) struct Scan {
    pub(super) log: Log,
    pub(super) batches: BatchReader,
    pub(super) state: Arc<RwLock<StateMachine>>,
    /// Pause after each reading.
    pub(super) pause: Duration,
    /// Disconnected when the node stops.
    pub(super) stopped: Receiver<()>,
}

/// A batch that was found.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) recent: RecentBatch,
    pub(super) indexed: IndexedBatch,
}

/// What was found so far in the entries from `first` on.
struct Scanned<'a> {
    scan: &'a Scan,
    state: StateMachine,
    first: u64,
    found: BTreeMap<PartitionKey, Vec<Found>>,
}

impl Scan {
    /// Reads these entries, which are applied, and returns what `pick` takes of the batches of each partition that is still
    /// there, but for those that were deleted long ago. All entries before them that hold events have an index.
    pub(super) fn entries<T>(
        &self,
        entries: RangeInclusive<u64>,
        pick: impl Fn(Found) -> T,
    ) -> Result<Vec<(PartitionKey, Vec<T>)>, Postponed> {
        let state = self.state.read().clone();
        // What is packed is found in the packs.
        let first = self.batches.first_unpacked().max(*entries.start());
        let mut scanned = Scanned { scan: self, state, first, found: BTreeMap::new() };
        let mut low = first;
        while low <= *entries.end() {
            let read = self.log.entries_with_positions(low, entries.end() + 1, CHUNK)?;
            let (last, _) = read.last().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            low = last.index + 1;
            read.iter().try_for_each(|(entry, position)| scanned.add(entry, *position))?;
            if self.stopped.recv_timeout(self.pause).is_err_and(|error| error.is_disconnected()) {
                return Err(Postponed::Stopped);
            }
        }
        let picked = |batches: Vec<Found>| batches.into_iter().map(&pick).collect();
        Ok(scanned.found.into_iter().map(|(key, batches)| (key, picked(batches))).collect())
    }

    /// The offset of the partition's first batch in `entry`, and the newest timestamp before it; `None` if that batch was
    /// deleted. The entries from `first` up to that one hold no batch that was not.
    fn before(
        &self,
        key: PartitionKey,
        partition: &Partition,
        (first, entry): (u64, u64),
    ) -> io::Result<Option<(i64, i64)>> {
        let Some((known, newest)) = partition.place_up_to(entry) else { return Ok(None) };
        if known.index == entry {
            return Ok(Some((known.base_offset, newest.unwrap_or(i64::MIN))));
        }
        if known.index < self.batches.first_index() {
            // It went with everything up to the next place that is known.
            return Ok(None);
        }
        let row = self.batches.last_row(key, known.index, first)?;
        let missing =
            || io::Error::new(io::ErrorKind::InvalidData, "the indexes lack a batch that the state knows");
        row.map(|row| Some((row.end_offset, row.newest))).ok_or_else(missing)
    }
}

impl Scanned<'_> {
    fn add(&mut self, entry: &Entry, position: Position) -> io::Result<()> {
        if entry.kind != EntryKind::Normal {
            return Ok(());
        }
        for (ordinal, decoded) in (0..).zip(Command::decode_with_places(&entry.data)) {
            // As when the entry was applied: the rest of it counts for nothing.
            let Ok((place, command)) = decoded else { break };
            let stored = command.stored_at(place);
            for (topic, partition, batch) in command.batches() {
                let header = BatchHeader::read(&batch).filter(|header| header.records() > 0);
                let Some(header) = header else { continue };
                self.add_batch((topic, partition), &header, (entry, ordinal), (position, stored))?;
            }
        }
        Ok(())
    }

    fn add_batch(
        &mut self,
        key: PartitionKey,
        header: &BatchHeader,
        (entry, ordinal): (&Entry, u32),
        (position, stored): (Position, Stored),
    ) -> io::Result<()> {
        let topic = self.state.topic_by_id(key.0);
        let partition = topic.and_then(|topic| topic.partitions.get(key.1 as usize));
        let Some(partition) = partition.filter(|partition| !partition.is_rejected(entry.index, ordinal))
        else {
            return Ok(());
        };
        let before = match self.found.get(&key).and_then(|batches| batches.last()) {
            Some(Found { recent, .. }) => Some((recent.batch.end_offset(), recent.batch.newest)),
            None => self.scan.before(key, partition, (self.first, entry.index))?,
        };
        let Some((base_offset, newest)) = before else { return Ok(()) };
        // A marker is of no event.
        let newest = if header.is_control() { newest } else { newest.max(header.max_timestamp) };
        let records = u32::try_from(header.records()).expect("one more than an i32 that is not negative");
        let Stored { content, offset, length } = stored;
        let batch = BatchEntry { base_offset, records, newest, length, content };
        let recent = RecentBatch { batch, entry: entry.index, offset };
        let indexed = IndexedBatch { batch, term: entry.term, position: in_payload(position, offset) };
        self.found.entry(key).or_default().push(Found { recent, indexed });
        Ok(())
    }
}
