//! Prepares the next segment in the background: allocates the file and fills it with zeroes.
//!
//! A sync of bytes that overwrite zeroes changes nothing in the file system's journal. It is 2 to 3 times faster on
//! ext4 with a journal, and no faster on one without (`examples/fsync.rs` measures it). The preallocator only works on
//! the next file, never on the one being written, so its zeroes neither delay the writer's syncs nor overwrite an
//! event. It advances as the current segment fills up (an idle node writes no zeroes), and pauses while the writer
//! keeps the disk busy.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::storage::files::{allocate, is_full, named};
use crate::storage::options::Fill;

/// Name of the segment in preparation.
pub(crate) const UNFINISHED: &str = "next.tmp";
/// Bytes zeroed and synced in one step.
pub(crate) static ZEROES: [u8; 1 << 20] = [0; 1 << 20];
/// Time between two steps: at most 40 MiB/s of zeroes.
const STEP_INTERVAL: Duration = Duration::from_millis(25);
/// Time between two attempts on a full disk.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// A segment file without a header, still named [`UNFINISHED`].
pub(crate) struct PreparedSegment {
    pub file: File,
    pub capacity: u64,
    zeroed: u64,
}

impl PreparedSegment {
    /// Allocates the file, all of it unwritten.
    pub fn create(dir: &Path, capacity: u64) -> io::Result<Self> {
        let file = allocate(&dir.join(UNFINISHED), capacity).map_err(named(dir, UNFINISHED))?;
        Ok(Self { file, capacity, zeroed: 0 })
    }

    /// Writes zeroes up to `goal`, at most one step; durable on return.
    fn zero_step(&mut self, goal: u64) -> io::Result<()> {
        let length = goal.min(self.capacity).saturating_sub(self.zeroed).min(ZEROES.len() as u64);
        self.file.write_all_at(&ZEROES[..usize::try_from(length).expect("at most a step")], self.zeroed)?;
        self.file.sync_data()?;
        self.zeroed += length;
        Ok(())
    }

    /// Writes zeroes everywhere.
    pub fn zero_all(&mut self) -> io::Result<()> {
        while self.zeroed < self.capacity {
            self.zero_step(self.capacity)?;
        }
        Ok(())
    }
}

/// The background thread's handle. Dropping it ends the thread.
pub(crate) struct Preallocator {
    shared: Arc<Worker>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its handle share.
struct Worker {
    dir: PathBuf,
    largest: u64,
    /// Held during a step, so that a segment is never taken half way through one.
    next: Mutex<Slot>,
    /// Bytes used of the current segment. The part of the next one to be zeroed is twice the part used.
    used: AtomicU64,
    /// Total of bytes that the writer has written.
    written: AtomicU64,
    /// Value of `used` at which the sleeping thread has something to do.
    wake_at: AtomicU64,
    stop: AtomicBool,
    /// The disk was full at the last attempt.
    full: AtomicBool,
    /// An error of the disk that the writer has not been told yet.
    failed: Mutex<Option<io::Error>>,
}

struct Slot {
    prepared: Option<PreparedSegment>,
    /// Size of the segment in use, in bytes.
    current: u64,
    /// Whether the thread may create and fill [`UNFINISHED`].
    active: bool,
}

impl Preallocator {
    /// Starts the thread. The segment in use has `current` bytes, of which `used` are written. Each new segment is
    /// twice as large as the one before, up to `largest`.
    pub fn start(dir: &Path, fill: Fill, largest: u64, current: u64, used: u64) -> io::Result<Self> {
        let shared = Arc::new(Worker {
            dir: dir.to_owned(),
            largest,
            next: Mutex::new(Slot { prepared: None, current, active: true }),
            used: AtomicU64::new(used),
            written: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
            full: AtomicBool::new(false),
            failed: Mutex::new(None),
        });
        let thread = match fill {
            Fill::Nothing => None,
            Fill::Zeroes => {
                let shared = shared.clone();
                Some(thread::Builder::new().name("log-preallocator".into()).spawn(move || shared.run())?)
            }
        };
        Ok(Self { shared, thread })
    }

    /// Reports how far the current segment is used, after `written` more bytes.
    ///
    /// # Errors
    /// An error of the disk in the background, except that it is full.
    pub fn advance(&self, used: u64, written: u64) -> io::Result<()> {
        self.shared.written.fetch_add(written, Relaxed);
        self.shared.used.store(used, Relaxed);
        // If a wake-up is lost in a race, the next call makes up for it.
        if used >= self.shared.wake_at.load(Relaxed) {
            self.wake();
        }
        self.shared.failed.lock().take().map_or(Ok(()), Err)
    }

    /// Returns the file of the next segment, with at least `wanted` bytes, zeroed as far as it is. The caller gives it
    /// its name, then calls [`Preallocator::resume`].
    pub fn take(&self, wanted: u64) -> io::Result<PreparedSegment> {
        let mut slot = self.shared.next.lock();
        let capacity = self.shared.next_capacity(slot.current).max(wanted);
        slot.active = false;
        let prepared = slot.prepared.take();
        if prepared.as_ref().is_some_and(|prepared| prepared.capacity < wanted) {
            fs::remove_file(self.shared.dir.join(UNFINISHED))?;
        }
        match prepared.filter(|prepared| prepared.capacity >= wanted) {
            Some(prepared) => Ok(prepared),
            None => PreparedSegment::create(&self.shared.dir, capacity),
        }
    }

    /// The file that was taken is in use: begins to prepare the one after it.
    pub fn resume(&self, current: u64) {
        self.shared.used.store(0, Relaxed);
        let mut slot = self.shared.next.lock();
        (slot.current, slot.active) = (current, true);
        self.shared.wake_at.store(0, Relaxed);
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Preallocator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed, and an unfinished file is removed at the next start.
            drop(thread.join());
        }
    }
}

impl Worker {
    fn next_capacity(&self, current: u64) -> u64 {
        self.largest.min(current * 2)
    }

    fn run(&self) {
        let mut written = 0;
        loop {
            if self.goal().is_some() {
                self.wake_at.store(u64::MAX, Relaxed);
                thread::park_timeout(if self.full.load(Relaxed) { FULL_RETRY } else { STEP_INTERVAL });
            } else {
                self.wake_at.store(self.next_use(), Relaxed);
                thread::park();
            }
            if self.stop.load(Relaxed) {
                return;
            }
            let before = std::mem::replace(&mut written, self.written.load(Relaxed));
            let busy = written - before > ZEROES.len() as u64;
            if let Some(goal) = self.goal().filter(|_| !busy) {
                self.step(goal);
            }
        }
    }

    /// Returns how much of the next segment should be zeroed, if it is more than is zeroed now.
    fn goal(&self) -> Option<u64> {
        let slot = self.next.lock();
        let capacity = self.next_capacity(slot.current);
        let part = capacity.saturating_mul(2 * self.used.load(Relaxed)) / slot.current;
        let zeroed = slot.prepared.as_ref().map_or(0, |prepared| prepared.zeroed);
        // Rounded to whole steps, or the thread would wake up for every batch. The last step may be shorter.
        let step = ZEROES.len() as u64;
        let goal = part.next_multiple_of(step).min(capacity);
        (slot.active && goal > zeroed).then_some(goal)
    }

    /// Returns the value of `used` at which there will be more to zero.
    fn next_use(&self) -> u64 {
        let slot = self.next.lock();
        let capacity = self.next_capacity(slot.current);
        let zeroed = slot.prepared.as_ref().map_or(0, |prepared| prepared.zeroed);
        if !slot.active || zeroed == capacity {
            return u64::MAX;
        }
        zeroed.saturating_mul(slot.current) / (2 * capacity) + 1
    }

    fn step(&self, goal: u64) {
        let mut slot = self.next.lock();
        if !slot.active {
            return;
        }
        let Err(error) = self.try_step(&mut slot, goal) else {
            self.full.store(false, Relaxed);
            return;
        };
        // The file is given up, so nothing depends on it.
        slot.prepared = None;
        drop(fs::remove_file(self.dir.join(UNFINISHED)));
        if !is_full(&error) {
            slot.active = false;
            *self.failed.lock() = Some(error);
        } else if !self.full.swap(true, Relaxed) {
            tracing::warn!(%error, "the disk will soon be full: no room to prepare the next segment of the log. Free some");
        }
    }

    fn try_step(&self, slot: &mut Slot, goal: u64) -> io::Result<()> {
        let prepared = match &mut slot.prepared {
            Some(prepared) => prepared,
            none => none.insert(PreparedSegment::create(&self.dir, self.next_capacity(slot.current))?),
        };
        prepared.zero_step(goal).map_err(named(&self.dir, UNFINISHED))
    }
}
