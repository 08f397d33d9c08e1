//! Record batches as clients send them (magic 2): what the front end must know of them. Records stay opaque, but
//! for their timestamps when a client looks for one.

use std::ops::ControlFlow;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use crate::entry::MAX_PAYLOAD;
use crate::stream::batch::{BatchHeader, HEADER, extent};

/// What a command adds to its batch in an entry, at most.
pub const OVERHEAD: usize = 64;
/// Bytes of the smallest record: its length, attributes, two deltas, two lengths, number of headers.
const SMALLEST_RECORD: usize = 7;
const COMPRESSION: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The batches in what a client sent for one partition; slices of it. An error refuses all of them.
pub fn split(mut sent: Bytes) -> Result<Vec<Bytes>, ResponseError> {
    let mut batches = Vec::with_capacity(1);
    while !sent.is_empty() {
        let (length, magic) = extent(&sent).ok_or(ResponseError::CorruptMessage)?;
        match magic {
            2 => {}
            0 | 1 => return Err(ResponseError::UnsupportedForMessageFormat),
            _ => return Err(ResponseError::CorruptMessage),
        }
        if length > sent.len() || length < HEADER {
            return Err(ResponseError::CorruptMessage);
        }
        let batch = sent.split_to(length);
        validate(&batch)?;
        batches.push(batch);
    }
    if batches.is_empty() { Err(ResponseError::InvalidRecord) } else { Ok(batches) }
}

fn validate(batch: &[u8]) -> Result<(), ResponseError> {
    let header = BatchHeader::read(batch).ok_or(ResponseError::CorruptMessage)?;
    if batch.len() + OVERHEAD > MAX_PAYLOAD {
        return Err(ResponseError::MessageTooLarge);
    }
    if !header.is_intact(batch) {
        return Err(ResponseError::CorruptMessage);
    }
    // Control batches belong to transactions; an offset without a record would be a gap.
    if header.attributes & (TRANSACTIONAL | CONTROL) != 0 || !header.is_sound() || !has_room(&header, batch) {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(())
}

/// Whether the batch is long enough for its records, as far as can be told without decompressing it. Every record
/// takes an offset, so a claim alone must not.
fn has_room(header: &BatchHeader, batch: &[u8]) -> bool {
    let most = (batch.len() - HEADER) / SMALLEST_RECORD;
    header.attributes & COMPRESSION != 0 || usize::try_from(header.count).is_ok_and(|count| count <= most)
}

/// Appends a batch to what a consumer gets, with the offset and the leader epoch that the log gave it; the CRC
/// covers neither.
pub fn deliver(batch: &[u8], base_offset: i64, leader_epoch: i32, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(batch);
    if let Some(head) = out[start..].first_chunk_mut::<16>() {
        head[..8].copy_from_slice(&base_offset.to_be_bytes());
        head[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    }
}

/// Offset (counted from the batch's first record) and timestamp of the first record at or after `timestamp`;
/// `None` when all are older. Records of a compressed batch cannot be looked at: its first one stands for them.
pub fn first_since(batch: &[u8], timestamp: i64) -> Option<(i64, i64)> {
    let header = BatchHeader::read(batch).filter(|header| header.max_timestamp >= timestamp)?;
    if header.attributes & COMPRESSION != 0 {
        return Some((0, header.max_timestamp));
    }
    let mut rest = batch.get(HEADER..)?;
    for _ in 0..header.count {
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let (record, next) = rest.split_at_checked(length)?;
        rest = next;
        let mut fields = record.get(1..)?; // after the attributes
        let at = header.base_timestamp.saturating_add(varint(&mut fields)?);
        let offset = varint(&mut fields)?;
        if at >= timestamp {
            // The producer wrote it, and nobody has checked it: what lies outside the batch is not its record.
            return Some((offset.clamp(0, i64::from(header.last_offset_delta)), at));
        }
    }
    None
}

/// A zigzag varint of up to 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    let read = bytes.iter().take(10).enumerate().try_for_each(|(at, byte)| {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 { ControlFlow::Break(at + 1) } else { ControlFlow::Continue(()) }
    });
    let ControlFlow::Break(read) = read else { return None };
    *bytes = &bytes[read..];
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[cfg(test)]
pub(super) mod tests;
