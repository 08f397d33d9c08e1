//! Reads a range of entries from segments, and notices if they are no longer what was written.

use std::io;

use super::frame::Frame;
use super::index::{Position, Span};
use super::scan::{Frames, Next};
use crate::entry::Entry;

/// Collects the entries `next..high` from segments, as many as fit in a budget.
pub(crate) struct Collector {
    /// Index of the next entry to take.
    pub next: u64,
    /// Where to end, exclusive.
    pub high: u64,
    /// Bytes of payload that may still be taken.
    pub budget: u64,
    /// What was taken, each with the position of its frame.
    pub entries: Vec<(Entry, Position)>,
}

impl Collector {
    /// Takes the entries of one span. Returns false when no more fit.
    pub fn take(&mut self, frames: &mut Frames, span: &Span) -> io::Result<bool> {
        let segment = frames.segment().clone();
        let end = span.end.unwrap_or(u64::MAX).min(self.high);
        let mut present = span.first;
        while present < end {
            let offset = frames.offset();
            let damaged = |reason: &str| {
                let message = format!("the log is damaged: {}, byte {offset}: {reason}", segment.name);
                io::Error::new(io::ErrorKind::InvalidData, message)
            };
            let entry = match frames.next()? {
                Next::Frame(Frame::State(_)) => continue,
                Next::Frame(Frame::Entry(entry)) if entry.index == present => entry,
                Next::Frame(Frame::Entry(_)) => return Err(damaged("not the entry that was written here")),
                Next::End => return Err(damaged("an entry is gone")),
                Next::Bad(reason) => return Err(damaged(reason)),
            };
            present += 1;
            if entry.index < self.next {
                continue;
            }
            let size = entry.data.len() as u64;
            if size > self.budget && !self.entries.is_empty() {
                return Ok(false);
            }
            self.budget = self.budget.saturating_sub(size);
            self.next = present;
            let position = Position {
                segment: segment.header.sequence,
                offset: u32::try_from(offset).expect("segments are below 4 GiB"),
            };
            self.entries.push((entry, position));
        }
        Ok(true)
    }
}
