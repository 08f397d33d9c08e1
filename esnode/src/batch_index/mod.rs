//! The batch index: for every partition, where in the log its batches are. Pure; touches no files.
//!
//! A fetch of one partition reads its own batches and little else, however many partitions share the log. There is an index
//! for each sealed segment, in a file beside it ([`segment_index`]). What is not indexed there yet is in memory
//! ([`recent`]): each batch is added when its entry is applied.
//!
//! An index is made from the log, and never needed to understand it. Where one is missing or damaged the log itself is read,
//! which gives the same, but takes longer.

mod block;
mod codec;
mod directory;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
pub mod recent;
pub mod segment_index;
#[cfg(test)]
mod tests;

use bytes::Bytes;

#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::fuzz;

/// Identifies a partition: the topic's number, and the partition's number in the topic.
pub type PartitionKey = (u32, u32);

/// A batch as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Number of offsets that it takes.
    pub records: u32,
    /// Newest timestamp (ms) of the partition's events up to the end of this batch.
    pub newest: i64,
    /// Bytes of what is stored.
    pub length: u32,
    /// What is stored.
    pub content: Content,
}

/// What is stored in the log for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The batch itself.
    Batch,
    /// The command that ends a transaction; the batch is the marker which is made from it.
    EndOfTransaction,
}

/// A batch and its place among the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedBatch {
    /// The batch.
    pub batch: BatchEntry,
    /// Term of its entry.
    pub term: u64,
    /// Offset in the segment's file.
    pub position: u32,
}

/// The batch from which on somebody wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The batch with this offset, or the next one.
    Offset(i64),
    /// The first batch with which the partition has an event of this time (ms) or a later one.
    Time(i64),
}

impl BatchEntry {
    /// The offset after its last record.
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.records)
    }

    /// Whether everything up to the end of this batch is before what is `wanted`.
    fn is_before(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Offset(offset) => self.end_offset() <= offset,
            Wanted::Time(time) => self.newest < time,
        }
    }
}

/// Bytes that an index is read from.
pub trait ReadAt {
    /// Reads `length` bytes at `position`.
    ///
    /// # Errors
    /// Those of the file; `UnexpectedEof` if it is shorter.
    fn read_at(&self, position: u64, length: usize) -> std::io::Result<Bytes>;
}

impl ReadAt for Bytes {
    fn read_at(&self, position: u64, length: usize) -> std::io::Result<Bytes> {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let end = start.saturating_add(length);
        if end > self.len() {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(self.slice(start..end))
        }
    }
}
