//! The file format of a snapshot. The payload is the caller's; this module detects damage.
//!
//! ```text
//! magic [8] | format version u32 | payload crc u32 | payload length u64 | index u64 | term u64
//! | start sequence u32 | reserved u32 (zero) | index before the start u64 | its term u64 | reserved u32 (zero)
//! | crc u32 | payload                                                                          (little endian)
//! ```

use bytes::{Buf, BufMut, Bytes};

use super::DIR;
use crate::storage::error::OpenError;
use crate::storage::log::LogStart;
use crate::storage::log::frame::{u32_at, u64_at};

/// The newest format of snapshots this program knows.
const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"EVSTRCKP";
pub(crate) const HEADER_LEN: usize = 72;
pub(crate) const EXTENSION: &str = ".ckpt";

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Index of the last entry that it covers.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Where the log began when the snapshot was written.
    pub start: LogStart,
    /// The content, as the caller encoded it.
    pub payload: Bytes,
}

/// Name of the snapshot of this entry.
pub(crate) fn file_name(index: u64) -> String {
    format!("{index:020}{EXTENSION}")
}

/// Encodes a whole file.
pub(crate) fn encode(index: u64, term: u64, start: LogStart, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(index, term, start, payload);
    bytes.extend_from_slice(payload);
    bytes
}

fn header(index: u64, term: u64, start: LogStart, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(FORMAT_VERSION);
    bytes.put_u32_le(crc32c::crc32c(payload));
    bytes.put_u64_le(payload.len() as u64);
    bytes.put_u64_le(index);
    bytes.put_u64_le(term);
    bytes.put_u32_le(start.sequence);
    bytes.put_u32_le(0);
    bytes.put_u64_le(start.before.0);
    bytes.put_u64_le(start.before.1);
    bytes.put_u32_le(0);
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    bytes
}

/// Decodes a file. The inner error says what is damaged; the outer one is returned for a file of a later version.
pub(crate) fn decode(name: &str, mut bytes: Bytes) -> Result<Result<Snapshot, String>, OpenError> {
    let bad = |reason: &str| Ok(Err(reason.to_owned()));
    if bytes.len() < HEADER_LEN {
        return bad("the file is too short for a header");
    }
    if bytes[..8] != MAGIC {
        return bad("this is not the header of a snapshot");
    }
    let payload = bytes.split_off(HEADER_LEN);
    let intact = u32_at(&bytes, HEADER_LEN - 4) == crc32c::crc32c(&bytes[..HEADER_LEN - 4]);
    match u32_at(&bytes, 8) {
        found if found > FORMAT_VERSION && intact => {
            let file = format!("{DIR}/{name}");
            return Err(OpenError::Version { file, found, known: FORMAT_VERSION });
        }
        _ if !intact => return bad("checksum mismatch in the header"),
        _ => {}
    }
    if u64_at(&bytes, 16) != payload.len() as u64 {
        return bad("the file's length is not what it should be");
    }
    if u32_at(&bytes, 12) != crc32c::crc32c(&payload) {
        return bad("checksum mismatch");
    }
    bytes.advance(24);
    let (index, term) = (bytes.get_u64_le(), bytes.get_u64_le());
    if file_name(index) != name {
        return Ok(Err(format!("it belongs in a file named {}", file_name(index))));
    }
    let sequence = bytes.get_u32_le();
    bytes.advance(4);
    let before = (bytes.get_u64_le(), bytes.get_u64_le());
    Ok(Ok(Snapshot { index, term, start: LogStart { sequence, before }, payload }))
}
