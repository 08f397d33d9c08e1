//! The index of a sealed segment, in a file beside it.
//!
//! ```text
//! blocks of each partition | directory | filter | footer
//! footer: magic [8] | format version u32 | sequence u32 | generation u64 | end u64 | first entry u64 | last entry u64
//! | rows u32 | position of the directory u32 | bytes of the filter u32 | crc u32    (little endian)
//! ```
//! The file is written once, from everything that the segment holds. A search reads the directory and the blocks of one
//! partition, a block at a time: it costs as much as the logarithm of what the segment holds.

use std::io;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::{Buf, BufMut, Bytes};

use super::codec::{BLOCK, damaged, open, seal};
pub use super::directory::Row;
use super::filter::Filter;
use super::{IndexedBatch, PartitionKey, ReadAt, Wanted, block, directory};

const MAGIC: [u8; 8] = *b"EVSTRIDX";
const FORMAT_VERSION: u32 = 1;
/// Bytes of the footer.
pub(super) const FOOTER: usize = 64;

/// Identifies a segment and what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    /// Its sequence number.
    pub sequence: u32,
    /// Its generation.
    pub generation: u64,
    /// The offset at which its frames end.
    pub end: u64,
}

/// The index of a segment, read from `F`.
#[derive(Debug)]
pub struct SegmentIndex<F> {
    file: F,
    entries: RangeInclusive<u64>,
    directory: u32,
    rows: usize,
    filter: Filter,
}

/// Encodes the index of a segment with these entries: the batches of each partition in the order of their offsets, the
/// partitions in the order of their keys. No partition is without batches.
pub fn encode(
    segment: SegmentId,
    entries: &RangeInclusive<u64>,
    partitions: &[(PartitionKey, Vec<IndexedBatch>)],
) -> Vec<u8> {
    let (mut out, mut rows) = (Vec::new(), Vec::with_capacity(partitions.len()));
    for (key, batches) in partitions {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { continue };
        let position = out.len();
        block::encode(batches).iter().for_each(|block| out.extend_from_slice(block));
        rows.push(Row {
            key: *key,
            base_offset: first.batch.base_offset,
            end_offset: last.batch.end_offset(),
            newest: last.batch.newest,
            position: number(position),
            length: number(out.len() - position),
        });
    }
    let directory = number(out.len());
    directory::encode(&rows, &mut out);
    let mut filter = Filter::of(rows.iter().map(|row| row.key)).encode();
    seal(&mut filter);
    out.extend_from_slice(&filter);
    let mut footer = Vec::with_capacity(FOOTER);
    footer.put_slice(&MAGIC);
    footer.put_u32_le(FORMAT_VERSION);
    footer.put_u32_le(segment.sequence);
    footer.put_u64_le(segment.generation);
    footer.put_u64_le(segment.end);
    footer.put_u64_le(*entries.start());
    footer.put_u64_le(*entries.end());
    footer.put_u32_le(number(rows.len()));
    footer.put_u32_le(directory);
    footer.put_u32_le(number(filter.len()));
    seal(&mut footer);
    out.extend_from_slice(&footer);
    out
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("an index is smaller than its segment, which has less than 4 GiB")
}

impl<F: ReadAt> SegmentIndex<F> {
    /// Opens the index in `file`, which has `length` bytes. It must be that of this very segment.
    ///
    /// # Errors
    /// `InvalidData` if it is not, or is damaged; those of the file.
    pub fn open(file: F, length: u64, segment: SegmentId) -> io::Result<Self> {
        let from = length.checked_sub(FOOTER as u64).ok_or_else(|| damaged("the file is too short"))?;
        let mut footer = open(file.read_at(from, FOOTER)?)?;
        if footer.split_to(MAGIC.len())[..] != MAGIC || footer.get_u32_le() != FORMAT_VERSION {
            return Err(damaged("this is not the index of a segment"));
        }
        let found = SegmentId {
            sequence: footer.get_u32_le(),
            generation: footer.get_u64_le(),
            end: footer.get_u64_le(),
        };
        if found != segment {
            return Err(damaged("this is the index of another segment"));
        }
        let entries = footer.get_u64_le()..=footer.get_u64_le();
        let (rows, directory, filter) = (footer.get_u32_le(), footer.get_u32_le(), footer.get_u32_le());
        let rows = rows as usize;
        let filter_from = u64::from(directory) + directory::size(rows) as u64;
        if filter_from + u64::from(filter) != from {
            return Err(damaged("the parts of the file do not join"));
        }
        let filter = Filter::decode(open(file.read_at(filter_from, filter as usize)?)?);
        Ok(Self { file, entries, directory, rows, filter })
    }

    /// The entries of the segment, from the first to the last.
    pub fn entries(&self) -> &RangeInclusive<u64> {
        &self.entries
    }

    /// What the index says of a partition; `None` if the segment has no batches of it.
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
