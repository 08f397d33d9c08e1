//! The index of a segment as a stranger may have written it: whatever a search of it finds, it ends.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::codec::{CRC, seal};
use super::segment_index::SegmentIndex;
use super::{ReadAt, Wanted};

/// A file in which every block that is read has the checksum that it should have.
struct Mended(Bytes);

impl ReadAt for Mended {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let read = self.0.read_at(position, length)?;
        let mut block = read.get(..length.saturating_sub(CRC)).unwrap_or_default().to_vec();
        seal(&mut block);
        Ok(block.into())
    }
}

/// Searches the index that these bytes are, as they are and with checksums mended.
pub fn fuzz(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    search(bytes.clone(), bytes.len() as u64);
    search(Mended(bytes.clone()), bytes.len() as u64);
}

fn search(file: impl ReadAt, length: u64) {
    let Ok(index) = SegmentIndex::open(file, length) else { return };
    drop(index.rows().take(1000).collect::<Vec<_>>());
    for key in [(0, 0), (1, 0), (1, 1), (7, 3), (u32::MAX, u32::MAX)] {
        let Ok(Some(row)) = index.row(key) else { continue };
        for wanted in [Wanted::Offset(0), Wanted::Offset(i64::MAX), Wanted::Time(0), Wanted::Time(i64::MAX)] {
            let mut next = None;
            let ended = index.batches(&row, wanted, |found| {
                assert!(!found.batch.is_before(wanted));
                let joins = next.is_none_or(|next| found.batch.base_offset >= next);
                next = Some(found.batch.end_offset());
                if joins { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            drop(ended);
        }
    }
}
