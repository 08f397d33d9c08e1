//! Reads batches that the index has found, and makes sure that they are what it says.

use std::io;

use bytes::Bytes;

use crate::batch_index::Content;
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::command::Command;
use crate::state_machine::transactions::MARKER;
use crate::storage::batch_reader::{BatchReader, StoredBatch};

/// Bytes of the batch as its readers get it.
pub fn size(stored: &StoredBatch) -> usize {
    match stored.batch.content {
        Content::Batch => stored.batch.length as usize,
        Content::EndOfTransaction => MARKER,
    }
}

/// Reads batches. Ends before the first one that is not what the index says; then the log tells what is wrong.
///
/// # Errors
/// Those of the file system.
pub fn read(reader: &BatchReader, stored: &[StoredBatch]) -> io::Result<Vec<Bytes>> {
    let bytes = match reader.read(stored) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            stored.iter().for_each(|stored| reader.discard_index(stored, "a batch is not in the segment"));
            Vec::new()
        }
        read => read?,
    };
    let batches = stored.iter().zip(bytes).map_while(|(stored, bytes)| {
        let batch = batch(stored, bytes);
        if batch.is_none() {
            reader.discard_index(stored, "a batch is not where the index says");
        }
        batch
    });
    Ok(batches.collect())
}

/// Whether the checksum of a batch is right.
pub fn is_intact(batch: &[u8]) -> bool {
    BatchHeader::read(batch).is_some_and(|header| header.is_intact(batch))
}

/// The batch that `bytes` are stored for.
fn batch(stored: &StoredBatch, bytes: Bytes) -> Option<Bytes> {
    let batch = match stored.batch.content {
        Content::Batch => bytes,
        Content::EndOfTransaction => {
            let command = Command::decode_all(&bytes).next()?.ok()?;
            command.batches().find(|(topic, partition, _)| (*topic, *partition) == stored.key)?.2
        }
    };
    let header = BatchHeader::read(&batch)?;
    let is_it = header.records() == i64::from(stored.batch.records) && header.is_intact(&batch);
    is_it.then_some(batch)
}
