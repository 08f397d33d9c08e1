//! The footer of a sealed segment: the segment's index in a file beside it, so that the next start need not read the
//! whole segment.
//!
//! It has the segment's name with another extension, and is written when the segment is sealed. It is never required
//! and never synced: if it is missing, torn, damaged or of another segment, the segment itself is read. After a start
//! the scrub ([`super::scrub`]) reads the segments whose footers were believed, and every entry is checked when it is
//! served.
//!
//! ```text
//! magic [8] | format version u32 | sequence u32 | generation u64 | end u64 | last index u64 | entries u32
//! | runs u32 | per entry: index u64, offset u32 | per run: first u64, term u64 | crc u32        (little endian)
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::index::{Index, IndexEntry, Position, TermRun};
use super::segment::Segment;

const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"EVSTRSUM";
pub(crate) const EXTENSION: &str = "sum";
const HEADER_LEN: usize = 48;
const INDEX_ENTRY_LEN: usize = 12;
const RUN_LEN: usize = 16;

/// Returns the path of the footer of this segment.
pub(crate) fn path(dir: &Path, segment: &str) -> PathBuf {
    dir.join(segment).with_extension(EXTENSION)
}

/// Writes the footer of a segment that was sealed at `end`.
pub(crate) fn write(dir: &Path, segment: &Segment, end: u64, index: &Index) -> io::Result<()> {
    fs::write(path(dir, &segment.name), encode(segment, end, index))
}

/// Returns the index of a segment that was sealed at `end`, from its footer; `None` if there is no valid footer of this
/// very segment.
pub(crate) fn read(dir: &Path, segment: &Segment, end: u64) -> Option<Index> {
    let bytes = fs::read(path(dir, &segment.name)).ok()?;
    decode(segment, end, &bytes)
}

/// Removes the footer, so that the next start reads the segment itself.
pub(crate) fn remove(dir: &Path, segment: &str) {
    // If it cannot be removed, the damage is only found later, by the scrub instead of the next start.
    drop(fs::remove_file(path(dir, segment)));
}

fn encode(segment: &Segment, end: u64, index: &Index) -> Vec<u8> {
    let (entries, terms) = (index.entries(), index.terms());
    let mut bytes =
        Vec::with_capacity(HEADER_LEN + entries.len() * INDEX_ENTRY_LEN + terms.len() * RUN_LEN + 4);
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(FORMAT_VERSION);
    bytes.put_u32_le(segment.header.sequence);
    bytes.put_u64_le(segment.header.generation);
    bytes.put_u64_le(end);
    bytes.put_u64_le(index.last());
    bytes.put_u32_le(count(entries));
    bytes.put_u32_le(count(terms));
    for IndexEntry { index, position } in entries {
        bytes.put_u64_le(*index);
        bytes.put_u32_le(position.offset);
    }
    for TermRun { first, term } in terms {
        bytes.put_u64_le(*first);
        bytes.put_u64_le(*term);
    }
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    bytes
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("segments are below 4 GiB")
}

fn decode(segment: &Segment, end: u64, bytes: &[u8]) -> Option<Index> {
    let (mut bytes, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let whole = bytes.len() >= HEADER_LEN && crc == crc32c::crc32c(bytes).to_le_bytes();
    if !whole || bytes[..8] != MAGIC {
        return None;
    }
    bytes.advance(8);
    let ours = bytes.get_u32_le() == FORMAT_VERSION
        && bytes.get_u32_le() == segment.header.sequence
        && bytes.get_u64_le() == segment.header.generation
        && bytes.get_u64_le() == end;
    if !ours {
        return None;
    }
    let last = bytes.get_u64_le();
    let (entries, runs) = (bytes.get_u32_le() as usize, bytes.get_u32_le() as usize);
    if bytes.len() != entries * INDEX_ENTRY_LEN + runs * RUN_LEN {
        return None;
    }
    let sequence = segment.header.sequence;
    let mut entry = || {
        let index = bytes.get_u64_le();
        IndexEntry { index, position: Position { segment: sequence, offset: bytes.get_u32_le() } }
    };
    let entries = (0..entries).map(|_| entry()).collect();
    let mut run = || TermRun { first: bytes.get_u64_le(), term: bytes.get_u64_le() };
    let runs = (0..runs).map(|_| run()).collect();
    Some(Index::of(entries, runs, last))
}

#[cfg(test)]
mod tests {
    use super::super::header::Header;
    use super::*;

    fn segment() -> Segment {
        Segment::new(tempfile::tempfile().unwrap(), 100, Header::new(3, 17, Some((5, 4096))))
    }

    fn index() -> Index {
        let mut index = Index::default();
        for (i, term, offset) in [(17, 1, 97), (18, 1, 40_000), (19, 2, 80_000), (18, 3, 90_000)] {
            index.append(i, term, Position { segment: 3, offset });
        }
        index
    }

    #[test]
    fn reads_back_for_the_very_segment_only() {
        let (segment, index) = (segment(), index());
        let bytes = encode(&segment, 95_000, &index);
        let read = decode(&segment, 95_000, &bytes).unwrap();
        assert_eq!(
            (read.entries(), read.terms(), read.last()),
            (index.entries(), index.terms(), index.last())
        );
        assert_eq!(decode(&segment, 95_001, &bytes), None);
        assert_eq!(decode(&self::segment(), 95_000, &bytes), None, "another generation");
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let segment = segment();
        let good = encode(&segment, 95_000, &index());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&segment, 95_000, &bad), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(decode(&segment, 95_000, &good[..length]), None, "cut to {length}");
        }
    }
}
