//! Zeros ahead of the writer, and the next segment before it is needed.
//!
//! A sync of a block that was never written must also record that the block is now in use; one that holds zeros
//! already needs no such thing. So zeros are written a little ahead while the disk has time. A writer in a hurry is
//! not held up: it overtakes the zeros, and the disk's bandwidth goes to the data.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};

use super::Options;

/// Zeros are kept this far ahead.
const AHEAD: u64 = 4 << 20;
/// Zeros written at a time; a writer may have to wait for one of these to reach the page cache.
const CHUNK: u64 = 1 << 20;
/// Room left between the writer and new zeros.
const SLACK: u64 = 256 << 10;
/// A writer faster than this, in bytes per second, gets the disk for itself.
const BUSY: u64 = 24 << 20;
/// The next segment is prepared when this one has less left.
const NEXT: u64 = 24 << 20;

/// The writer's side.
#[derive(Debug)]
pub(super) struct Filler {
    dir: PathBuf,
    reach: Arc<Mutex<Reach>>,
    moves: Sender<u64>,
    next: Arc<Mutex<Option<File>>>,
    enabled: bool,
}

/// The current segment's file, and offsets in it.
#[derive(Debug, Default)]
struct Reach {
    /// None while the writer changes segments: zeros must never reach the one that it left.
    file: Option<Arc<File>>,
    /// The writer has written, or is about to write, up to here.
    written: u64,
    /// Zeros reach up to here.
    zeroed: u64,
}

/// The temporary name of the next segment.
pub(super) fn next_path(dir: &Path) -> PathBuf {
    dir.join("next.tmp")
}

/// An empty file of a segment's size under the temporary name.
pub(super) fn create_next(dir: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(next_path(dir))?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        // Some file systems cannot allocate ahead; there the file grows as it is written.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes)?,
        Err(error) => return Err(error.into()),
    }
    Ok(file)
}

impl Filler {
    /// Starts the thread; it ends when the writer's side is dropped.
    pub(super) fn start(dir: PathBuf, options: Options) -> io::Result<Self> {
        let reach = Arc::new(Mutex::new(Reach::default()));
        let next = Arc::new(Mutex::new(None));
        let (moves, moved) = crossbeam_channel::bounded(1);
        let filler = Self {
            dir: dir.clone(),
            reach: Arc::clone(&reach),
            moves,
            next: Arc::clone(&next),
            enabled: options.zero_ahead,
        };
        if filler.enabled {
            let worker =
                Worker { dir, reach, next, segment_bytes: options.segment_bytes, seen: (Instant::now(), 0) };
            thread::Builder::new().name("zero-ahead".into()).spawn(move || worker.run(&moved))?;
        }
        Ok(filler)
    }

    /// The writer is about to write up to `end`: no zeros will be written before it.
    pub(super) fn claim(&self, end: u64) {
        self.reach.lock().written = end;
    }

    /// The writer is at `offset` of this file.
    pub(super) fn moved(&self, file: &Arc<File>, offset: u64) {
        let mut reach = self.reach.lock();
        reach.written = offset;
        if reach.file.is_none() {
            reach.file = Some(Arc::clone(file));
        }
        drop(reach);
        if self.enabled {
            // A full channel means that the worker will look soon; it needs no second nudge.
            let _ = self.moves.try_send(offset);
        }
    }

    /// The file for the next segment, prepared or not, under the temporary name.
    pub(super) fn take_next(&self, segment_bytes: u64) -> io::Result<File> {
        let mut next = self.next.lock();
        let file = match next.take() {
            Some(file) => file,
            None => create_next(&self.dir, segment_bytes)?,
        };
        *self.reach.lock() = Reach { file: None, written: super::segment::HEADER, zeroed: 0 };
        Ok(file)
    }
}

struct Worker {
    dir: PathBuf,
    reach: Arc<Mutex<Reach>>,
    next: Arc<Mutex<Option<File>>>,
    segment_bytes: u64,
    /// When the writer was last seen where, to tell its speed.
    seen: (Instant, u64),
}

impl Worker {
    fn run(mut self, moved: &Receiver<u64>) {
        for offset in moved {
            if self.busy(offset) {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            // Zeros ahead are a convenience: where they cannot be written, the writer meets the same error itself.
            if let Err(error) = self.fill().and_then(|()| self.prepare_next(offset)) {
                tracing::debug!(%error, "no zeros ahead of the log");
                thread::sleep(Duration::from_secs(1));
            }
        }
    }

    fn busy(&mut self, offset: u64) -> bool {
        let (when, before) = std::mem::replace(&mut self.seen, (Instant::now(), offset));
        let moved = offset.saturating_sub(before);
        let ms = u64::try_from(when.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        moved > CHUNK && moved * 1000 / ms > BUSY
    }

    fn fill(&self) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(CHUNK).unwrap_or(0)];
        let mut filled = None;
        loop {
            let mut reach = self.reach.lock();
            let Some(file) = reach.file.clone().filter(|_| reach.zeroed < reach.written + AHEAD) else {
                break;
            };
            let start = reach.zeroed.max(reach.written + SLACK);
            let end = (start + CHUNK).min(self.segment_bytes);
            if start >= end {
                break;
            }
            let length = usize::try_from(end - start).unwrap_or(0);
            // Under the lock, so that the writer cannot come in between.
            file.write_all_at(&zeros[..length], start)?;
            reach.zeroed = end;
            filled = Some(file);
        }
        filled.map_or(Ok(()), |file| file.sync_data())
    }

    fn prepare_next(&self, offset: u64) -> io::Result<()> {
        if self.segment_bytes.saturating_sub(offset) > NEXT || self.next.lock().is_some() {
            return Ok(());
        }
        let mut next = self.next.lock();
        let file = create_next(&self.dir, self.segment_bytes)?;
        *next = Some(file);
        Ok(())
    }
}
