//! Writes a pack, partition by partition.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::name::Name;
use crate::batch_index::segment_index::{IndexBuilder, Row, SegmentId};
use crate::batch_index::{BatchEntry, Content, IndexedBatch, PartitionKey};
use crate::storage::files::named;

/// Bytes that are written out in one go: others may share the disk, and wait for no more than that.
const SYNC_EVERY: u64 = 1 << 20;
const BUFFER: usize = 256 << 10;

/// A pack that is being written. Errors name the file.
#[derive(Debug)]
pub struct PackWriter {
    file: BufWriter<File>,
    pub(super) name: Name,
    /// How often all packs had been replaced when it was begun.
    pub(super) epoch: u64,
    position: u32,
    unsynced: u64,
    index: IndexBuilder,
    /// The batches of the partition that is being written.
    batches: Vec<IndexedBatch>,
}

impl PackWriter {
    pub(super) fn create(path: &Path, name: Name, epoch: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, file.map_err(named(path, ""))?),
            name,
            epoch,
            position: 0,
            unsynced: 0,
            index: IndexBuilder::default(),
            batches: Vec::new(),
        })
    }

    /// Adds a batch of the partition that is being written, and the term of its entry.
    ///
    /// # Errors
    /// Those of the file system; `FileTooLarge` for more than 4 GiB.
    pub fn push(&mut self, batch: BatchEntry, term: u64, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = self.position.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_all(bytes)?;
        // What ends a transaction became a batch when it was read.
        let batch = BatchEntry { length, content: Content::Batch, ..batch };
        self.batches.push(IndexedBatch { batch, term, position: self.position });
        self.position = end;
        self.unsynced += u64::from(length);
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
        }
        Ok(())
    }

    /// Ends the partition that is being written; `row` says what of it the pack covers.
    pub fn end(&mut self, row: Row) {
        self.index.add(row, &self.batches);
        self.batches.clear();
    }

    /// Bytes of the batches that were added.
    pub fn position(&self) -> usize {
        self.position as usize
    }

    /// The offset at which a partition that is written ends.
    pub fn end_offset(&self, key: PartitionKey) -> Option<i64> {
        self.index.row(key).map(|row| row.end_offset)
    }

    /// Writes the index. All but the name is durable on return.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { mut file, name, position, index, .. } = self;
        let generation = uuid::Uuid::new_v4().as_u64_pair().0;
        let id = SegmentId { sequence: 0, generation, end: position.into() };
        file.write_all(&index.encode(id, &name.entries, position))?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(())
    }
}
