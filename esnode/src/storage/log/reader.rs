//! Reading the log. A reader sees only what is durable, never writes to the log, and never waits for the writer's disk.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::collector::Collector;
use super::index::{Index, Position, Span};
use super::packs::Packs;
use super::scan::Frames;
use super::segment::{self, Segment};
use super::state::{Sealed, SharedLog};
use super::{LogStart, footer, header, segment_indexes};
use crate::entry::Entry;
use crate::storage::files::named;
use crate::storage::stats::Stats;

/// Smallest and largest read, in bytes.
const CHUNK: std::ops::RangeInclusive<u64> = (32 << 10)..=(1 << 20);

/// Reads the durable entries of the log. Cheap to clone, and safe to use from any thread.
#[derive(Clone)]
pub struct Log {
    pub(super) shared: Arc<SharedLog>,
}

impl Log {
    pub(crate) fn new(shared: Arc<SharedLog>) -> Self {
        Self { shared }
    }

    /// The directory that holds the segment files.
    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// What has taken the place of the first segments.
    pub fn packs(&self) -> &Packs {
        &self.shared.packs
    }

    /// Whether [`Log::delete_before`] with this `index` would delete at least one segment.
    pub fn would_delete(&self, index: u64) -> bool {
        let state = self.shared.state.read();
        let span = state.index.span(index.min(state.index.last()), index);
        let first = state.segments.front().map_or(0, |first| first.header.sequence);
        span.is_some_and(|span| span.position.segment > first)
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

    /// The number of the first segment, and index and term of the entry before it.
    pub fn start(&self) -> LogStart {
        let state = self.shared.state.read();
        let sequence = state.segments.front().map_or(1, |segment| segment.header.sequence);
        LogStart { sequence, before: state.index.base() }
    }

    /// Deletes all segments before the one that holds `index`: their entries can no longer be read. The last segment
    /// always stays.
    ///
    /// The files of deleted segments remain until the two newest snapshots cover them
    /// ([`crate::storage::Snapshots::write`]), so that a start from either snapshot finds the entries after it.
    pub fn delete_before(&self, index: u64) {
        let mut state = self.shared.state.write();
        let Some(span) = state.index.span(index.min(state.index.last()), index) else { return };
        while state.segments.front().is_some_and(|first| first.header.sequence < span.position.segment) {
            state.segments.pop_front().into_iter().for_each(Segment::release);
            state.sealed_bytes -= state.segments.front().map_or(0, |next| next.header.previous_end);
        }
        state.index.delete_before(span.position.segment);
        self.shared.count(&state);
    }

    /// Removes the files of deleted segments whose sequence numbers are below `sequence`.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn remove_deleted(&self, sequence: u32) -> io::Result<()> {
        let (dir, limit) = (&self.shared.dir, sequence.min(self.start().sequence));
        for name in segment::list(dir)? {
            if header::sequence(&name).is_some_and(|sequence| sequence < limit) {
                footer::remove(dir, &name);
                segment_indexes::remove(dir, &name);
                fs::remove_file(dir.join(&name)).map_err(named(dir, &name))?;
            }
        }
        Ok(())
    }

    /// Syncs everything that can be read. Does nothing if the writer syncs every write itself (`wal_sync: true`).
    ///
    /// # Errors
    /// Those of the file system. As with the writer's, the log must not be used after one.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.shared.synced {
            return Ok(());
        }
        // A segment is synced before it gets a successor.
        let last = self.shared.state.read().segments.back().cloned();
        let sync = |last: Arc<Segment>| {
            let synced = last.file().and_then(|file| file.sync_data());
            synced.map_err(named(&self.shared.dir, &last.name))
        };
        last.map_or(Ok(()), sync)
    }

    /// The first sealed segment whose sequence number is above `sequence`, and the offset at which its frames end.
    /// `None` if that segment is the last one of the log, which is not sealed, or if there is none.
    pub(crate) fn next_sealed(&self, sequence: u32) -> Option<(Arc<Segment>, u64)> {
        let state = self.shared.state.read();
        let at = state.segments.partition_point(|segment| segment.header.sequence <= sequence);
        Some((state.segments.get(at)?.clone(), state.segments.get(at + 1)?.header.previous_end))
    }

    /// The sealed segments from the one that holds entry `low` up to, and without, the one that holds entry `high`,
    /// each with the offset at which its frames end. `before` is index and term of the entry just before the first of
    /// these segments; just before the segment of `high` if there are none.
    pub(crate) fn sealed_between(&self, low: u64, high: u64) -> Sealed {
        let state = self.shared.state.read();
        let index = &state.index;
        let sequence =
            |at: u64| index.span(at.max(index.first()), at).map_or(0, |span| span.position.segment);
        let sequences = sequence(low)..sequence(high);
        let before = index.first_in(sequences.start).unwrap_or(index.first()) - 1;
        let ends = state.segments.iter().skip(1).map(|next| next.header.previous_end);
        let sealed = state.segments.iter().zip(ends);
        let sealed = sealed.filter(|(segment, _)| sequences.contains(&segment.header.sequence));
        let sealed = sealed.map(|(segment, end)| (segment.clone(), end)).collect();
        Sealed { before: (before, index.term(before).unwrap_or_default()), segments: sealed }
    }

    /// The segment that holds the entry at `index`, and the offset at which that entry's frame ends.
    pub(crate) fn end_of(&self, index: u64) -> io::Result<(Arc<Segment>, u64)> {
        let unchanged = self.shared.state.read().index.supersessions();
        let gone = || io::Error::new(io::ErrorKind::InvalidInput, format!("entry {index} is not in the log"));
        let (segment, span, until) = self.locate(index, index + 1, unchanged).ok_or_else(gone)?;
        let mut frames = Frames::new(segment.clone(), 0, 64 << 10);
        frames.seek(span.position.offset.into(), until);
        let mut collector = Collector { next: index, high: index + 1, budget: u64::MAX, entries: Vec::new() };
        collector.take(&mut frames, &span)?;
        Ok((segment, frames.offset()))
    }

    /// The first index of the newest segment from whose start at least `bytes` bytes of log follow; the first index of
    /// the log if it is shorter than that.
    pub fn index_before(&self, bytes: u64) -> u64 {
        let state = self.shared.state.read();
        let mut rest = bytes.saturating_sub(state.end);
        for segment in state.segments.iter().rev() {
            if rest == 0 {
                return state.index.first_in(segment.header.sequence).unwrap_or(state.index.first());
            }
            rest = rest.saturating_sub(segment.header.previous_end);
        }
        state.index.first()
    }

    /// Removes the footer of a damaged segment, so that the next start reads the segment itself, and refuses it.
    pub(crate) fn discard_footer(&self, segment: &Segment) {
        footer::remove(&self.shared.dir, &segment.name);
    }

    /// Runs `read` on the index. The writer is blocked until `read` returns.
    pub(crate) fn with_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.shared.state.read().index)
    }

    /// Replaces the file of the last segment, so that a test can make the next sync fail.
    #[cfg(test)]
    pub(crate) fn replace_last(&self, file: fs::File) {
        let mut state = self.shared.state.write();
        if let Some(last) = state.segments.back_mut() {
            *last = Arc::new(Segment::new(file, last.capacity, last.header));
        }
    }

    /// The writer stops waiting for free disk space, because the node is shutting down.
    pub fn stop_waiting(&self) {
        self.shared.ending.store(true, Relaxed);
    }

    /// The writer's counters.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    /// Returns the entries `low..high` that are durable: as many as fit in `max_bytes` of payload, but at least one if
    /// there is one. Their data are slices of one large buffer: copy what is to be kept for long.
    ///
    /// # Errors
    /// `InvalidInput` if `low` is below the first index; `InvalidData`, naming file and offset, if the disk no longer
    /// holds what was written; those of the file system.
    pub fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let entries = self.entries_with_positions(low, high, max_bytes)?;
        Ok(entries.into_iter().map(|(entry, _)| entry).collect())
    }

    /// As [`Log::entries`], each entry with the position of its frame.
    pub(crate) fn entries_with_positions(
        &self,
        low: u64,
        high: u64,
        max_bytes: u64,
    ) -> io::Result<Vec<(Entry, Position)>> {
        loop {
            if let Some(entries) = self.try_entries(low, high, max_bytes)? {
                return Ok(entries);
            }
        }
    }

    /// One attempt at [`Log::entries`]. Returns `None` if the writer superseded entries meanwhile: entries that were
    /// read before and after that might not belong to one log.
    fn try_entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Option<Vec<(Entry, Position)>>> {
        let (first, high, unchanged) = {
            let index = &self.shared.state.read().index;
            (index.first(), high.min(index.last() + 1), index.supersessions())
        };
        if low < first {
            let message = format!("entry {low} was asked for, but the log begins at {first}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut collector = Collector { next: low, high, budget: max_bytes, entries: Vec::new() };
        let mut frames = None;
        while collector.next < high {
            let Some((segment, span, until)) = self.locate(collector.next, high, unchanged) else {
                return Ok(None);
            };
            let mut cursor = match frames.take() {
                Some(frames) if Arc::ptr_eq(Frames::segment(&frames), &segment) => frames,
                _ => {
                    let chunk = collector.budget.saturating_add(*CHUNK.start()).min(*CHUNK.end());
                    Frames::new(segment, 0, usize::try_from(chunk).expect("at most 1 MiB"))
                }
            };
            cursor.seek(span.position.offset.into(), until);
            let taken = collector.take(&mut cursor, &span).inspect_err(|error| {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.discard_footer(cursor.segment());
                }
            })?;
            if !taken {
                break;
            }
            frames = Some(cursor);
        }
        Ok(Some(collector.entries))
    }

    /// Returns the segment that holds entry `next`, the span of the index to scan for it, and the offset at which to
    /// stop: no entry of `next..high` begins behind it in this segment. Returns `None` if the count of supersessions is
    /// no longer `unchanged`, or the entry is not in the log.
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
