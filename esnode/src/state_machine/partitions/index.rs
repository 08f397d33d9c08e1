//! The sparse index of a partition: where in the log reading can start.

use serde::{Deserialize, Serialize};

/// Where to start reading the log for an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Scan the log from this entry.
    pub index: u64,
    /// Offset of the partition's first live batch in that entry.
    pub base_offset: i64,
}

/// An entry of the index.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "StoredIndexEntry", into = "StoredIndexEntry")]
pub(super) struct IndexEntry {
    pub(super) position: Position,
    /// Newest timestamp of all batches before it, in ms.
    pub(super) before: Option<i64>,
    /// Bytes of all batches before it.
    pub(super) bytes: u64,
    /// Payload of all log entries before its own, in bytes.
    pub(super) payload: u64,
}

/// An index entry as it is stored: index, base offset, and for everything before it the newest timestamp, the bytes,
/// and the log payload. A tuple, because field names would make up most of a snapshot with many entries.
type StoredIndexEntry = (u64, i64, Option<i64>, u64, u64);

impl From<StoredIndexEntry> for IndexEntry {
    fn from((index, base_offset, before, bytes, payload): StoredIndexEntry) -> Self {
        Self { position: Position { index, base_offset }, before, bytes, payload }
    }
}

impl From<IndexEntry> for StoredIndexEntry {
    fn from(
        IndexEntry { position: Position { index, base_offset }, before, bytes, payload }: IndexEntry,
    ) -> Self {
        (index, base_offset, before, bytes, payload)
    }
}
