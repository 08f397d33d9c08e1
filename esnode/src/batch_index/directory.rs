//! The directory of an index: a row for each partition, in the order of their keys.
//!
//! ```text
//! topic u32 | partition u32 | base offset i64 | end offset i64 | newest i64 | bytes u64 | position u32
//! | length u32     (little endian)
//! ```

use std::io;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};

use super::codec::{BLOCK, CRC, damaged, open, seal};
use super::{PartitionKey, Wanted};

/// Bytes of a row.
const ROW: usize = 48;
/// Rows in a block.
const ROWS: usize = (BLOCK - CRC) / ROW;

/// What an index says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The partition.
    pub key: PartitionKey,
    /// The first offset that the row covers.
    pub base_offset: i64,
    /// The offset after the last one. All batches in between that are kept are in the row.
    pub end_offset: i64,
    /// Newest timestamp (ms) of its events up to there.
    pub newest: i64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Where the blocks of its batches begin in the file.
    pub(super) position: u32,
    /// Bytes of the blocks.
    pub(super) length: u32,
}

impl Row {
    /// A row that covers these offsets, without batches.
    pub fn covering(key: PartitionKey, offsets: Range<i64>, newest: i64) -> Self {
        let Range { start: base_offset, end: end_offset } = offsets;
        Self { key, base_offset, end_offset, newest, bytes: 0, position: 0, length: 0 }
    }

    /// Whether all of its batches are before what is `wanted`.
    pub fn is_before(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Offset(offset) => self.end_offset <= offset,
            Wanted::Time(time) => self.newest < time,
        }
    }
}

/// Bytes of a directory with so many rows.
pub(super) fn size(rows: usize) -> usize {
    rows * ROW + rows.div_ceil(ROWS) * CRC
}

/// Number of blocks of a directory with so many rows.
pub(super) fn blocks(rows: usize) -> usize {
    rows.div_ceil(ROWS)
}

/// Position of a block in the directory, and its length.
pub(super) fn place(block: usize, rows: usize) -> (usize, usize) {
    let in_block = ROWS.min(rows - block * ROWS);
    (block * (ROWS * ROW + CRC), in_block * ROW + CRC)
}

/// Appends the encoding of all rows.
pub(super) fn encode(rows: &[Row], out: &mut Vec<u8>) {
    for rows in rows.chunks(ROWS) {
        let mut block = Vec::with_capacity(BLOCK);
        for row in rows {
            block.put_u32_le(row.key.0);
            block.put_u32_le(row.key.1);
            block.put_i64_le(row.base_offset);
            block.put_i64_le(row.end_offset);
            block.put_i64_le(row.newest);
            block.put_u64_le(row.bytes);
            block.put_u32_le(row.position);
            block.put_u32_le(row.length);
        }
        seal(&mut block);
        out.extend_from_slice(&block);
    }
}

/// The rows of a block; there is at least one.
pub(super) fn decode(block: Bytes) -> io::Result<Vec<Row>> {
    let mut bytes = open(block)?;
    if bytes.is_empty() || !bytes.len().is_multiple_of(ROW) {
        return Err(damaged("a block of the directory has an impossible length"));
    }
    let rows = bytes.len() / ROW;
    let mut row = || Row {
        key: (bytes.get_u32_le(), bytes.get_u32_le()),
        base_offset: bytes.get_i64_le(),
        end_offset: bytes.get_i64_le(),
        newest: bytes.get_i64_le(),
        bytes: bytes.get_u64_le(),
        position: bytes.get_u32_le(),
        length: bytes.get_u32_le(),
    };
    Ok((0..rows).map(|_| row()).collect())
}
