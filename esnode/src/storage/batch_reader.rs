//! Finds the batches of a partition, by the indexes of packs and segments and among the recent ones, and reads them.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::log::Log;
use super::log::packs::Pack;
use super::log::segment::Segment;
use super::log::segment_indexes::IndexFile;
use crate::batch_index::recent::{RecentBatch, RecentBatches};
use crate::batch_index::segment_index::{Row, SegmentIndex};
use crate::batch_index::{BatchEntry, IndexedBatch, PartitionKey, Wanted};

/// Bytes that are read at once, at most, unless one batch has more.
const MAX_SPAN: u64 = 1 << 20;
/// Batches that one search finds by indexes, at most.
const MOST_FOUND: usize = 8192;
/// Bytes between two batches that are read with them rather than in two reads.
const SMALL_GAP: u64 = 4 << 10;

/// Finds and reads batches. Cheap to clone, and safe to use from any thread.
#[derive(Clone)]
pub struct BatchReader {
    log: Log,
    recent: Arc<RecentBatches>,
}

/// A file that holds batches.
#[derive(Clone, Debug)]
pub(crate) enum BatchFile {
    /// A segment of the log.
    Segment(Arc<Segment>),
    /// A pack.
    Pack(Arc<Pack>),
}

/// A file that holds batches, and its index.
pub(crate) type Indexed = (BatchFile, Arc<SegmentIndex<IndexFile>>);

impl BatchFile {
    /// What the file is sorted by: packs come before segments.
    fn order(&self) -> (bool, u64, u64) {
        match self {
            Self::Pack(pack) => (false, *pack.entries().start(), pack.generation()),
            Self::Segment(segment) => (true, segment.header.sequence.into(), segment.header.generation),
        }
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Pack(pack) => pack.read(offset, length),
            Self::Segment(segment) => segment.read(offset, length),
        }
    }

    fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Pack(pack) => pack.read_into(offset, buffer),
            Self::Segment(segment) => segment.read_into(offset, buffer),
        }
    }
}

/// A batch on disk.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Its partition.
    pub key: PartitionKey,
    /// The batch.
    pub batch: BatchEntry,
    /// Term of its entry.
    pub term: u64,
    file: BatchFile,
    position: u32,
}

impl StoredBatch {
    /// A batch of a file with an index.
    pub(crate) fn new(key: PartitionKey, file: &BatchFile, indexed: IndexedBatch) -> Self {
        let IndexedBatch { batch, term, position } = indexed;
        Self { key, batch, term, file: file.clone(), position }
    }

    fn start(&self) -> u64 {
        self.position.into()
    }

    fn end(&self) -> u64 {
        self.start() + u64::from(self.batch.length)
    }
}

impl BatchReader {
    /// Those of this log, the `recent` ones among them.
    pub fn new(log: Log, recent: Arc<RecentBatches>) -> Self {
        Self { log, recent }
    }

    /// The first entry of the log that no pack covers.
    pub fn first_unpacked(&self) -> u64 {
        self.log.first_index().max(self.log.packs().last_index() + 1)
    }

    /// The first entry whose batches are here.
    pub fn first_index(&self) -> u64 {
        let log = self.log.first_index();
        self.log.packs().entries().map_or(log, |entries| log.min(*entries.start()))
    }

    /// The batches that no index has yet.
    pub fn recent(&self) -> &Arc<RecentBatches> {
        &self.recent
    }

    /// Returns the batches of a partition from the one that is `wanted` on, which is not before entry `from`: as many as
    /// fit in `max_bytes`, at least one if there is one. `None` if no index tells; then the log itself must be searched.
    pub fn find(
        &self,
        key: PartitionKey,
        wanted: Wanted,
        from: u64,
        max_bytes: usize,
    ) -> Option<Vec<StoredBatch>> {
        let mut search = Search { key, room: max_bytes, found: Vec::new() };
        let is_complete = self.search(&mut search, wanted, from);
        (is_complete || !search.found.is_empty()).then_some(search.found)
    }

    /// Returns false if no index tells what comes after what it has found.
    fn search(&self, search: &mut Search, wanted: Wanted, from: u64) -> bool {
        let (mut entry, mut again) = (from, true);
        loop {
            // The recent ones may still hold what an index already has.
            let wanted = search.found.last().map_or(wanted, |last| Wanted::Offset(last.batch.end_offset()));
            if self.recent.since() <= entry {
                let recent = self.recent.find(search.key, wanted, search.room);
                let places = self.log.resolve(recent.iter().map(|recent| (recent.entry, recent.offset)));
                // Else some may have left while they were looked for.
                if self.recent.since() <= entry {
                    return places.map(|places| search.take_recent(&recent, places)).is_some();
                }
            }
            let Some((file, index)) = self.index_of(entry) else {
                // The recent ones may just have been extended back to it, or it has got its index.
                if std::mem::take(&mut again) {
                    continue;
                }
                return false;
            };
            let searched = index.row(search.key).and_then(|row| match row {
                Some(row) => index.batches(&row, wanted, |batch| search.take(&file, batch)),
                None => Ok(ControlFlow::Continue(())),
            });
            match searched {
                Ok(ControlFlow::Break(())) => return true,
                Ok(ControlFlow::Continue(())) => (entry, again) = (index.entries().end() + 1, true),
                Err(error) => {
                    self.discard_damaged(&file, &error);
                    return false;
                }
            }
        }
    }

    /// The pack or the segment that holds the batches of an entry, with its index. A segment may have none.
    pub(crate) fn index_of(&self, entry: u64) -> Option<Indexed> {
        if let Some(pack) = self.log.packs().holding(entry) {
            let index = Arc::clone(&pack.index);
            return Some((BatchFile::Pack(pack), index));
        }
        self.log.index_of(entry).map(|(segment, index)| (BatchFile::Segment(segment), index))
    }

    /// Where to scan the log for what is `wanted` of a partition, which has this offset at the first batch of this entry:
    /// there, or behind what is packed.
    ///
    /// # Errors
    /// `InvalidData` if a pack holds what is wanted: it is damaged, or it would have been found. Those of the file system.
    pub fn place_in_log(
        &self,
        key: PartitionKey,
        wanted: Wanted,
        (entry, base_offset): (u64, i64),
    ) -> io::Result<(u64, i64)> {
        let first = self.first_unpacked();
        if entry >= first {
            return Ok((entry, base_offset));
        }
        let row = self.last_row(key, entry, first)?;
        if row.is_some_and(|row| !row.is_before(wanted)) {
            let reason =
                format!("a pack with events of partition {} of topic number {} is damaged", key.1, key.0);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok((first, row.map_or(base_offset, |row| row.end_offset)))
    }

    /// The newest row of a partition in the files that hold the entries from `from` up to, but not including, `before`:
    /// `Ok(None)` if they have none.
    ///
    /// # Errors
    /// If a segment has no index; those of the file system.
    pub(crate) fn last_row(&self, key: PartitionKey, from: u64, before: u64) -> io::Result<Option<Row>> {
        let mut end = before;
        while end > from {
            // It may have been packed meanwhile, together with what follows.
            let is_exact = |indexed: &Indexed| end < before || *indexed.1.entries().end() < before;
            let unknown = || {
                let reason = format!("no index tells what entry {} and those before it hold", end - 1);
                io::Error::new(io::ErrorKind::NotFound, reason)
            };
            let (file, index) = self.index_of(end - 1).filter(is_exact).ok_or_else(unknown)?;
            let row = index.row(key).inspect_err(|error| self.discard_damaged(&file, error))?;
            if row.is_some() {
                return Ok(row);
            }
            // A segment may begin with entries that are packed.
            let is_pack = matches!(file, BatchFile::Pack(_));
            end = if is_pack { 0 } else { self.first_unpacked() }.max(*index.entries().start());
        }
        Ok(None)
    }

    /// Reads batches, as they are stored, in this order. Those that lie close to each other are read together.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, batches: &[StoredBatch]) -> io::Result<Vec<Bytes>> {
        let mut by_place: Vec<usize> = (0..batches.len()).collect();
        by_place.sort_by_key(|at| (batches[*at].file.order(), batches[*at].position));
        let bytes: usize = batches.iter().map(|stored| stored.batch.length as usize).sum();
        let (mut buffer, mut places) = (Vec::with_capacity(bytes + bytes / 4), vec![0; batches.len()]);
        let mut rest = &by_place[..];
        while let Some(first) = rest.first() {
            let first = &batches[*first];
            let (count, end) = span(rest.iter().map(|at| &batches[*at]));
            let (near, further) = rest.split_at(count);
            let from = buffer.len();
            let place =
                |offset: u64| from + usize::try_from(offset - first.start()).expect("a span fits in memory");
            near.iter().for_each(|at| places[*at] = place(batches[*at].start()));
            buffer.resize(place(end), 0);
            first.file.read_into(first.start(), &mut buffer[from..])?;
            rest = further;
        }
        let buffer = Bytes::from(buffer);
        let read = batches.iter().zip(places);
        Ok(read.map(|(stored, at)| buffer.slice(at..at + stored.batch.length as usize)).collect())
    }

    /// If this error says that the index of a file is damaged, that of a segment is made anew.
    pub(crate) fn discard_damaged(&self, file: &BatchFile, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
            self.discard(file, error);
        }
    }

    /// What the index says of this batch is not true: the index of its segment is made anew. That of a pack cannot be.
    pub fn discard_index(&self, of: &StoredBatch, reason: &'static str) {
        self.discard(&of.file, &io::Error::new(io::ErrorKind::InvalidData, reason));
    }

    fn discard(&self, file: &BatchFile, error: &io::Error) {
        match file {
            BatchFile::Segment(segment) => self.log.discard_index(segment, error),
            BatchFile::Pack(pack) => tracing::error!(file = pack.file_name(), %error, "a pack is damaged"),
        }
    }
}

/// How many of these batches, which are in the order of their places, are read together, and where they end: as long as at
/// most a fifth of what is read is for nothing.
fn span<'a>(mut batches: impl Iterator<Item = &'a StoredBatch>) -> (usize, u64) {
    let Some(first) = batches.next() else { return (0, 0) };
    let (mut end, mut wanted) = (first.end(), u64::from(first.batch.length));
    let file = first.file.order();
    let mut count = 1;
    for batch in batches.take_while(|batch| batch.file.order() == file) {
        let gap = batch.start().saturating_sub(end);
        let (further, needed) = (end.max(batch.end()), wanted + u64::from(batch.batch.length));
        let total = further - first.start();
        let near = gap <= SMALL_GAP.min(u64::from(batch.batch.length) / 4) || total <= needed * 5 / 4;
        if total > MAX_SPAN || !near {
            break;
        }
        (end, wanted) = (further, needed);
        count += 1;
    }
    (count, end)
}

/// A search for batches under way.
struct Search {
    key: PartitionKey,
    /// Bytes that more batches may have.
    room: usize,
    found: Vec<StoredBatch>,
}

impl Search {
    fn take(&mut self, file: &BatchFile, indexed: IndexedBatch) -> ControlFlow<()> {
        let length = indexed.batch.length as usize;
        let is_enough = length > self.room || self.found.len() == MOST_FOUND;
        if is_enough && !self.found.is_empty() {
            return ControlFlow::Break(());
        }
        self.room = self.room.saturating_sub(length);
        self.found.push(StoredBatch::new(self.key, file, indexed));
        ControlFlow::Continue(())
    }

    fn take_recent(&mut self, recent: &[RecentBatch], places: Vec<(Arc<Segment>, u32, u64)>) {
        let key = self.key;
        let stored = recent.iter().zip(places).map(|(recent, (segment, position, term))| StoredBatch {
            key,
            batch: recent.batch,
            term,
            file: BatchFile::Segment(segment),
            position,
        });
        self.found.extend(stored);
    }
}
