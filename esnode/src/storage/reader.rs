//! Reading the log: what is durable, and nothing else. Never writes, never waits for the writer's disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::index::{Index, Span};
use super::segment::{Frames, Next, Segment};
use super::stats::Stats;
use crate::entry::Entry;
use crate::storage::frame::Frame;

/// Smallest and largest read, in bytes.
const CHUNK: std::ops::RangeInclusive<u64> = (32 << 10)..=(1 << 20);

/// Reader of everything durable. Cheap to clone; safe from any thread.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What the writer tells the readers.
#[derive(Default)]
pub(super) struct Shared {
    pub state: RwLock<State>,
    pub stats: Stats,
}

/// The durable log.
#[derive(Default)]
pub(super) struct State {
    pub index: Index,
    /// In order of sequence numbers, without gaps.
    pub segments: VecDeque<Arc<Segment>>,
    /// Where the last segment's frames end.
    pub end: u64,
}

impl State {
    fn segment(&self, sequence: u32) -> Option<&Arc<Segment>> {
        let first = self.segments.front()?.header.sequence;
        self.segments.get(sequence.checked_sub(first)? as usize)
    }
}

impl Log {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Lowest index present; 1 for an empty log.
    pub fn first_index(&self) -> u64 {
        self.shared.state.read().index.first()
    }

    /// Highest durable index; 0 for an empty log.
    pub fn last_index(&self) -> u64 {
        self.shared.state.read().index.last()
    }

    /// Term of the entry at `index`; 0 for index 0; `None` if it is not present.
    ///
    /// # Errors
    /// None today: terms are kept in memory.
    pub fn term(&self, index: u64) -> io::Result<Option<u64>> {
        Ok(self.shared.state.read().index.term(index))
    }

    /// The writer's counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Entries `low..high` (durable ones only), as many as fit `max_bytes` of payload, at least one if there is one.
    /// Their data are slices of what was read at once: copy what is to be kept for long.
    ///
    /// # Errors
    /// `InvalidInput` if `low` is below the first index; `InvalidData`, naming file and offset, if the disk no longer
    /// holds what was written; the system's.
    pub fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        loop {
            if let Some(entries) = self.try_entries(low, high, max_bytes)? {
                return Ok(entries);
            }
        }
    }

    /// `None` if the writer superseded entries meanwhile, so that those read might not belong together.
    fn try_entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Option<Vec<Entry>>> {
        let (first, high, unchanged) = {
            let index = &self.shared.state.read().index;
            (index.first(), high.min(index.last() + 1), index.supersessions())
        };
        if low < first {
            let message = format!("entry {low} was asked for, but the log begins at {first}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut wanted = Wanted { next: low, high, room: max_bytes, entries: Vec::new() };
        let mut frames = None;
        while wanted.next < high {
            let Some((segment, span, until)) = self.locate(wanted.next, high, unchanged) else {
                return Ok(None);
            };
            let mut cursor = match frames.take() {
                Some(frames) if Arc::ptr_eq(Frames::segment(&frames), &segment) => frames,
                _ => {
                    let chunk = wanted.room.saturating_add(*CHUNK.start()).min(*CHUNK.end());
                    Frames::new(segment, 0, usize::try_from(chunk).expect("at most 1 MiB"))
                }
            };
            cursor.seek(span.position.offset.into(), until);
            if !wanted.take(&mut cursor, &span)? {
                break;
            }
            frames = Some(cursor);
        }
        Ok(Some(wanted.entries))
    }

    /// Where to look for the entry `next`, and the offset behind which none below `high` lies.
    fn locate(&self, next: u64, high: u64, unchanged: u64) -> Option<(Arc<Segment>, Span, u64)> {
        let state = self.shared.state.read();
        if state.index.supersessions() != unchanged {
            return None;
        }
        let span = state.index.span(next, high)?;
        let segment = state.segment(span.position.segment)?;
        let is_last = state.segments.back().is_some_and(|last| Arc::ptr_eq(last, segment));
        let end = if is_last { state.end } else { segment.capacity };
        Some((segment.clone(), span, span.until.map_or(end, u64::from)))
    }
}

/// The entries still wanted, and those found.
struct Wanted {
    next: u64,
    high: u64,
    room: u64,
    entries: Vec<Entry>,
}

impl Wanted {
    /// Takes the wanted entries of one span; false when no more fit.
    fn take(&mut self, frames: &mut Frames, span: &Span) -> io::Result<bool> {
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
            if size > self.room && !self.entries.is_empty() {
                return Ok(false);
            }
            self.room = self.room.saturating_sub(size);
            self.next = present;
            self.entries.push(entry);
        }
        Ok(true)
    }
}
