//! Reading what is durable.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::RwLock;

use super::frame::{self, Broken, Content};
use super::index::{Index, Point};
use super::segment::Segment;
use super::stats::WalStats;
use crate::entry::Entry;

/// Bytes read from a file at a time, at least and at most.
const READ: (u64, u64) = (64 << 10, 1 << 20);

/// Reader of everything durable. Cheap to clone; safe from any thread.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<RwLock<Durable>>,
    stats: Arc<WalStats>,
}

/// What readers may see.
#[derive(Debug, Default)]
pub(super) struct Durable {
    pub(super) segments: Vec<Segment>,
    pub(super) index: Index,
    /// Log position behind the last durable frame.
    pub(super) end: u64,
}

impl Log {
    pub(super) fn new(durable: Durable, stats: Arc<WalStats>) -> Self {
        Self { shared: Arc::new(RwLock::new(durable)), stats }
    }

    /// Changes what readers see.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Durable)) {
        change(&mut self.shared.write());
    }

    /// Lowest index present; 1 for an empty log.
    pub fn first_index(&self) -> u64 {
        self.shared.read().index.first()
    }

    /// Highest durable index; 0 for an empty log.
    pub fn last_index(&self) -> u64 {
        self.shared.read().index.last()
    }

    /// Term of the entry at `index`; 0 for index 0.
    pub fn term(&self, index: u64) -> io::Result<Option<u64>> {
        Ok(self.shared.read().index.term(index))
    }

    /// Bytes of all segments up to the end of the durable log, and how many segments there are.
    pub fn size(&self) -> (u64, usize) {
        let durable = self.shared.read();
        let first = durable.segments.first().map_or(durable.end, |segment| segment.base);
        (durable.end - first, durable.segments.len())
    }

    /// The writer's figures.
    pub fn stats(&self) -> &WalStats {
        &self.stats
    }

    /// Entries `low..high` (durable ones only), as many as fit `max_bytes` of payload, at least one if there is one.
    pub fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut next = low;
        while let Some(mut walk) = self.walk(next, high) {
            while let Some(entry) = walk.next(next)? {
                bytes += entry.data.len() as u64;
                if !found.is_empty() && bytes > max_bytes {
                    return Ok(found);
                }
                next = entry.index + 1;
                found.push(entry);
                if bytes >= max_bytes {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// A walk over the live entries from the point before `low` to the next point, or to `high` or the end.
    fn walk(&self, low: u64, high: u64) -> Option<Walk> {
        let durable = self.shared.read();
        let high = high.min(durable.index.last() + 1);
        if low >= high || low < durable.index.first() {
            return None;
        }
        let (Point { position, .. }, until) = durable.index.walk(low)?;
        let after = durable.segments.partition_point(|segment| segment.base <= position);
        let segment = durable.segments.get(after.checked_sub(1)?)?.clone();
        let end = durable.segments.get(after).map_or(durable.end, |next| next.base) - segment.base;
        let offset = position - segment.base;
        Some(Walk { segment, offset, end, until: until.min(high), buffer: Bytes::new() })
    }
}

/// Reads frames one after the other within one segment.
struct Walk {
    segment: Segment,
    /// Offset in the file of the first byte of `buffer`.
    offset: u64,
    /// Offset in the file behind the last durable frame.
    end: u64,
    /// Entries from this index on are elsewhere.
    until: u64,
    buffer: Bytes,
}

impl Walk {
    /// The entry at `wanted`; `None` when the walk is over.
    fn next(&mut self, wanted: u64) -> io::Result<Option<Entry>> {
        while wanted < self.until && self.offset < self.end {
            let frame = match frame::read(&self.buffer, self.segment.generation) {
                Ok(frame) => frame,
                Err(Broken::Short(needed)) if self.left() > self.buffer.len() as u64 => {
                    self.fill(needed)?;
                    continue;
                }
                Err(_) => return Err(self.corrupt("a durable frame no longer matches its checksum")),
            };
            self.buffer.advance(frame.length);
            self.offset += frame.length as u64;
            match frame.content {
                Content::Entry(entry) if entry.index == wanted => return Ok(Some(entry)),
                Content::Entry(entry) if entry.index > wanted => {
                    return Err(self.corrupt("an entry is not where it was written"));
                }
                Content::Entry(_) | Content::HardState(_) => {}
            }
        }
        Ok(None)
    }

    fn left(&self) -> u64 {
        self.end - self.offset
    }

    /// Reads at least `needed` bytes from `offset` on, if there are so many.
    fn fill(&mut self, needed: usize) -> io::Result<()> {
        let grown = (self.buffer.len() as u64 * 4).clamp(READ.0, READ.1).max(needed as u64);
        let length = usize::try_from(grown.min(self.left())).unwrap_or(needed);
        let mut bytes = BytesMut::zeroed(length);
        self.segment.file.read_exact_at(&mut bytes, self.offset)?;
        self.buffer = bytes.freeze();
        Ok(())
    }

    fn corrupt(&self, reason: &str) -> io::Error {
        let place = format!("{} at byte {}: {reason}", self.segment.name(), self.offset);
        io::Error::new(io::ErrorKind::InvalidData, place)
    }
}
