//! The files of the batch index: one beside each sealed segment, with the same name and another extension.
//!
//! As with footers ([`super::footer`]), such a file is never required and never synced. A missing or damaged one is made anew;
//! meanwhile the segment itself is read.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::Log;
use super::frame::HEADER_LEN;
use super::header;
use super::index::Position;
use super::open_files::SegmentFile;
use super::segment::Segment;
use crate::batch_index::segment_index::{SegmentId, SegmentIndex, encode};
use crate::batch_index::{IndexedBatch, PartitionKey, ReadAt};
use crate::storage::files::{self, named};

const EXTENSION: &str = "idx";
/// Name of a file that is being written.
pub(crate) const UNFINISHED: &str = "next.idx";

/// The file of an index, open or not.
#[derive(Debug)]
pub struct IndexFile(Arc<SegmentFile>);

impl IndexFile {
    /// The index that is in this file.
    pub(crate) fn new(file: Arc<SegmentFile>) -> Self {
        Self(file)
    }
}

impl ReadAt for IndexFile {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&*self.0.get()?, &mut buffer, position)?;
        Ok(buffer.into())
    }
}

/// A sealed segment without an index.
pub(crate) struct Unindexed {
    segment: Arc<Segment>,
    end: u64,
    /// Its entries, without those that later segments supersede.
    pub entries: RangeInclusive<u64>,
}

/// Returns the path of the index of this segment.
fn path(dir: &Path, segment: &str) -> PathBuf {
    dir.join(segment).with_extension(EXTENSION)
}

/// Removes the indexes in `dir` whose segments are gone.
///
/// # Errors
/// Those of the file system.
pub(crate) fn remove_orphans(dir: &Path) -> io::Result<()> {
    for name in files::list(dir, EXTENSION)? {
        if !dir.join(&name).with_extension(&header::EXTENSION[1..]).exists() {
            files::remove_if_present(dir, &name)?;
        }
    }
    Ok(())
}

/// Removes the index of a segment, if there is one.
pub(crate) fn remove(dir: &Path, segment: &str) {
    // One that stays is not believed for another segment.
    drop(fs::remove_file(path(dir, segment)));
}

impl Unindexed {
    /// Sequence number of the segment.
    pub fn sequence(&self) -> u32 {
        self.segment.header.sequence
    }

    fn id(&self) -> SegmentId {
        let header = self.segment.header;
        SegmentId { sequence: header.sequence, generation: header.generation, end: self.end }
    }
}

impl Log {
    /// Receives something whenever a segment was sealed since it last did, and the next one has entries.
    pub(crate) fn sealed(&self) -> Receiver<()> {
        self.shared.sealed.1.clone()
    }

    /// The segment that holds an entry, with its index if it has one. An index that was made before later segments superseded
    /// some of its entries does not count.
    pub(crate) fn index_of(&self, entry: u64) -> Option<(Arc<Segment>, Arc<SegmentIndex<IndexFile>>)> {
        let state = self.shared.state.read();
        let span = state.index.span(entry, entry).filter(|_| entry <= state.index.last())?;
        let segment = state.segment(span.position.segment)?;
        let index = segment.batches.read().clone()?;
        let ends = state.index.first_after(span.position.segment)?;
        let is_of = |entries: &RangeInclusive<u64>| entries.contains(&entry) && entries.end() + 1 == ends;
        is_of(index.entries()).then_some(())?;
        Some((Arc::clone(segment), index))
    }

    /// The oldest sealed segment after the one of this sequence number that holds entries and has no index. Until a later
    /// segment has entries that can be read, not all of its own may be readable yet.
    pub(crate) fn next_unindexed(&self, after: u32) -> Option<Unindexed> {
        let state = self.shared.state.read();
        let from = state.segments.partition_point(|segment| segment.header.sequence <= after);
        let ends = state.segments.iter().skip(from + 1).map(|next| next.header.previous_end);
        state.segments.iter().skip(from).zip(ends).find_map(|(segment, end)| {
            let sequence = segment.header.sequence;
            let first = state.index.first_in(sequence)?;
            let entries = first..=state.index.first_after(sequence)? - 1;
            let has_index = segment.batches.read().as_ref().is_some_and(|index| *index.entries() == entries);
            (!has_index).then(|| Unindexed { segment: Arc::clone(segment), end, entries })
        })
    }

    /// The first entry of the newest segment that holds entries, which has no index yet.
    pub(crate) fn first_unsealed(&self) -> u64 {
        let index = &self.shared.state.read().index;
        let newest = index.span(index.last(), index.last());
        newest.and_then(|newest| index.first_in(newest.position.segment)).unwrap_or(index.last() + 1)
    }

    /// Uses the index of a segment that is there from before. Returns false if there is none that can be used.
    pub(crate) fn open_index(&self, of: &Unindexed) -> bool {
        let path = path(&self.shared.dir, &of.segment.name);
        let open = || {
            let file = fs::File::open(&path)?;
            let length = file.metadata()?.len();
            let file = Arc::new(SegmentFile::new(file));
            file.close_when_idle(path.clone(), &self.shared.files);
            SegmentIndex::open(IndexFile::new(file), length)
        };
        match open() {
            Ok(index) if index.id() == of.id() && index.entries() == &of.entries => {
                *of.segment.batches.write() = Some(Arc::new(index));
                true
            }
            Ok(_) => false,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = of.segment.name, %error, "the index of a segment is made anew");
                }
                false
            }
        }
    }

    /// Writes the index of a segment, and uses it.
    ///
    /// # Errors
    /// Those of the file system; the segment then has no index.
    pub(crate) fn write_index(
        &self,
        of: &Unindexed,
        partitions: &[(PartitionKey, Vec<IndexedBatch>)],
    ) -> io::Result<()> {
        let dir = &self.shared.dir;
        let bytes = encode(of.id(), &of.entries, partitions);
        let unfinished = dir.join(UNFINISHED);
        let written = fs::write(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, path(dir, &of.segment.name)))
            .map_err(named(dir, UNFINISHED));
        // On a full disk others need the room.
        written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        if self.open_index(of) { Ok(()) } else { Err(io::Error::other("what was written cannot be read")) }
    }

    /// Gives up the index of a segment, because it is not what it should be.
    pub(crate) fn discard_index(&self, segment: &Segment, error: &io::Error) {
        if segment.batches.write().take().is_none() {
            return;
        }
        tracing::warn!(file = segment.name, %error, "the index of a segment cannot be used; it is made anew");
        remove(&self.shared.dir, &segment.name);
        let _ = self.shared.sealed.0.try_send(());
    }

    /// Says where these places are: each an entry and an offset in its payload. Gives for each the segment, the offset in
    /// its file, and the entry's term; `None` unless all are known.
    pub(crate) fn resolve(
        &self,
        places: impl Iterator<Item = (u64, u32)>,
    ) -> Option<Vec<(Arc<Segment>, u32, u64)>> {
        let state = self.shared.state.read();
        let resolve = |(entry, offset)| {
            let position = state.positions.get(entry)?;
            let segment = state.segment(position.segment)?;
            let position = in_payload(position, offset);
            Some((Arc::clone(segment), position, state.index.term(entry)?))
        };
        places.map(resolve).collect()
    }

    /// Forgets the positions of the entries up to `last`, which indexes hold.
    pub(crate) fn forget_positions(&self, last: u64) {
        self.shared.state.write().positions.forget(last);
    }
}

/// Where in a segment's file something lies that is in the payload of the entry at `position`.
pub(crate) fn in_payload(position: Position, offset: u32) -> u32 {
    position.offset + u32::try_from(HEADER_LEN).expect("a few bytes") + offset
}
