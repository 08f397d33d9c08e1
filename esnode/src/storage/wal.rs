//! The one writer: appends frames, syncs, rolls to the next segment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::BytesMut;

use super::filler::Filler;
use super::log::Log;
use super::segment::{self, Segment};
use super::stats::WalStats;
use super::{Batch, Options, frame, sync_dir};
use crate::entry::{Entry, HardState};

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 1 << 20;

/// The one writer. After any error it refuses all work: what the disk holds can no longer be trusted.
#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    options: Options,
    log: Log,
    stats: Arc<WalStats>,
    filler: Filler,
    segment: Segment,
    /// Offset in the segment behind the last frame written.
    offset: u64,
    /// Log position up to which everything is durable.
    synced: u64,
    hard_state: HardState,
    /// Term or vote was written and not yet synced.
    ballot: bool,
    /// Entries written and not yet published: (index, term, log position, first of a segment).
    unpublished: Vec<(u64, u64, u64, bool)>,
    buffer: BytesMut,
    /// The next entry is the first of its segment.
    fresh: bool,
    failed: bool,
}

/// Where the writer goes on.
pub(super) struct Tail {
    pub(super) segment: Segment,
    pub(super) offset: u64,
    pub(super) hard_state: HardState,
    /// The segment has no entry yet.
    pub(super) fresh: bool,
}

impl Wal {
    pub(super) fn new(
        dir: PathBuf,
        options: Options,
        log: Log,
        stats: Arc<WalStats>,
        tail: Tail,
    ) -> io::Result<Self> {
        let filler = Filler::start(dir.clone(), options)?;
        let Tail { segment, offset, hard_state, fresh } = tail;
        let synced = segment.base + offset;
        filler.moved(&segment.file, offset);
        Ok(Self {
            dir,
            options,
            log,
            stats,
            filler,
            segment,
            offset,
            synced,
            hard_state,
            ballot: false,
            unpublished: Vec::new(),
            buffer: BytesMut::new(),
            fresh,
            failed: false,
        })
    }

    /// Writes one batch; it is not durable, and no reader sees it, before [`Wal::sync`].
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.guard()?;
        let written = self.try_write(batch);
        self.failed = written.is_err();
        written
    }

    /// Makes everything written durable, then visible to readers. An error is final: the caller must exit. With
    /// `Options::sync` off, only a new term or vote is waited for.
    pub fn sync(&mut self) -> io::Result<()> {
        self.guard()?;
        let synced = if self.options.sync || self.ballot { self.sync_file() } else { Ok(()) };
        self.failed = synced.is_err();
        synced?;
        self.publish();
        self.filler.moved(&self.segment.file, self.offset);
        Ok(())
    }

    fn guard(&self) -> io::Result<()> {
        if self.failed {
            Err(io::Error::other("the log has failed before; nothing more is written"))
        } else {
            Ok(())
        }
    }

    fn try_write(&mut self, batch: &Batch) -> io::Result<()> {
        if let Some(state) = batch.hard_state {
            self.make_room(frame::HEADER + 8)?;
            self.ballot |= self.hard_state.must_sync(&state);
            self.hard_state = state;
            frame::put_hard_state(&mut self.buffer, self.segment.generation, self.synced, &state);
        }
        for entry in &batch.entries {
            self.put_entry(entry)?;
        }
        self.flush()
    }

    fn put_entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.make_room(frame::HEADER + entry.data.len())?;
        let position = self.segment.base + self.offset + self.buffer.len() as u64;
        self.unpublished.push((entry.index, entry.term, position, std::mem::take(&mut self.fresh)));
        frame::put_entry(&mut self.buffer, self.segment.generation, self.synced, entry);
        if self.buffer.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    /// Goes on in a new segment when a frame of this length does not fit in this one.
    fn make_room(&mut self, length: usize) -> io::Result<()> {
        let end = self.offset + (self.buffer.len() + length) as u64;
        let empty = self.offset + self.buffer.len() as u64 <= segment::HEADER + frame::HEADER as u64 + 8;
        if end <= self.options.segment_bytes || empty { Ok(()) } else { self.roll() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let length = self.buffer.len() as u64;
        self.filler.claim(self.offset + length);
        self.segment.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += length;
        self.stats.written_bytes.fetch_add(length, Relaxed);
        self.buffer.clear();
        Ok(())
    }

    fn sync_file(&mut self) -> io::Result<()> {
        let started = Instant::now();
        self.segment.file.sync_data()?;
        self.stats.synced(started.elapsed());
        self.synced = self.segment.base + self.offset;
        self.ballot = false;
        Ok(())
    }

    fn publish(&mut self) {
        let end = self.segment.base + self.offset;
        let entries = std::mem::take(&mut self.unpublished);
        self.log.publish(|durable| {
            for (index, term, position, fresh) in &entries {
                durable.index.push(*index, *term, *position, *fresh);
            }
            durable.end = end;
        });
    }

    /// Ends this segment and begins the next. The old one is durable before the new one exists, so that only the last
    /// segment can have a torn tail; Raft's state stands again in the new one, so that the old one is not needed for it.
    fn roll(&mut self) -> io::Result<()> {
        self.flush()?;
        self.sync_file()?;
        self.publish();
        let file = self.filler.take_next(self.options.segment_bytes)?;
        let first_index = self.log.last_index() + 1;
        let next = begin_segment(&self.dir, file, first_index, self.segment.base + self.offset)?;
        self.segment = next.clone();
        self.offset = segment::HEADER;
        self.synced = next.base + segment::HEADER;
        self.fresh = true;
        self.log.publish(|durable| {
            durable.segments.push(next);
            durable.end = self.synced;
        });
        frame::put_hard_state(&mut self.buffer, self.segment.generation, self.synced, &self.hard_state);
        self.flush()
    }
}

/// Gives a prepared file its header and its name, both durable.
pub(super) fn begin_segment(
    dir: &std::path::Path,
    file: File,
    first_index: u64,
    base: u64,
) -> io::Result<Segment> {
    let segment = Segment::create(file, dir, first_index, base)?;
    segment.file.sync_data()?;
    std::fs::rename(super::filler::next_path(dir), &segment.path)?;
    sync_dir(dir)?;
    Ok(segment)
}
