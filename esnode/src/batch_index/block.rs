//! A block of a row: the batches of one partition, one after the other, each as the difference from the one before.
//!
//! ```text
//! base offset i64 | newest before i64 | term u64 | position u32 | count u16
//! | per batch: varints of records, position, length * 2 + (1: it ends a transaction), newest, term    (little endian)
//! ```
//! Positions, newest timestamps and terms are what they have grown by since the batch before.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use super::codec::{BLOCK, CRC, damaged, get_varint, open, put_varint, seal};
use super::{BatchEntry, Content, IndexedBatch, Wanted};

/// Bytes before the first batch.
const HEADER: usize = 30;

/// Where a block begins: what its first batch is the difference from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    base_offset: i64,
    newest: i64,
    term: u64,
    position: u32,
}

/// Splits the batches of a row into blocks.
pub(super) fn encode(batches: &[IndexedBatch]) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut rest = batches;
    // The first block is where a search ends that finds none before it, whatever was newest before.
    let mut newest = batches.first().map_or(0, |first| first.batch.newest);
    while let Some(first) = rest.first() {
        let mut start = Start {
            base_offset: first.batch.base_offset,
            newest,
            term: first.term,
            position: first.position,
        };
        let mut block = Vec::with_capacity(BLOCK);
        block.put_i64_le(start.base_offset);
        block.put_i64_le(start.newest);
        block.put_u64_le(start.term);
        block.put_u32_le(start.position);
        block.put_u16_le(0);
        let mut count = 0;
        for batch in rest {
            let before = block.len();
            put(&mut block, &start, batch);
            if block.len() + CRC > BLOCK {
                block.truncate(before);
                break;
            }
            start.follow(batch);
            count += 1;
        }
        let number = u16::try_from(count).expect("a batch takes five bytes");
        block[HEADER - 2..HEADER].copy_from_slice(&number.to_le_bytes());
        rest = &rest[count..];
        newest = start.newest;
        if !rest.is_empty() {
            block.resize(BLOCK - CRC, 0);
        }
        seal(&mut block);
        blocks.push(block);
    }
    blocks
}

fn put(block: &mut Vec<u8>, before: &Start, indexed: &IndexedBatch) {
    let IndexedBatch { batch, term, position } = indexed;
    put_varint(block, batch.records.into());
    put_varint(block, (position - before.position).into());
    let ends_transaction = batch.content == Content::EndOfTransaction;
    put_varint(block, u64::from(batch.length) << 1 | u64::from(ends_transaction));
    put_varint(block, batch.newest.wrapping_sub(before.newest).cast_unsigned());
    put_varint(block, term - before.term);
}

impl Start {
    /// Goes on to what comes after a batch.
    fn follow(&mut self, indexed: &IndexedBatch) {
        self.base_offset = indexed.batch.end_offset();
        self.newest = indexed.batch.newest;
        (self.term, self.position) = (indexed.term, indexed.position);
    }

    /// Takes the next batch.
    fn take(&mut self, bytes: &mut Bytes) -> Option<IndexedBatch> {
        let records = u32::try_from(get_varint(bytes)?).ok()?;
        let position = self.position.checked_add(u32::try_from(get_varint(bytes)?).ok()?)?;
        let length = get_varint(bytes)?;
        let newest = self.newest.wrapping_add(get_varint(bytes)?.cast_signed());
        let term = self.term.checked_add(get_varint(bytes)?)?;
        let content = if length & 1 == 1 { Content::EndOfTransaction } else { Content::Batch };
        let length = u32::try_from(length >> 1).ok()?;
        self.base_offset.checked_add(records.into())?;
        let batch = BatchEntry { base_offset: self.base_offset, records, newest, length, content };
        let indexed = IndexedBatch { batch, term, position };
        self.follow(&indexed);
        Some(indexed)
    }
}

/// Whether a block with these bytes may begin before what is `wanted`, so that the search goes on in it or after it.
pub(super) fn begins_before(block: Bytes, wanted: Wanted) -> io::Result<bool> {
    let (start, _, _) = header(open(block)?)?;
    Ok(match wanted {
        Wanted::Offset(offset) => start.base_offset <= offset,
        Wanted::Time(time) => start.newest < time,
    })
}

/// The batches of a block.
pub(super) fn decode(block: Bytes) -> io::Result<Vec<IndexedBatch>> {
    let (mut start, count, mut bytes) = header(open(block)?)?;
    let batches = (0..count).map(|_| start.take(&mut bytes)).collect::<Option<Vec<_>>>();
    batches.ok_or_else(|| damaged("a block does not hold what it says"))
}

fn header(mut bytes: Bytes) -> io::Result<(Start, u16, Bytes)> {
    if bytes.len() < HEADER {
        return Err(damaged("a block is too short"));
    }
    let (base_offset, newest) = (bytes.get_i64_le(), bytes.get_i64_le());
    let start = Start { base_offset, newest, term: bytes.get_u64_le(), position: bytes.get_u32_le() };
    Ok((start, bytes.get_u16_le(), bytes))
}
