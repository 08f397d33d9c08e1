//! The writer of the log: appends frames, syncs them, and only then makes them visible to readers.

mod replace;
mod roll;
mod start;

#[cfg(test)]
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Batch;
use super::frame::{self, HEADER_LEN, STATE_LEN, StateFrame};
use super::header::Header;
use super::index::{Index, Position};
use super::preallocator::Preallocator;
use super::reader::Log;
use super::segment::Segment;
use super::state::SharedLog;
use super::write_batch::WriteBatch;
use crate::entry::{Entry, HardState};
use crate::storage::stats::Stats;
pub(crate) use replace::Replacement;
pub(crate) use start::{FIRST_SEGMENT, start};

/// Number of buffered bytes from which they are given to the system before the next sync.
const FLUSH_FROM: usize = 4 << 20;
/// The writer of the log; there is only one.
///
/// Every error is final: the state on disk is unknown then, so all later calls fail too, and the caller must exit.
pub struct Wal {
    dir: PathBuf,
    sync_entries: bool,
    log: Log,
    shared: Arc<SharedLog>,
    preallocator: Preallocator,
    segment: Arc<Segment>,
    /// Frames that were not given to the system yet.
    buffer: WriteBatch,
    /// Offset of the next frame, after those in the buffer.
    end: u64,
    /// Everything in this segment below this offset is durable.
    synced_to: u64,
    /// Entries or a vote were written since the last sync.
    unsynced: bool,
    /// No state frame on disk contains the current `synced_to` yet.
    mark_pending: bool,
    hard_state: HardState,
    last_index: u64,
    last_term: u64,
    /// Entries that are written but not visible yet: index, term, position.
    unpublished: Vec<(u64, u64, Position)>,
    /// The index of this segment, with entries that are not visible yet.
    tail: Index,
    /// A segment was sealed, and the next one has no entries that can be read yet.
    sealed: bool,
    failed: Option<String>,
}

impl Wal {
    /// The counters that it keeps.
    pub(crate) fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// A reader of what it writes.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Header of the segment in use, and where its frames end.
    pub(crate) fn position(&self) -> (Header, u64) {
        (self.segment.header, self.end)
    }

    /// Returns Raft's persistent state, as the next state frame will contain it.
    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Writes one batch; it is not durable, and no reader sees it, before [`Wal::sync`].
    ///
    /// # Errors
    /// `InvalidInput` for a gap between entries; the system's. All are final.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.unless_failed(|wal| wal.append(batch))
    }

    /// Makes everything written durable, then visible to readers. An error is final: the caller must exit.
    ///
    /// A commit index alone is not worth a sync: it is written with the next entries. Without
    /// [`Options::sync`], entries are only made visible.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self) -> io::Result<()> {
        self.unless_failed(|wal| {
            wal.flush()?;
            if wal.unsynced {
                wal.sync_segment()?;
            }
            wal.publish();
            Ok(())
        })
    }

    /// Writes, without a sync, that the last batch is durable. For a writer that is idle: if the disk loses that batch
    /// later, this mark shows that it is damage and not a torn tail. Otherwise the next batch contains the mark.
    ///
    /// # Errors
    /// Those of the file system; final.
    pub fn mark(&mut self) -> io::Result<()> {
        self.unless_failed(|wal| {
            if wal.mark_pending && wal.fits(STATE_LEN) {
                wal.push_state()?;
                wal.flush()?;
            }
            Ok(())
        })
    }

    /// Closes the log: everything is durable, with the latest commit index and mark.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn close(mut self) -> io::Result<()> {
        self.unless_failed(|wal| {
            wal.flush()?;
            wal.sync_segment()?;
            if wal.fits(STATE_LEN) {
                wal.push_state()?;
                wal.flush()?;
                wal.sync_segment()?;
            }
            wal.publish();
            Ok(())
        })
    }

    fn unless_failed(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(io::Error::other(format!("the log's writer failed before: {error}")));
        }
        let name = self.segment.name.clone();
        act(self).map_err(|error| {
            self.failed = Some(error.to_string());
            io::Error::new(
                error.kind(),
                format!("writing the log ({}): {error}", self.dir.join(name).display()),
            )
        })
    }

    fn append(&mut self, batch: &Batch) -> io::Result<()> {
        if let Some(next) = batch.hard_state {
            let urgent = self.hard_state.must_sync(&next);
            self.hard_state = next;
            if urgent {
                self.push_state()?;
                self.unsynced = true;
            }
        }
        if self.mark_pending && !batch.entries.is_empty() {
            self.push_state()?;
        }
        for entry in &batch.entries {
            self.push_entry(entry)?;
            self.unsynced |= self.sync_entries;
        }
        if self.buffer.len() >= FLUSH_FROM { self.flush() } else { Ok(()) }
    }

    fn push_entry(&mut self, entry: &Entry) -> io::Result<()> {
        let Entry { index, term, .. } = *entry;
        let gap = index == 0 || index > self.last_index + 1;
        if gap || (index == self.last_index + 1 && term < self.last_term) {
            let message = format!(
                "entry {index} of term {term} cannot follow entry {} of term {}",
                self.last_index, self.last_term
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let length = HEADER_LEN + entry.data.len();
        if !self.fits(length) {
            self.roll(index, length)?;
        }
        let offset = u32::try_from(self.end).expect("segments are below 4 GiB");
        self.buffer.copy(&frame::encode_entry(self.segment.seed, self.end, entry));
        self.buffer.payload(&entry.data);
        self.end += length as u64;
        (self.last_index, self.last_term) = (index, term);
        let position = Position { segment: self.segment.header.sequence, offset };
        self.unpublished.push((index, term, position));
        self.tail.append(index, term, position);
        Ok(())
    }

    fn push_state(&mut self) -> io::Result<()> {
        if !self.fits(STATE_LEN) {
            // The entry that did not fit begins the new segment.
            return self.roll(self.last_index + 1, 0);
        }
        let state = StateFrame { hard_state: self.hard_state, synced_to: self.synced_to };
        self.buffer.copy(&frame::encode_state(self.segment.seed, self.end, &state));
        self.end += STATE_LEN as u64;
        self.mark_pending = false;
        Ok(())
    }

    /// Redirects further writes and syncs to another file, so that a test can make them fail.
    #[cfg(test)]
    pub(crate) fn redirect(&mut self, file: fs::File) {
        self.segment = Arc::new(Segment::new(file, self.segment.capacity, self.segment.header));
    }

    /// Gives the buffered frames to the system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let length = self.buffer.len() as u64;
        if length > 0 {
            self.buffer.write_to(&*self.segment.file()?, self.end - length)?;
            self.shared.stats.bytes_written.fetch_add(length, Relaxed);
            self.preallocator.advance(self.end, length)?;
        }
        Ok(())
    }

    fn sync_segment(&mut self) -> io::Result<()> {
        let started = Instant::now();
        self.segment.file()?.sync_data()?;
        self.shared.stats.syncs.observe(started.elapsed());
        self.synced_to = self.end;
        self.unsynced = false;
        self.mark_pending = true;
        Ok(())
    }

    /// Makes the written entries visible to readers.
    fn publish(&mut self) {
        let sealed = !self.unpublished.is_empty() && std::mem::take(&mut self.sealed);
        let mut state = self.shared.state.write();
        for (index, term, position) in self.unpublished.drain(..) {
            state.index.append(index, term, position);
            state.positions.append(index, position);
        }
        state.end = self.end;
        self.shared.count(&state);
        drop(state);
        if sealed {
            // If something is waiting there, the segment is found with it.
            let _ = self.shared.sealed.0.try_send(());
        }
    }
}
