//! Record batches as clients send them (magic 2): what the front end must know of them. They are kept as they are; their
//! records are looked at once, when they come in, and when a client looks for a time.

mod decode;

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use shared::codec::{self, Codec};

pub use self::decode::{Decoded, Fault};
use crate::state_machine::batch::{BatchHeader, HEADER, extent};

/// Bytes of the smallest record: its length, attributes, two deltas, two lengths, number of headers.
const SMALLEST_RECORD: usize = 7;
/// The records' timestamp is the batch's newest, which the log has given it.
const LOG_APPEND_TIME: i16 = 0x08;
/// A record has none.
const NO_TIMESTAMP: i64 = -1;
/// Oldest version of Produce whose clients know Zstandard.
const ZSTD_SINCE: i16 = 7;

/// What a batch is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Version of the request that it came in.
    pub version: i16,
    /// Bytes that it may have, header and all.
    pub largest: usize,
    /// Timestamps that its records may have, in ms since 1970.
    pub timestamps: RangeInclusive<i64>,
    /// Whether it is to be part of a transaction.
    pub transactional: bool,
}

/// Why a batch is not taken: the code, and for who reads it the reason.
pub type Refused = (ResponseError, String);

/// Whether the log takes what a client sent for one partition: one whole batch, whose records are what it says of them.
/// Does what Kafka does, which reads through the records too, and so takes its time.
pub fn check(sent: &[u8], rules: &Rules) -> Result<(), Refused> {
    let header = outline(sent, rules)?;
    if !header.is_intact(sent) {
        return Err((ResponseError::CorruptMessage, "the batch's checksum does not match".to_owned()));
    }
    let unreadable = |fault: Fault| unreadable(&fault);
    for (expected, record) in (0..).zip(Decoded::new(sent).map_err(unreadable)?) {
        let record = record.map_err(unreadable)?;
        if record.offset_delta != expected {
            return invalid(format!("record {expected} says that it is number {}", record.offset_delta));
        }
        if record.timestamp != NO_TIMESTAMP && !rules.timestamps.contains(&record.timestamp) {
            let why = format!(
                "record {expected} is of {} ms since 1970; the topic takes {} to {} now",
                record.timestamp,
                rules.timestamps.start(),
                rules.timestamps.end()
            );
            return Err((ResponseError::InvalidTimestamp, why));
        }
    }
    Ok(())
}

/// Whether the records are compressed, so that it may take more than a moment to read through them.
pub fn is_compressed(sent: &[u8]) -> bool {
    BatchHeader::read(sent).is_some_and(|header| header.attributes & codec::CODEC != 0)
}

/// What can be told of a batch without reading through it.
fn outline(sent: &[u8], rules: &Rules) -> Result<BatchHeader, Refused> {
    let corrupt = |why: &str| (ResponseError::CorruptMessage, why.to_owned());
    if sent.is_empty() {
        return invalid("there must be one record batch for each partition");
    }
    let (length, magic) = extent(sent).ok_or_else(|| corrupt("the batch has no header"))?;
    match magic {
        2 => {}
        0 | 1 => {
            let why = format!("batches of format {magic} are not taken, only of format 2");
            return Err((ResponseError::UnsupportedForMessageFormat, why));
        }
        _ => return Err(corrupt("the batch is of no known format")),
    }
    if length > sent.len() || length < HEADER {
        return Err(corrupt("the batch is not as long as it says"));
    }
    if length < sent.len() {
        return invalid("there must be only one record batch for each partition");
    }
    if length > rules.largest {
        let why = format!("the batch has {length} bytes, the topic's max.message.bytes is {}", rules.largest);
        return Err((ResponseError::MessageTooLarge, why));
    }
    let header = BatchHeader::read(sent).ok_or_else(|| corrupt("the batch has no header"))?;
    if header.is_control() {
        return invalid("markers are not for producers to write");
    }
    if header.is_transactional() != rules.transactional {
        return invalid(
            "the request has a transactional id, and the batch is in no transaction, or the other way round",
        );
    }
    if rules.transactional && header.producer_id < 0 {
        return invalid("a batch of a transaction has no producer id");
    }
    if header.attributes & LOG_APPEND_TIME != 0 {
        let why = "when it was appended is not for its producer to say".to_owned();
        return Err((ResponseError::InvalidTimestamp, why));
    }
    if !header.is_sound() {
        return invalid("the batch's number of records, offsets or sequence do not go together");
    }
    match Codec::of(header.attributes) {
        None => return Err(unreadable(&Fault::UnknownCodec(header.attributes & codec::CODEC))),
        Some(Codec::Zstd) if rules.version < ZSTD_SINCE => {
            let why = format!("Zstandard goes with Produce from version {ZSTD_SINCE} on");
            return Err((ResponseError::UnsupportedCompressionType, why));
        }
        Some(Codec::None) if !has_room(&header, sent) => {
            return invalid("the batch is too short for its number of records");
        }
        Some(_) => {}
    }
    Ok(header)
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err((ResponseError::InvalidRecord, why.into()))
}

fn unreadable(fault: &Fault) -> Refused {
    let code = match fault {
        Fault::UnknownCodec(_) => ResponseError::UnsupportedCompressionType,
        Fault::TooLarge => ResponseError::MessageTooLarge,
        _ => ResponseError::InvalidRecord,
    };
    (code, fault.to_string())
}

/// Whether a batch that is not compressed is long enough for its records.
fn has_room(header: &BatchHeader, batch: &[u8]) -> bool {
    let most = (batch.len() - HEADER) / SMALLEST_RECORD;
    usize::try_from(header.count).is_ok_and(|count| count <= most)
}

/// The batch with `time`, in ms since 1970, in place of its records' own timestamps.
pub fn with_append_time(batch: &[u8], time: i64) -> Bytes {
    let mut batch = BytesMut::from(batch);
    if let Some(head) = batch.first_chunk_mut::<HEADER>() {
        head[22] |= LOG_APPEND_TIME.to_be_bytes()[1];
        head[35..43].copy_from_slice(&time.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch.freeze()
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

/// Offset (counted from the batch's first record) and timestamp of the first record at or after `timestamp`, from the
/// offset `from` on (counted alike); `None` when all are older. A batch that is already in the log may be one that cannot be read: what comes before the
/// fault counts.
pub fn first_since(batch: &[u8], from: i64, timestamp: i64) -> Option<(i64, i64)> {
    let header = BatchHeader::read(batch).filter(|header| header.max_timestamp >= timestamp)?;
    let mut records = Decoded::new(batch).ok()?.map_while(Result::ok);
    let found = records.find(|record| record.offset_delta >= from && record.timestamp >= timestamp)?;
    // Older programs let through what lies outside the batch; it is not its record.
    Some((found.offset_delta.clamp(0, i64::from(header.last_offset_delta)), found.timestamp))
}

#[cfg(test)]
pub(super) mod tests;
