//! The one writer: appends frames, syncs them, and only then shows them to the readers.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::RwLock;

use super::Batch;
use super::footer;
use super::frame::{self, HEADER_LEN, STATE_LEN, StateFrame};
use super::header::{Header, SEGMENT_HEADER_LEN};
use super::index::{Index, Position};
use super::preallocator::{Preallocator, PreparedSegment, UNFINISHED};
use super::reader::Log;
use super::recovery::FoundLog;
use super::segment::Segment;
use super::state::{LogState, SharedLog};
use super::write_batch::WriteBatch;
use crate::entry::{Entry, HardState};
use crate::storage::disk_space;
use crate::storage::files::{is_full, named, sync_dir};
use crate::storage::options::{Fill, Options};
use crate::storage::stats::Stats;

/// Bytes gathered before they are handed to the system without waiting for the sync.
const FLUSH_FROM: usize = 4 << 20;
/// A new log's first segment: small enough to be zeroed before the first write.
pub(crate) const FIRST_SEGMENT: u64 = 4 << 20;
/// Offsets of frames are kept in 32 bits.
const LARGEST_SEGMENT: u64 = 2 << 30;
/// Room for a header and the first state frame, and some more.
const SMALLEST_SEGMENT: u64 = 1024;
/// A segment on a full disk.
const RESERVE_SEGMENT: u64 = 1 << 20;

/// The one writer.
///
/// Any error is final: what is on disk is then unknown, so every later call fails too, and the caller must exit.
pub struct Wal {
    pub(crate) dir: PathBuf,
    sync_entries: bool,
    log: Log,
    pub(crate) shared: Arc<SharedLog>,
    preallocator: Preallocator,
    pub(crate) segment: Arc<Segment>,
    /// Frames not handed to the system yet.
    buffer: WriteBatch,
    /// Where the next frame goes, behind those gathered.
    pub(crate) end: u64,
    /// Everything of this segment below is durable.
    synced_to: u64,
    /// Entries or a vote were written since.
    pub(crate) unsynced: bool,
    /// No state frame says `synced_to` yet.
    mark_pending: bool,
    pub(crate) hard_state: HardState,
    pub(crate) last_index: u64,
    pub(crate) last_term: u64,
    /// Written, not yet shown: index, term, place.
    unpublished: Vec<(u64, u64, Position)>,
    /// What this segment holds, shown or not.
    tail: Index,
    failed: Option<String>,
}

/// A reader and the writer of the log that was found; creates the first segment of an empty one.
pub(crate) fn start(dir: &Path, options: Options, fill: Fill, mut found: FoundLog) -> io::Result<(Log, Wal)> {
    let largest = options.segment_bytes.clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
    let is_new = found.segments.is_empty();
    if is_new {
        let mut prepared = PreparedSegment::create(dir, largest.min(FIRST_SEGMENT))?;
        if fill == Fill::Zeroes {
            prepared.zero_all().map_err(named(dir, UNFINISHED))?;
        }
        let (segment, end) = activate(dir, prepared, Header::new(1, 1, None), HardState::default())?;
        found.segments.push_back(segment);
        found.end = end;
    }
    let segment = found.segments.back().expect("there is one now").clone();
    let end = found.end;
    let sealed_bytes = found.segments.iter().skip(1).map(|next| next.header.previous_end).sum();
    let state = LogState { index: found.index, segments: found.segments, sealed_bytes, end };
    let (last_index, last_term) = {
        let last = state.index.last();
        (last, state.index.term(last).unwrap_or_default())
    };
    let shared = Arc::new(SharedLog {
        dir: dir.to_owned(),
        synced: options.sync,
        state: RwLock::new(state),
        stats: Arc::default(),
        files: found.files,
        ending: AtomicBool::new(false),
    });
    shared.count(&shared.state.read());
    let wal = Wal {
        dir: dir.to_owned(),
        sync_entries: options.sync,
        log: Log::new(shared.clone()),
        preallocator: Preallocator::start(dir, fill, largest, segment.capacity, end)?,
        shared: shared.clone(),
        buffer: WriteBatch::default(),
        end,
        synced_to: end,
        unsynced: false,
        mark_pending: !is_new,
        hard_state: found.hard_state,
        last_index,
        last_term,
        unpublished: Vec::new(),
        tail: found.tail,
        segment,
        failed: None,
    };
    Ok((wal.log.clone(), wal))
}

/// Makes a segment of a prepared file: header and state first, both durable, then the name, durable too. Returns where
/// its first free byte is.
fn activate(
    dir: &Path,
    prepared: PreparedSegment,
    header: Header,
    hard_state: HardState,
) -> io::Result<(Arc<Segment>, u64)> {
    let segment = Segment::new(prepared.file, prepared.capacity, header);
    let start = SEGMENT_HEADER_LEN as u64;
    let mut bytes = header.encode().to_vec();
    bytes.extend(frame::encode_state(segment.seed, start, &StateFrame { hard_state, synced_to: start }));
    let named = named(dir, UNFINISHED);
    let file = segment.file()?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(named)?;
    fs::rename(dir.join(UNFINISHED), dir.join(&segment.name)).map_err(named)?;
    sync_dir(dir)?;
    Ok((Arc::new(segment), bytes.len() as u64))
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

    /// Raft's persistent state, as the next state frame says it.
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
    /// A commit index alone is not worth a sync: it is written with the next entries. Without [`Options::sync`],
    /// entries are only made visible.
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

    /// Writes, without a sync, that the last group is durable. For a writer that has nothing else to do: should the
    /// disk lose that group later, the mark tells the loss from a torn tail. The next group carries it otherwise.
    ///
    /// # Errors
    /// The system's; final.
    pub fn mark(&mut self) -> io::Result<()> {
        self.unless_failed(|wal| {
            if wal.mark_pending && wal.fits(STATE_LEN) {
                wal.push_state()?;
                wal.flush()?;
            }
            Ok(())
        })
    }

    /// Ends in good order: all durable, with the latest commit index and mark.
    ///
    /// # Errors
    /// The system's.
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

    pub(crate) fn unless_failed(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
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
            // The new segment begins with what is to be written.
            return self.roll(self.last_index + 1, 0);
        }
        let state = StateFrame { hard_state: self.hard_state, synced_to: self.synced_to };
        self.buffer.copy(&frame::encode_state(self.segment.seed, self.end, &state));
        self.end += STATE_LEN as u64;
        self.mark_pending = false;
        Ok(())
    }

    /// Lets the next writes and syncs go to another file, which can fail.
    #[cfg(test)]
    pub(crate) fn redirect(&mut self, file: fs::File) {
        self.segment = Arc::new(Segment::new(file, self.segment.capacity, self.segment.header));
    }

    fn fits(&self, length: usize) -> bool {
        self.end + length as u64 <= self.segment.capacity
    }

    /// Goes on in a new segment, with room for a frame of `length` bytes. This one is synced first, so that only the last
    /// segment can ever be torn.
    fn roll(&mut self, first_index: u64, length: usize) -> io::Result<()> {
        self.flush()?;
        self.sync_segment()?;
        let Header { sequence, generation, .. } = self.segment.header;
        let header = Header::new(sequence + 1, first_index, Some((generation, self.end)));
        self.write_footer();
        let wanted = SEGMENT_HEADER_LEN + STATE_LEN + length;
        let prepared = self.with_room(|| self.next_segment(wanted as u64))?;
        let (segment, end) = activate(&self.dir, prepared, header, self.hard_state)?;
        let mut state = self.shared.state.write();
        state.segments.push_back(segment.clone());
        state.sealed_bytes += self.end;
        // Readers take the end for the last segment's; of this one they need nothing yet.
        state.end = end;
        self.shared.count(&state);
        drop(state);
        self.go_on_in(segment, end);
        Ok(())
    }

    /// The next frame goes to `segment`, of which everything below `end` is durable. Nobody writes to the one before.
    pub(crate) fn go_on_in(&mut self, segment: Arc<Segment>, end: u64) {
        self.preallocator.resume(segment.capacity);
        self.segment.close_when_idle(&self.dir, &self.shared.files);
        (self.segment, self.end, self.synced_to) = (segment, end, end);
        self.mark_pending = false;
        self.tail = Index::default();
    }

    /// A full segment, or on a full disk one that is large enough for what makes room, from the reserve.
    fn next_segment(&self, wanted: u64) -> io::Result<PreparedSegment> {
        match self.preallocator.take(wanted) {
            Err(error) if is_full(&error) => {
                self.shared.stats.low_room.store(true, Relaxed);
                let _ = disk_space::release_reserve(&self.dir);
                PreparedSegment::create(&self.dir, RESERVE_SEGMENT.max(wanted))
            }
            taken => taken,
        }
    }

    /// Runs `make` until the disk has room for the file that it makes.
    pub(crate) fn with_room<T>(&self, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        disk_space::wait_for_room(&self.shared.stats, &self.shared.ending, make)
    }

    /// Writes down what the segment holds, for the next start. Not synced: a torn one is passed over.
    pub(crate) fn write_footer(&self) {
        if let Err(error) = footer::write(&self.dir, &self.segment, self.end, &self.tail) {
            tracing::warn!(file = self.segment.name, %error, "cannot write a segment's footer");
        }
    }

    /// Hands what is gathered to the system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let length = self.buffer.len() as u64;
        if length > 0 {
            self.buffer.write_to(&*self.segment.file()?, self.end - length)?;
            self.shared.stats.bytes_written.fetch_add(length, Relaxed);
            self.preallocator.advance(self.end, length)?;
        }
        Ok(())
    }

    pub(crate) fn sync_segment(&mut self) -> io::Result<()> {
        let started = Instant::now();
        self.segment.file()?.sync_data()?;
        self.shared.stats.synced(started.elapsed());
        self.synced_to = self.end;
        self.unsynced = false;
        self.mark_pending = true;
        Ok(())
    }

    /// Shows what was written to the readers.
    pub(crate) fn publish(&mut self) {
        let mut state = self.shared.state.write();
        for (index, term, position) in self.unpublished.drain(..) {
            state.index.append(index, term, position);
        }
        state.end = self.end;
        self.shared.count(&state);
    }
}
