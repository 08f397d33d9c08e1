//! The thread that packs: it puts the batches of older entries into packs ([`crate::storage::Packs`]), as far as they are
//! kept.
//!
//! What is kept is decided by the newest snapshot that is written: after a crash the state may be as old as that. And only
//! entries before it are packed, since those after it are replayed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::iter::Peekable;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::background_thread::BackgroundThread;
use super::indexer::Postponed;
use super::stored_batches as stored;
use crate::batch_index::segment_index::{Row, SegmentIndex};
use crate::batch_index::{PartitionKey, Wanted};
use crate::state_machine::{Partition, Position, StateMachine};
use crate::storage::batch_reader::{BatchFile, BatchReader, Indexed, StoredBatch};
use crate::storage::log::segment_indexes::IndexFile;
use crate::storage::{Log, PackWriter, is_full};
use plan::{Disk, Unit, Work};

mod plan;

/// The on-disk format from which on there are packs.
const PACKS_FORMAT: u16 = 4;
/// Bytes that are read, and written out, in one go.
const CHUNK: usize = 1 << 20;
/// Pause after each of them: the disk is for others, too.
const PAUSE: Duration = Duration::from_millis(5);

/// The thread rests so many times as long as it has worked, since to look for work takes the longer the more there is on disk.
const REST: u32 = 20;
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The thread.
pub struct Packer {
    _thread: BackgroundThread,
}

/// States as of the newest snapshot, on their way to the packer.
#[derive(Clone)]
pub struct SnapshotStates(Sender<StateMachine>, Receiver<StateMachine>);

impl Default for SnapshotStates {
    fn default() -> Self {
        let (sender, receiver) = bounded(1);
        Self(sender, receiver)
    }
}

impl SnapshotStates {
    /// A snapshot of this state was written. The packer takes no notice of an earlier one that it has not seen.
    pub fn put(&self, state: StateMachine) {
        drop(self.1.try_recv());
        // If another one came in between, it is as good.
        drop(self.0.try_send(state));
    }
}

/// How much of the log stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of a segment.
    pub segment: u64,
    /// Bytes of the log that are not packed: followers that are behind get entries from there.
    pub kept: u64,
}

impl Packer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn spawn(log: Log, batches: BatchReader, states: SnapshotStates, sizes: Sizes) -> io::Result<Self> {
        let run = move |stopped| {
            let given_up = RefCell::default();
            Packing { log, batches, sizes, pause: PAUSE, stopped, given_up }.run(&states);
        };
        Ok(Self { _thread: BackgroundThread::spawn("packer", run)? })
    }
}

pub(super) struct Packing {
    pub(super) log: Log,
    pub(super) batches: BatchReader,
    pub(super) sizes: Sizes,
    pub(super) pause: Duration,
    /// Disconnected when the node stops.
    pub(super) stopped: Receiver<()>,
    /// Packs that cannot be read whole. They stay as they are, and keep nothing else from being packed.
    pub(super) given_up: RefCell<BTreeSet<u64>>,
}

impl Packing {
    fn run(&self, states: &SnapshotStates) {
        loop {
            let state = select! {
                recv(states.1) -> state => state,
                recv(self.stopped) -> _ => return,
            };
            let Ok(state) = state else { return };
            let (began, packed) = (Instant::now(), self.pack_all(state, states));
            match packed {
                Ok(()) => {}
                Err(Postponed::Stopped) => return,
                Err(Postponed::Failed(error)) if is_full(&error) => {
                    tracing::warn!(%error, "no room for a pack; the next one is tried later");
                }
                Err(Postponed::Failed(error)) => {
                    tracing::warn!(%error, "what is deleted stays on the disk longer: it could not be packed");
                }
            }
            let rest = (REST * began.elapsed()).clamp(SHORTEST_REST, LONGEST_REST);
            if self.stopped.recv_timeout(rest).is_err_and(|error| error.is_disconnected()) {
                return;
            }
        }
    }

    /// Packs until there is nothing to do.
    fn pack_all(&self, mut state: StateMachine, newer: &SnapshotStates) -> Result<(), Postponed> {
        while state.format() >= PACKS_FORMAT && self.pack_next(&state)? {
            state = newer.1.try_recv().unwrap_or(state);
        }
        Ok(())
    }

    /// Does what is to be done next. Returns false if that is nothing.
    pub(super) fn pack_next(&self, state: &StateMachine) -> Result<bool, Postponed> {
        let epoch = self.log.packs().epoch();
        // An earlier state does not know all that the packs hold, and would take it for deleted.
        if self.log.packs().last_index() > state.applied_index() {
            return Ok(false);
        }
        match plan::next(&self.units(state)?, state.low_watermark(), self.disk()) {
            Some(Work::DeleteBefore(entry)) => self.log.packs().delete_before(entry)?,
            Some(Work::Pack(entries)) => {
                // The log may have changed meanwhile; then a newer state is looked at.
                return self.pack(&entries, epoch, state).inspect_err(|error| self.give_up(&entries, error));
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// These entries could not be packed. If they are damaged, they never will be.
    fn give_up(&self, entries: &RangeInclusive<u64>, error: &Postponed) {
        self.log.packs().abandon();
        let damaged = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
        if !matches!(error, Postponed::Failed(error) if damaged.contains(&error.kind())) {
            return;
        }
        let packs =
            self.log.packs().all().into_iter().filter(|pack| entries.contains(pack.entries().start()));
        self.given_up.borrow_mut().extend(packs.map(|pack| pack.id()));
    }

    fn disk(&self) -> Disk {
        let stats = self.log.stats();
        Disk {
            segment: self.sizes.segment,
            is_low: stats.low_room.load(Relaxed),
            free: stats.free_bytes.load(Relaxed),
        }
    }

    /// All packs, and the segments after them that may be packed.
    fn units(&self, state: &StateMachine) -> io::Result<Vec<Unit>> {
        let mut units = Vec::new();
        for pack in self.log.packs().all() {
            let whole = || Unit::kept(pack.entries().clone(), pack.index.id().end, self.sizes.segment);
            let is_given_up = self.given_up.borrow().contains(&pack.id());
            units.push(if is_given_up {
                whole()
            } else {
                unit(&pack.index, true, state).unwrap_or_else(|_| whole())
            });
        }
        let mut entry = self.batches.first_unpacked();
        let end = self.log.index_before(self.sizes.kept).min(state.applied_index());
        while entry < end
            && let Some((segment, index)) = self.log.index_of(entry)
            && *index.entries().end() < end
        {
            // Another node's segments may begin with entries that are packed.
            let entries = entry..=*index.entries().end();
            let file = BatchFile::Segment(segment);
            let unit =
                unit(&index, false, state).inspect_err(|error| self.batches.discard_damaged(&file, error))?;
            units.push(Unit { entries, ..unit });
            entry = index.entries().end() + 1;
        }
        Ok(units)
    }

    /// Writes a pack of these entries, and puts it into its place. Returns false if it does not fit there any more.
    pub(super) fn pack(
        &self,
        entries: &RangeInclusive<u64>,
        epoch: u64,
        state: &StateMachine,
    ) -> Result<bool, Postponed> {
        let sources = self.sources(entries)?;
        let rows = sources.iter().map(|(file, index)| {
            let noticed =
                |row: io::Result<Row>| row.inspect_err(|error| self.batches.discard_damaged(file, error));
            index.rows().map(noticed).peekable()
        });
        let mut rows: Vec<_> = rows.collect();
        let mut writer = self.log.packs().begin(entries.clone(), epoch)?;
        while let Some((key, found)) = next_rows(&mut rows)? {
            // What comes before the first place that the state knows is never asked for.
            let known = |partition: &&Partition| partition.place_up_to(*entries.end()).is_some();
            if let Some(partition) = find(state, key).filter(known) {
                let found: Vec<_> = found.into_iter().map(|(source, row)| (&sources[source], row)).collect();
                let from = self.first_kept(key, partition, *entries.start())?;
                self.pack_partition(from, &found, &mut writer)?;
            }
        }
        check_complete(entries, state, &writer)?;
        let fits = self.log.packs().put(writer)?;
        if fits {
            tracing::info!(first = entries.start(), last = entries.end(), "packed older entries");
        }
        Ok(fits)
    }

    /// Some entries that may be packed.
    #[cfg(test)]
    pub(super) fn some(&self, rng: &mut fastrand::Rng, state: &StateMachine) -> Option<RangeInclusive<u64>> {
        let units = self.units(state).ok()?;
        let packs = units.partition_point(|unit| unit.is_pack);
        let from = rng.usize(..=packs.min(units.len().checked_sub(1)?));
        let to = rng.usize(from..units.len());
        Some(*units[from].entries.start()..=*units[to].entries.end())
    }

    /// The files that hold the batches of these entries.
    fn sources(&self, entries: &RangeInclusive<u64>) -> io::Result<Vec<Indexed>> {
        let mut sources: Vec<Indexed> = Vec::new();
        let mut entry = *entries.start();
        while entry <= *entries.end() {
            let source = self.batches.index_of(entry).ok_or(io::ErrorKind::NotFound)?;
            entry = source.1.entries().end() + 1;
            sources.push(source);
        }
        Ok(sources)
    }

    /// The offset from which on the entries from `entry` on must hold all that is kept of a partition.
    fn first_kept(&self, key: PartitionKey, partition: &Partition, entry: u64) -> io::Result<i64> {
        let place = entry.checked_sub(1).and_then(|before| partition.place_up_to(before));
        let place = place.filter(|(place, _)| place.index >= self.batches.first_index());
        let Some((place, _)) = place else { return Ok(partition.start_offset()) };
        let before = self.batches.last_row(key, place.index, entry)?;
        let before = before.ok_or_else(|| lacking(key, place.base_offset))?;
        Ok(before.end_offset.max(partition.start_offset()))
    }

    /// Writes what a partition has from the offset `from` on. All that there is must be in these rows.
    fn pack_partition(
        &self,
        from: i64,
        found: &[(&Indexed, Row)],
        writer: &mut PackWriter,
    ) -> Result<(), Postponed> {
        let ([(_, first), ..], [.., (_, last)]) = (found, found) else { return Ok(()) };
        let (mut covered, mut kept_from) = (i64::MIN, last.end_offset);
        for ((file, index), row) in found {
            let joins = row.base_offset <= covered.max(from) && row.end_offset >= covered;
            if !joins {
                return Err(lacking(row.key, covered.max(from)).into());
            }
            covered = row.end_offset;
            let mut next = row.base_offset.max(from);
            while next < row.end_offset {
                let (mut chunk, mut bytes) = (Vec::new(), 0);
                let flow = index.batches(row, Wanted::Offset(next), |indexed| {
                    bytes += indexed.batch.length as usize;
                    chunk.push(StoredBatch::new(row.key, file, indexed));
                    if bytes < CHUNK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                let _: ControlFlow<()> =
                    flow.inspect_err(|error| self.batches.discard_damaged(file, error))?;
                kept_from = chunk.first().map_or(kept_from, |first| kept_from.min(first.batch.base_offset));
                next = self.write(&chunk, next, writer)?;
            }
        }
        writer.end(Row::covering(first.key, kept_from..covered, last.newest));
        Ok(())
    }

    /// Writes batches; the first one holds the offset `next`, and they join. Returns the offset after the last one.
    fn write(&self, chunk: &[StoredBatch], next: i64, writer: &mut PackWriter) -> Result<i64, Postponed> {
        let read = stored::read(&self.batches, chunk)?;
        let (mut end, before) = (next, writer.position() / CHUNK);
        for (stored, bytes) in chunk.iter().zip(&read) {
            let batch = stored.batch;
            let joins = batch.base_offset == end || (end == next && batch.base_offset < end);
            if !joins {
                break;
            }
            writer.push(batch, stored.term, bytes)?;
            end = batch.end_offset();
        }
        if chunk.last().is_none_or(|last| last.batch.end_offset() != end) {
            let reason = format!("the batch at offset {end} is not where an index says");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason).into());
        }
        if writer.position() / CHUNK > before
            && self.stopped.recv_timeout(self.pause).is_err_and(|error| error.is_disconnected())
        {
            return Err(Postponed::Stopped);
        }
        Ok(end)
    }
}

/// A partition, and its rows, each with the number of the file that it is from.
type PartitionRows = (PartitionKey, Vec<(usize, Row)>);

/// Takes the rows of the next partition.
fn next_rows(
    rows: &mut [Peekable<impl Iterator<Item = io::Result<Row>>>],
) -> io::Result<Option<PartitionRows>> {
    let mut next: Option<PartitionKey> = None;
    for rows in &mut *rows {
        match rows.peek() {
            Some(Ok(row)) => next = Some(next.map_or(row.key, |next| next.min(row.key))),
            Some(Err(_)) => return rows.next().transpose().map(|_| None),
            None => {}
        }
    }
    let Some(key) = next else { return Ok(None) };
    let mut found = Vec::new();
    for (source, rows) in rows.iter_mut().enumerate() {
        let row = rows.next_if(|row| row.as_ref().is_ok_and(|row| row.key == key));
        found.extend(row.transpose()?.map(|row| (source, row)));
    }
    Ok(Some((key, found)))
}

/// Nothing of these entries that the state knows is missing in what was written.
fn check_complete(
    entries: &RangeInclusive<u64>,
    state: &StateMachine,
    writer: &PackWriter,
) -> io::Result<()> {
    for topic in state.topics() {
        for (number, partition) in (0..).zip(topic.partitions.iter()) {
            let place = partition.place_up_to(*entries.end()).map(|(place, _)| place);
            let kept = |place: &Position| {
                entries.contains(&place.index) && place.base_offset >= partition.start_offset()
            };
            let key = (topic.id, number);
            if let Some(place) = place.filter(kept)
                && writer.end_offset(key).is_none_or(|end| end <= place.base_offset)
            {
                return Err(lacking(key, place.base_offset));
            }
        }
    }
    Ok(())
}

fn lacking((topic, partition): PartitionKey, offset: i64) -> io::Error {
    let reason = format!("the indexes lack offset {offset} of partition {partition} of topic number {topic}");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn find(state: &StateMachine, (topic, partition): PartitionKey) -> Option<&Partition> {
    state.topic_by_id(topic)?.partitions.get(partition as usize)
}

/// Bytes of a row's batches with events from this offset on.
fn bytes_from(index: &SegmentIndex<IndexFile>, row: &Row, start_offset: i64) -> io::Result<u64> {
    if start_offset <= row.base_offset || row.end_offset <= start_offset {
        return Ok(if row.end_offset <= start_offset { 0 } else { row.bytes });
    }
    let mut bytes = 0;
    let _: ControlFlow<()> = index.batches(row, Wanted::Offset(start_offset), |indexed| {
        bytes += u64::from(indexed.batch.length);
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

/// What a file holds.
fn unit(index: &SegmentIndex<IndexFile>, is_pack: bool, state: &StateMachine) -> io::Result<Unit> {
    let (mut live, mut largest) = (0, 0);
    for row in index.rows() {
        let row = row?;
        let kept = match find(state, row.key) {
            Some(partition) => bytes_from(index, &row, partition.start_offset())?,
            None => 0,
        };
        live += kept;
        largest = kept.max(largest);
    }
    Ok(Unit { entries: index.entries().clone(), is_pack, bytes: index.id().end, live, largest })
}
