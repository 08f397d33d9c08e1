//! The records of a batch, one after the other, whatever they are compressed with.

use std::io::{self, BufRead, Read};

use shared::codec::{Codec, MAX_DECOMPRESSED};

use super::LOG_APPEND_TIME;
use crate::state_machine::batch::{BatchHeader, HEADER};

/// What is looked at of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset, counted from the batch's first.
    pub offset_delta: i64,
    /// When it happened, as its producer says, or when it was appended; ms since 1970.
    pub timestamp: i64,
    /// Whether it has a key.
    pub has_key: bool,
}

/// Why the records of a batch cannot be read, from some point on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The batch has no header.
    #[error("the batch has no header")]
    NoHeader,
    /// A number of a codec that Kafka has given to none.
    #[error("compression {0} is unknown")]
    UnknownCodec(i16),
    /// The compressed bytes, or those of a record, end too early or are no such thing.
    #[error("the records cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A record is not what its length and its counts say.
    #[error("a record's length and what it holds do not go together")]
    Malformed,
    /// There are more bytes than the number of records says.
    #[error("the batch holds more than its number of records")]
    Remains,
    /// Decompressed, they take more than [`MAX_DECOMPRESSED`].
    #[error("the records take more than {MAX_DECOMPRESSED} bytes once decompressed")]
    TooLarge,
}

/// Reads the records of a batch in order. Ends with the first fault; behind the last record it looks whether anything
/// is left.
pub struct Decoded<'a> {
    base_timestamp: i64,
    /// The timestamp of all of them, if the log has given them one.
    append_time: Option<i64>,
    /// Records not read yet.
    left: i32,
    /// Bytes that may still come out.
    room: usize,
    source: Source<'a>,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Compressed(Box<dyn BufRead + 'a>),
    Ended,
}

impl<'a> Decoded<'a> {
    /// The records of `batch` (magic 2, whole).
    ///
    /// # Errors
    /// [`Fault::NoHeader`], [`Fault::UnknownCodec`].
    pub fn new(batch: &'a [u8]) -> Result<Self, Fault> {
        let header = BatchHeader::read(batch).ok_or(Fault::NoHeader)?;
        let codec = Codec::of(header.attributes).ok_or(Fault::UnknownCodec(header.attributes))?;
        let records = &batch[HEADER..];
        let source = match codec {
            Codec::None => Source::Plain(records),
            codec => Source::Compressed(codec.reader(records)),
        };
        Ok(Self {
            base_timestamp: header.base_timestamp,
            append_time: (header.attributes & LOG_APPEND_TIME != 0).then_some(header.max_timestamp),
            left: header.count,
            room: MAX_DECOMPRESSED,
            source,
        })
    }

    fn advance(&mut self) -> Result<Option<Record>, Fault> {
        let (base, room) = (self.base_timestamp, &mut self.room);
        if self.left > 0 {
            self.left -= 1;
            return match &mut self.source {
                Source::Plain(bytes) => record(bytes, base, room).map(Some),
                Source::Compressed(reader) => record(reader, base, room).map(Some),
                Source::Ended => Ok(None),
            };
        }
        let remains = match &mut self.source {
            Source::Plain(bytes) => !bytes.is_empty(),
            Source::Compressed(reader) => !reader.fill_buf()?.is_empty(),
            Source::Ended => false,
        };
        self.source = Source::Ended;
        if remains { Err(Fault::Remains) } else { Ok(None) }
    }
}

impl Iterator for Decoded<'_> {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.source = Source::Ended;
        }
        let stamped =
            |record: Record| Record { timestamp: self.append_time.unwrap_or(record.timestamp), ..record };
        next.map(|record| record.map(stamped)).transpose()
    }
}

/// Reads one record:
///
/// ```text
/// length | attributes i8 | timestamp delta | offset delta | key | value | number of headers, then each: key | value
/// ```
///
/// All numbers are zigzag varints; keys and values a length, -1 for null, and bytes.
fn record<R: BufRead>(input: &mut R, base_timestamp: i64, room: &mut usize) -> Result<Record, Fault> {
    let length = length(input)?.ok_or(Fault::Malformed)?;
    *room = room.checked_sub(length).ok_or(Fault::TooLarge)?;
    let mut body = (&mut *input).take(length as u64);
    byte(&mut body)?; // the attributes, of which none is used
    let timestamp = base_timestamp.saturating_add(varint(&mut body)?);
    let offset_delta = varint(&mut body)?;
    let has_key = skip_bytes(&mut body)?;
    skip_bytes(&mut body)?;
    let headers = length_of(varint(&mut body)?)?.ok_or(Fault::Malformed)?;
    for _ in 0..headers {
        if !skip_bytes(&mut body)? {
            return Err(Fault::Malformed);
        }
        skip_bytes(&mut body)?;
    }
    if body.limit() > 0 {
        return Err(Fault::Malformed);
    }
    Ok(Record { offset_delta, timestamp, has_key })
}

fn length<R: BufRead>(input: &mut R) -> Result<Option<usize>, Fault> {
    length_of(varint(input)?)
}

/// A length or a count; `None` for -1.
fn length_of(value: i64) -> Result<Option<usize>, Fault> {
    match value {
        -1 => Ok(None),
        _ => usize::try_from(value).map(Some).map_err(|_| Fault::Malformed),
    }
}

/// Passes over a length and as many bytes; false for null.
fn skip_bytes<R: BufRead>(input: &mut R) -> Result<bool, Fault> {
    let Some(mut left) = length(input)? else { return Ok(false) };
    while left > 0 {
        let there = input.fill_buf()?.len().min(left);
        if there == 0 {
            return Err(ended());
        }
        input.consume(there);
        left -= there;
    }
    Ok(true)
}

/// A zigzag varint of up to 64 bits.
fn varint<R: BufRead>(input: &mut R) -> Result<i64, Fault> {
    let mut value = 0u64;
    for at in 0..10 {
        let byte = byte(input)?;
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(Fault::Malformed)
}

fn byte<R: BufRead>(input: &mut R) -> Result<u8, Fault> {
    let byte = *input.fill_buf()?.first().ok_or_else(ended)?;
    input.consume(1);
    Ok(byte)
}

fn ended() -> Fault {
    Fault::Unreadable(io::ErrorKind::UnexpectedEof.into())
}
