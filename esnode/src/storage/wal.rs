//! The one writer: appends frames, syncs them, and only then shows them to the readers.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::checkpoint::{Checkpoints, is_full};
use super::filler::{Blank, Filler, UNFINISHED};
use super::frame::{self, HEADER_LEN, STATE_LEN, State};
use super::gather::Gather;
use super::incoming::{self, Incoming, Staged};
use super::index::{Index, Position};
use super::install::Installation;
use super::reader::{Log, Shared, State as LogState};
use super::recovery::Found;
use super::segment::{self, Header, SEGMENT_HEADER_LEN, Segment};
use super::stats::Stats;
use super::{Batch, Fill, Options, room, summary, sync_dir};
use crate::entry::{Entry, HardState};

/// Bytes gathered before they are handed to the system without waiting for the sync.
const FLUSH_FROM: usize = 4 << 20;
/// A new log's first segment: small enough to be zeroed before the first write.
const FIRST_SEGMENT: u64 = 4 << 20;
/// Offsets of frames are kept in 32 bits.
const LARGEST_SEGMENT: u64 = 2 << 30;
/// Room for a header and the first state frame, and some more.
const SMALLEST_SEGMENT: u64 = 1024;
/// A segment on a full disk.
const RESERVE_SEGMENT: u64 = 1 << 20;

/// Between two attempts to find room for the next segment.
const ROOM_RETRY: Duration = Duration::from_millis(100);

/// The one writer.
///
/// Any error is final: what is on disk is then unknown, so every later call fails too, and the caller must exit.
pub struct Wal {
    dir: PathBuf,
    sync_entries: bool,
    log: Log,
    shared: Arc<Shared>,
    filler: Filler,
    segment: Arc<Segment>,
    /// Frames not handed to the system yet.
    gather: Gather,
    /// Where the next frame goes, behind those gathered.
    end: u64,
    /// Everything of this segment below is durable.
    synced_to: u64,
    /// Entries or a vote were written since.
    unsynced: bool,
    /// No state frame says `synced_to` yet.
    mark_owed: bool,
    hard_state: HardState,
    last_index: u64,
    last_term: u64,
    /// Written, not yet shown: index, term, place.
    pending: Vec<(u64, u64, Position)>,
    /// What this segment holds, shown or not.
    tail: Index,
    checkpoints: Checkpoints,
    failed: Option<String>,
}

/// A reader and the writer of the log that was found; creates the first segment of an empty one.
pub(super) fn start(
    dir: &Path,
    options: Options,
    fill: Fill,
    mut found: Found,
    checkpoints: Checkpoints,
) -> io::Result<(Log, Wal)> {
    let largest = options.segment_bytes.clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
    let is_new = found.segments.is_empty();
    if is_new {
        let mut blank = Blank::create(dir, largest.min(FIRST_SEGMENT))?;
        if fill == Fill::Zeroes {
            blank.zero_all().map_err(segment::at(dir, UNFINISHED))?;
        }
        let (segment, end) = commission(dir, blank, Header::new(1, 1, None), HardState::default())?;
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
    let shared = Arc::new(Shared {
        dir: dir.to_owned(),
        synced: options.sync,
        state: RwLock::new(state),
        stats: Stats::default(),
        files: found.files,
        ending: AtomicBool::new(false),
    });
    shared.count(&shared.state.read());
    let wal = Wal {
        dir: dir.to_owned(),
        sync_entries: options.sync,
        log: Log::new(shared.clone()),
        filler: Filler::start(dir, fill, largest, segment.capacity, end)?,
        shared: shared.clone(),
        gather: Gather::default(),
        end,
        synced_to: end,
        unsynced: false,
        mark_owed: !is_new,
        hard_state: found.hard_state,
        last_index,
        last_term,
        pending: Vec::new(),
        tail: found.tail,
        checkpoints,
        segment,
        failed: None,
    };
    Ok((wal.log.clone(), wal))
}

/// Makes a segment of a blank file: header and state first, both durable, then the name, durable too. Returns where
/// its first free byte is.
fn commission(
    dir: &Path,
    blank: Blank,
    header: Header,
    hard_state: HardState,
) -> io::Result<(Arc<Segment>, u64)> {
    let segment = Segment::new(blank.file, blank.capacity, header);
    let start = SEGMENT_HEADER_LEN as u64;
    let mut bytes = header.encode().to_vec();
    bytes.extend(frame::encode_state(segment.seed, start, &State { hard_state, synced_to: start }));
    let named = segment::at(dir, UNFINISHED);
    let file = segment.file()?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(named)?;
    fs::rename(dir.join(UNFINISHED), dir.join(&segment.name)).map_err(named)?;
    sync_dir(dir)?;
    Ok((Arc::new(segment), bytes.len() as u64))
}

impl Wal {
    /// The counters that it keeps.
    pub(super) fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Writes one batch; it is not durable, and no reader sees it, before [`Wal::sync`].
    ///
    /// # Errors
    /// `InvalidInput` for a gap between entries; the system's. All are final.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.unless_failed(|wal| wal.append(batch))
    }

    /// Puts another node's segments and checkpoint behind what there is, or in its place if they begin later. Durable
    /// and visible on return, with the state. What they hold that this log holds too supersedes it, and is the same: both
    /// are committed. One step, as [`super::incoming`] tells: everything before the commit can be forgotten, everything
    /// after it is made up for.
    ///
    /// # Errors
    /// `InvalidData` if they do not fit this log; the system's. All are final.
    pub fn install(&mut self, staged: &Staged, hard_state: Option<HardState>) -> io::Result<()> {
        self.unless_failed(|wal| {
            wal.hard_state = hard_state.unwrap_or(wal.hard_state);
            wal.put_behind(staged)
        })
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
            if wal.mark_owed && wal.fits(STATE_LEN) {
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
        if self.mark_owed && !batch.entries.is_empty() {
            self.push_state()?;
        }
        for entry in &batch.entries {
            self.push_entry(entry)?;
            self.unsynced |= self.sync_entries;
        }
        if self.gather.len() >= FLUSH_FROM { self.flush() } else { Ok(()) }
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
        self.gather.copy(&frame::encode_entry(self.segment.seed, self.end, entry));
        self.gather.payload(&entry.data);
        self.end += length as u64;
        (self.last_index, self.last_term) = (index, term);
        let position = Position { segment: self.segment.header.sequence, offset };
        self.pending.push((index, term, position));
        self.tail.append(index, term, position);
        Ok(())
    }

    fn push_state(&mut self) -> io::Result<()> {
        if !self.fits(STATE_LEN) {
            // The new segment begins with what is to be written.
            return self.roll(self.last_index + 1, 0);
        }
        let state = State { hard_state: self.hard_state, synced_to: self.synced_to };
        self.gather.copy(&frame::encode_state(self.segment.seed, self.end, &state));
        self.end += STATE_LEN as u64;
        self.mark_owed = false;
        Ok(())
    }

    /// Lets the next writes and syncs go to another file, which can fail.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: fs::File) {
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
        let index = std::mem::take(&mut self.tail);
        self.summarise(&index);
        let wanted = SEGMENT_HEADER_LEN + STATE_LEN + length;
        let blank = self.with_room(|| self.next_segment(wanted as u64))?;
        let (segment, end) = commission(&self.dir, blank, header, self.hard_state)?;
        self.filler.resume(segment.capacity);
        let mut state = self.shared.state.write();
        state.segments.push_back(segment.clone());
        state.sealed_bytes += self.end;
        // Readers take the end for the last segment's; of this one they need nothing yet.
        state.end = end;
        self.shared.count(&state);
        drop(state);
        self.segment.lend(&self.dir, &self.shared.files);
        (self.segment, self.end, self.synced_to) = (segment, end, end);
        self.mark_owed = false;
        Ok(())
    }

    /// A full segment, or on a full disk one that is large enough for what makes room, from the reserve.
    fn next_segment(&self, wanted: u64) -> io::Result<Blank> {
        match self.filler.take(wanted) {
            Err(error) if is_full(&error) => {
                self.shared.stats.low_room.store(true, Relaxed);
                let _ = room::give_up(&self.dir);
                Blank::create(&self.dir, RESERVE_SEGMENT.max(wanted))
            }
            taken => taken,
        }
    }

    /// Makes a new file. Without room for it the writer waits until there is some: what is not written is not
    /// acknowledged, a leader gives way, and nothing has to be started again.
    fn with_room<T>(&self, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let (lacks_room, mut said) = (&self.shared.stats.lacks_room, false);
        loop {
            match make() {
                Err(error) if is_full(&error) && !self.shared.ending.load(Relaxed) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(%error, "no room for the next segment of the log: make some; nothing is lost");
                    }
                    lacks_room.store(true, Relaxed);
                    thread::sleep(ROOM_RETRY);
                }
                taken => {
                    lacks_room.store(false, Relaxed);
                    return taken;
                }
            }
        }
    }

    fn put_behind(&mut self, staged: &Staged) -> io::Result<()> {
        self.flush()?;
        self.sync_segment()?;
        self.publish();
        let start = self.log.start();
        let last = (self.segment.header, self.end);
        let plan = Installation::plan(start, &self.shared.state.read().index, last, staged)?;
        let parent = self.dir.parent().unwrap_or(&self.dir);
        let incoming = Incoming::of(parent);
        let file = self.with_room(|| plan.stage(&incoming, staged, self.hard_state, FIRST_SEGMENT))?;
        let index = std::mem::take(&mut self.tail);
        self.summarise(&index);
        self.checkpoints.replace((staged.index, plan.start), || {
            incoming.decide(&plan.commit(staged))?;
            incoming::finish(parent).map_err(io::Error::other)
        })?;
        self.take_over(staged, plan, file)
    }

    /// Goes on in the last segment of an installation.
    fn take_over(&mut self, staged: &Staged, plan: Installation, file: fs::File) -> io::Result<()> {
        let mut segments = Vec::new();
        for (part, header) in staged.parts.iter().zip(&plan.headers) {
            let segment = Segment::open(&self.dir, &header.file_name()).map_err(io::Error::other)?;
            let _unneeded = summary::write(&self.dir, &segment, part.length, &part.index);
            let segment = Arc::new(segment);
            segment.lend(&self.dir, &self.shared.files);
            segments.push(segment);
        }
        let tail = Arc::new(Segment::new(file, FIRST_SEGMENT, plan.tail));
        segments.push(tail.clone());
        let mut state = self.shared.state.write();
        if plan.joins {
            state.sealed_bytes += self.end;
        } else {
            state.segments.drain(..).for_each(Segment::leave);
            state.sealed_bytes = 0;
        }
        state.sealed_bytes += staged.parts.iter().map(|part| part.length).sum::<u64>();
        state.segments.extend(segments);
        state.index = plan.index;
        let end = (SEGMENT_HEADER_LEN + STATE_LEN) as u64;
        state.end = end;
        self.shared.count(&state);
        drop(state);
        self.filler.resume(tail.capacity);
        self.segment.lend(&self.dir, &self.shared.files);
        (self.segment, self.end, self.synced_to) = (tail, end, end);
        (self.last_index, self.last_term) = (staged.index, staged.term);
        (self.unsynced, self.mark_owed) = (false, false);
        self.tail = Index::default();
        Ok(())
    }

    /// Writes down what the segment holds, for the next start. Not synced: a torn one is passed over.
    fn summarise(&self, index: &Index) {
        if let Err(error) = summary::write(&self.dir, &self.segment, self.end, index) {
            tracing::warn!(file = self.segment.name, %error, "cannot write down what a segment holds");
        }
    }

    /// Hands what is gathered to the system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let length = self.gather.len() as u64;
        if length > 0 {
            self.gather.write_to(&*self.segment.file()?, self.end - length)?;
            self.shared.stats.bytes_written.fetch_add(length, Relaxed);
            self.filler.advance(self.end, length)?;
        }
        Ok(())
    }

    fn sync_segment(&mut self) -> io::Result<()> {
        let started = Instant::now();
        self.segment.file()?.sync_data()?;
        self.shared.stats.synced(started.elapsed());
        self.synced_to = self.end;
        self.unsynced = false;
        self.mark_owed = true;
        Ok(())
    }

    /// Shows what was written to the readers.
    fn publish(&mut self) {
        let mut state = self.shared.state.write();
        for (index, term, position) in self.pending.drain(..) {
            state.index.append(index, term, position);
        }
        state.end = self.end;
        self.shared.count(&state);
    }
}
