//! The header of a segment file, and the file's name. Knows no files.
//!
//! A segment is named `<sequence>-<first index>.seg`. The sequence number orders segments as they were
//! written; the first index alone would not, since Raft may replace a suffix that began in an earlier
//! segment.

use super::frame::{u32_at, u64_at};
use crate::storage::error::OpenError;

/// Bytes of the header; the first frame follows.
pub(crate) const SEGMENT_HEADER_LEN: usize = 56;
/// The newest format of segments this program knows.
const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"EVSTRSEG";
/// Extension of segment files.
pub(crate) const EXTENSION: &str = ".seg";

/// The header of a segment.
///
/// ```text
/// magic [8] | format version u32 | sequence u32 | first index u64 | generation u64
/// | previous generation u64 | previous end u64 | reserved u32 (zero) | crc u32        (little endian)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Sequence number: 1 for the log's first segment, one more for each further one.
    pub sequence: u32,
    /// Index of the first entry.
    pub first_index: u64,
    /// A random number. It seeds the CRC of every frame.
    pub generation: u64,
    /// Generation of the segment before; 0 for the first.
    pub previous_generation: u64,
    /// Offset at which the frames of the previous segment end. They were synced before this segment was created.
    pub previous_end: u64,
}

impl Header {
    /// A header with a new generation.
    pub fn new(sequence: u32, first_index: u64, previous: Option<(u64, u64)>) -> Self {
        let (previous_generation, previous_end) = previous.unwrap_or_default();
        let generation = uuid::Uuid::new_v4().as_u64_pair().0;
        Self { sequence, first_index, generation, previous_generation, previous_end }
    }

    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("{:010}-{:020}{EXTENSION}", self.sequence, self.first_index)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sequence.to_le_bytes());
        let fields = [self.first_index, self.generation, self.previous_generation, self.previous_end];
        for (place, field) in bytes[16..48].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the first bytes of `file`; its name does not matter here.
    pub fn decode(file: &str, bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<Self, OpenError> {
        let corrupt = |reason: &str| OpenError::corrupt(file, 0, reason);
        if bytes[..8] != MAGIC {
            return Err(corrupt("this is not the header of a segment"));
        }
        let intact = u32_at(bytes, 52) == crc32c::crc32c(&bytes[..52]);
        match u32_at(bytes, 8) {
            // A newer format may have its checksum elsewhere, so the version is checked before the checksum.
            found if found > FORMAT_VERSION => {
                return Err(OpenError::Version { file: file.to_owned(), found, known: FORMAT_VERSION });
            }
            _ if !intact => return Err(corrupt("checksum mismatch in the segment's header")),
            _ => {}
        }
        Ok(Self {
            sequence: u32_at(bytes, 12),
            first_index: u64_at(bytes, 16),
            generation: u64_at(bytes, 24),
            previous_generation: u64_at(bytes, 32),
            previous_end: u64_at(bytes, 40),
        })
    }
}

/// The sequence number in a segment's name.
pub(crate) fn sequence(name: &str) -> Option<u32> {
    name.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_any_flipped_bit_is_refused() {
        let header = Header::new(3, 17, Some((5, 4096)));
        let bytes = header.encode();
        assert_eq!(Header::decode(&header.file_name(), &bytes).unwrap(), header);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&header.file_name(), &bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let header = Header::new(1, 1, None);
        let mut bytes = header.encode();
        bytes[8] = 2;
        let error = Header::decode(&header.file_name(), &bytes).unwrap_err();
        assert!(matches!(error, OpenError::Version { found: 2, known: 1, .. }), "{error}");
    }
}
