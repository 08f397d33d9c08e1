//! Record batches as clients send them (magic 2): what the front end must know of them. Records stay opaque, but
//! for their timestamps when a client looks for one.

use std::ops::ControlFlow;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use crate::entry::MAX_PAYLOAD;

/// Bytes before the first record.
pub const HEADER: usize = 61;
/// What a command adds to its batch in an entry, at most.
pub const OVERHEAD: usize = 64;
const COMPRESSION: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The fields of a batch's header that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the last record, counted from the first.
    pub last_offset_delta: i32,
    /// Timestamp (ms) that those of the records are counted from.
    pub base_timestamp: i64,
    /// The newest record's timestamp (ms).
    pub max_timestamp: i64,
    attributes: i16,
    count: i32,
    crc: u32,
}

impl Header {
    /// Reads it; `None` when `batch` is shorter than a header.
    pub fn parse(batch: &[u8]) -> Option<Self> {
        if batch.len() < HEADER {
            return None;
        }
        Some(Self {
            crc: u32::from_be_bytes(field(batch, 17)?),
            attributes: i16::from_be_bytes(field(batch, 21)?),
            last_offset_delta: i32::from_be_bytes(field(batch, 23)?),
            base_timestamp: i64::from_be_bytes(field(batch, 27)?),
            max_timestamp: i64::from_be_bytes(field(batch, 35)?),
            count: i32::from_be_bytes(field(batch, 57)?),
        })
    }
}

fn field<const N: usize>(batch: &[u8], at: usize) -> Option<[u8; N]> {
    batch.get(at..at + N)?.try_into().ok()
}

/// The batches in what a client sent for one partition; slices of it. An error refuses all of them.
pub fn split(mut sent: Bytes) -> Result<Vec<Bytes>, ResponseError> {
    let mut batches = Vec::with_capacity(1);
    while !sent.is_empty() {
        // The three formats have length and magic in the same places.
        let length = field(&sent, 8).map(i32::from_be_bytes).ok_or(ResponseError::CorruptMessage)?;
        let length = usize::try_from(length).map_err(|_| ResponseError::CorruptMessage)?.saturating_add(12);
        match sent.get(16) {
            Some(2) => {}
            Some(0 | 1) => return Err(ResponseError::UnsupportedForMessageFormat),
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
    let header = Header::parse(batch).ok_or(ResponseError::CorruptMessage)?;
    if batch.len() + OVERHEAD > MAX_PAYLOAD {
        return Err(ResponseError::MessageTooLarge);
    }
    if crc32c::crc32c(&batch[21..]) != header.crc {
        return Err(ResponseError::CorruptMessage);
    }
    // Control batches belong to transactions; an offset without a record would be a gap.
    if header.attributes & (TRANSACTIONAL | CONTROL) != 0
        || header.count < 1
        || header.last_offset_delta != header.count - 1
    {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(())
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
    let header = Header::parse(batch).filter(|header| header.max_timestamp >= timestamp)?;
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
            return Some((offset, at));
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
mod tests;
