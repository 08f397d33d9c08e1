//! The index of a sealed segment, in a file beside it; or of a pack, at the end of its file.
//!
//! ```text
//! blocks of each partition | directory | filter | footer
//! footer: magic [8] | format version u32 | sequence u32 | generation u64 | end u64 | first entry u64 | last entry u64
//! | rows u32 | position of the directory u32 | bytes of the filter u32 | crc u32    (little endian)
//! ```
//! It is written once, from everything that the segment or pack holds. A search reads the directory and the blocks of one
//! partition, a block at a time: it costs as much as the logarithm of what the segment holds.

use std::io;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::{Buf, BufMut, Bytes};

use super::codec::{BLOCK, damaged, open, seal};
pub use super::directory::Row;
use super::filter::Filter;
use super::{IndexedBatch, PartitionKey, ReadAt, Wanted, block, directory};

const MAGIC: [u8; 8] = *b"EVSTRIDX";
const FORMAT_VERSION: u32 = 2;
/// Bytes of the footer.
pub(super) const FOOTER: usize = 64;

/// Identifies what is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    /// Sequence number of the segment; 0 for a pack.
    pub sequence: u32,
    /// Its generation.
    pub generation: u64,
    /// The offset at which its frames, or the batches of a pack, end.
    pub end: u64,
}

/// An index, read from `F`.
#[derive(Debug)]
pub struct SegmentIndex<F> {
    file: F,
    id: SegmentId,
    entries: RangeInclusive<u64>,
    directory: u32,
    rows: usize,
    filter: Filter,
}

/// Makes an index, partition by partition, in the order of their keys.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    blocks: Vec<u8>,
    rows: Vec<Row>,
}

impl IndexBuilder {
    /// Adds a partition, with batches in the order of their offsets.
    pub fn add(&mut self, row: Row, batches: &[IndexedBatch]) {
        let position = self.blocks.len();
        block::encode(batches).iter().for_each(|block| self.blocks.extend_from_slice(block));
        let bytes = batches.iter().map(|indexed| u64::from(indexed.batch.length)).sum();
        let length = number(self.blocks.len() - position);
        self.rows.push(Row { bytes, position: number(position), length, ..row });
    }

    /// What was added of a partition.
    pub fn row(&self, key: PartitionKey) -> Option<&Row> {
        self.rows.binary_search_by_key(&key, |row| row.key).ok().map(|at| &self.rows[at])
    }

    /// The index of what `id` says, with these entries of the log. In its file, it begins at `position`.
    pub fn encode(self, id: SegmentId, entries: &RangeInclusive<u64>, position: u32) -> Vec<u8> {
        let Self { blocks: mut out, mut rows } = self;
        rows.iter_mut().for_each(|row| row.position += position);
        let directory = position + number(out.len());
        directory::encode(&rows, &mut out);
        let mut filter = Filter::of(rows.iter().map(|row| row.key)).encode();
        seal(&mut filter);
        out.extend_from_slice(&filter);
        let mut footer = Vec::with_capacity(FOOTER);
        footer.put_slice(&MAGIC);
        footer.put_u32_le(FORMAT_VERSION);
        footer.put_u32_le(id.sequence);
        footer.put_u64_le(id.generation);
        footer.put_u64_le(id.end);
        footer.put_u64_le(*entries.start());
        footer.put_u64_le(*entries.end());
        footer.put_u32_le(number(rows.len()));
        footer.put_u32_le(directory);
        footer.put_u32_le(number(filter.len()));
        seal(&mut footer);
        out.extend_from_slice(&footer);
        out
    }
}

/// Encodes the index of a segment: the batches of each partition in the order of their offsets, the partitions in the order
/// of their keys. No partition is without batches.
pub fn encode(
    segment: SegmentId,
    entries: &RangeInclusive<u64>,
    partitions: &[(PartitionKey, Vec<IndexedBatch>)],
) -> Vec<u8> {
    let mut index = IndexBuilder::default();
    for (key, batches) in partitions {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { continue };
        let offsets = first.batch.base_offset..last.batch.end_offset();
        index.add(Row::covering(*key, offsets, last.batch.newest), batches);
    }
    index.encode(segment, entries, 0)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("an index is smaller than what it indexes, which has less than 4 GiB")
}

impl<F: ReadAt> SegmentIndex<F> {
    /// Opens the index at the end of `file`, which has `length` bytes.
    ///
    /// # Errors
    /// `InvalidData` if there is none, or it is damaged; those of the file.
    pub fn open(file: F, length: u64) -> io::Result<Self> {
        let from = length.checked_sub(FOOTER as u64).ok_or_else(|| damaged("the file is too short"))?;
        let mut footer = open(file.read_at(from, FOOTER)?)?;
        if footer.split_to(MAGIC.len())[..] != MAGIC || footer.get_u32_le() != FORMAT_VERSION {
            return Err(damaged("there is no index of this format"));
        }
        let id = SegmentId {
            sequence: footer.get_u32_le(),
            generation: footer.get_u64_le(),
            end: footer.get_u64_le(),
        };
        let entries = footer.get_u64_le()..=footer.get_u64_le();
        let (rows, directory, filter) = (footer.get_u32_le(), footer.get_u32_le(), footer.get_u32_le());
        let rows = rows as usize;
        let filter_from = u64::from(directory) + directory::size(rows) as u64;
        if filter_from + u64::from(filter) != from {
            return Err(damaged("the parts of the file do not join"));
        }
        let filter = Filter::decode(open(file.read_at(filter_from, filter as usize)?)?);
        Ok(Self { file, id, entries, directory, rows, filter })
    }

    /// What is indexed.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Its entries, from the first to the last.
    pub fn entries(&self) -> &RangeInclusive<u64> {
        &self.entries
    }

    /// What the index says of a partition; `None` if it has nothing of it.
    ///
    /// # Errors
    /// `InvalidData` if the index is damaged; those of the file.
    pub fn row(&self, key: PartitionKey) -> io::Result<Option<Row>> {
        if !self.filter.may_have(key) {
            return Ok(None);
        }
        let (mut low, mut high) = (0, directory::blocks(self.rows));
        while low < high {
            let middle = low.midpoint(high);
            let rows = self.directory_block(middle)?;
            match rows.binary_search_by_key(&key, |row| row.key) {
                Ok(at) => return Ok(Some(rows[at])),
                Err(0) => high = middle,
                Err(at) if at == rows.len() => low = middle + 1,
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Every row, in the order of the partitions.
    ///
    /// # Errors
    /// `InvalidData` if the index is damaged; those of the file.
    pub fn rows(&self) -> impl Iterator<Item = io::Result<Row>> {
        let blocks = 0..directory::blocks(self.rows);
        blocks.flat_map(|block| {
            let (rows, error) = match self.directory_block(block) {
                Ok(rows) => (rows, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            rows.into_iter().map(Ok).chain(error)
        })
    }

    fn directory_block(&self, block: usize) -> io::Result<Vec<Row>> {
        let (position, length) = directory::place(block, self.rows);
        directory::decode(self.file.read_at(u64::from(self.directory) + position as u64, length)?)
    }

    /// Hands the batches of a row to `each`, from the one that is `wanted` on, until it breaks.
    ///
    /// # Errors
    /// `InvalidData` if the index is damaged; those of the file.
    pub fn batches(
        &self,
        row: &Row,
        wanted: Wanted,
        mut each: impl FnMut(IndexedBatch) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        if row.is_before(wanted) {
            return Ok(ControlFlow::Continue(()));
        }
        let blocks = (row.length as usize).div_ceil(BLOCK);
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low.midpoint(high);
            match block::begins_before(self.block(row, middle)?, wanted)? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        for block in low.saturating_sub(1)..blocks {
            for batch in block::decode(self.block(row, block)?)? {
                if !batch.batch.is_before(wanted) && each(batch).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn block(&self, row: &Row, block: usize) -> io::Result<Bytes> {
        let from = block * BLOCK;
        self.file.read_at(u64::from(row.position) + from as u64, BLOCK.min(row.length as usize - from))
    }
}
