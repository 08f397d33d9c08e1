//! The end of the last segment, where a power cut may have left any bytes.

use std::io;
use std::os::unix::fs::FileExt;

use super::frame::{self, STATE_LEN};
use super::preallocator::ZEROES;
use super::segment::Segment;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Zeroes are skipped in blocks of this many bytes.
const BLOCK: usize = 4096;

/// What lies after the last frame that can be read.
pub(crate) struct Unread {
    /// The highest `synced_to` that any valid state frame there claims.
    pub synced_to: u64,
    /// Offset after the last byte that is not zero.
    pub dirty_end: u64,
}

impl Unread {
    /// Reads everything from `start` on. Only state frames are searched for: they have a fixed length, so the time is
    /// linear for any bytes.
    pub fn survey(segment: &Segment, start: u64) -> io::Result<Self> {
        let mut rest = Self { synced_to: 0, dirty_end: start };
        let mut offset = start;
        while offset < segment.capacity {
            let left = usize::try_from(segment.capacity - offset).unwrap_or(usize::MAX);
            // A frame may extend beyond the chunk.
            let bytes = segment.read(offset, left.min(CHUNK + STATE_LEN - 1))?;
            for block in (0..bytes.len().min(CHUNK)).step_by(BLOCK) {
                let end = bytes.len().min(block + BLOCK);
                if bytes[block..end] != ZEROES[..end - block] {
                    rest.survey_block(segment, offset, &bytes, block..end);
                }
            }
            offset += CHUNK as u64;
        }
        Ok(rest)
    }

    fn survey_block(&mut self, segment: &Segment, base: u64, bytes: &[u8], block: std::ops::Range<usize>) {
        for at in block {
            if bytes[at] == 0 {
                continue;
            }
            let offset = base + at as u64;
            self.dirty_end = self.dirty_end.max(offset + 1);
            if let Some(state) = frame::find_state(segment.seed, offset, &bytes[at..]) {
                self.synced_to = self.synced_to.max(state.synced_to);
            }
        }
    }
}

/// Drops the segment from the page cache, so that the next read returns what is on the disk. A killed process may have
/// left bytes only in memory. And after a failed sync the system keeps the bytes that it could not write, and marks
/// them as clean.
pub(crate) fn drop_cached(segment: &Segment) -> io::Result<()> {
    let file = segment.file()?;
    file.sync_data()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// Overwrites `start..end` with zeroes, durably.
pub(crate) fn zero(segment: &Segment, start: u64, end: u64) -> io::Result<()> {
    let file = segment.file()?;
    let mut offset = start;
    while offset < end {
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROES.len());
        file.write_all_at(&ZEROES[..length], offset)?;
        offset += length as u64;
    }
    file.sync_data()
}
