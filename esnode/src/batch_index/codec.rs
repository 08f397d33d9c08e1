//! What all parts of an index's file share: blocks with checksums, and varints.

use std::io;

use bytes::{Buf, BufMut, Bytes};

/// Bytes of a block, at most: what a file system reads at once.
pub(super) const BLOCK: usize = 4096;
/// Bytes of the checksum at the end of a block.
pub(super) const CRC: usize = 4;

/// The error of an index that is not what was written.
pub(super) fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Appends the checksum of everything in `block` to it.
pub(super) fn seal(block: &mut Vec<u8>) {
    let crc = crc32c::crc32c(block);
    block.put_u32_le(crc);
}

/// Returns what the checksum at the end of `block` covers.
pub(super) fn open(mut block: Bytes) -> io::Result<Bytes> {
    let covered = block.len().checked_sub(CRC).ok_or_else(|| damaged("a block is too short"))?;
    let crc = block.split_off(covered).get_u32_le();
    if crc == crc32c::crc32c(&block) { Ok(block) } else { Err(damaged("checksum mismatch in a block")) }
}

/// Appends a number, the smaller the shorter: seven bits in each byte, and the eighth if more follow.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes a number.
pub(super) fn get_varint(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
