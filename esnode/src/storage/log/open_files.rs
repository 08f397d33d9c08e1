//! Decides which segments have an open file: the one that is written to, and of the others those that were read last,
//! up to a limit. A log of a terabyte has 16,000 segments, and a process that runs out of file descriptors cannot
//! continue.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use crate::storage::files::named;

/// Largest number of open files of sealed segments.
const MAX_OPEN: usize = 256;

/// The open files that may be closed, as a ring for the clock algorithm of caches.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    clock: Mutex<VecDeque<Weak<SegmentFile>>>,
}

/// The file of a segment, open or not.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    /// `None` while it is closed.
    file: RwLock<Option<Arc<File>>>,
    /// Whether it was read since [`OpenFiles`] last checked.
    used: AtomicBool,
    /// How to open it again; set once the file may be closed.
    reopen: OnceLock<Reopen>,
    /// Set once the file may be deleted: it then stays open as long as the segment is in use.
    pinned: OnceLock<Arc<File>>,
}

#[derive(Debug)]
struct Reopen {
    path: PathBuf,
    files: Arc<OpenFiles>,
}

impl OpenFiles {
    /// Registers an open file. If there are too many, closes some that were not read for long.
    fn opened(&self, file: Weak<SegmentFile>) {
        let mut clock = self.clock.lock();
        clock.push_back(file);
        while clock.len() > MAX_OPEN {
            let Some(oldest) = clock.pop_front() else { return };
            if oldest.upgrade().is_some_and(|file| !file.close_unless_used()) {
                clock.push_back(oldest);
            }
        }
    }
}

impl SegmentFile {
    pub fn new(file: File) -> Self {
        Self {
            file: RwLock::new(Some(Arc::new(file))),
            used: AtomicBool::new(false),
            reopen: OnceLock::new(),
            pinned: OnceLock::new(),
        }
    }

    /// Allows `files` to close the file at `path` while nobody reads it. The file must be durable, and must not be
    /// written to any more.
    pub fn close_when_idle(self: &Arc<Self>, path: PathBuf, files: &Arc<OpenFiles>) {
        if self.reopen.set(Reopen { path, files: Arc::clone(files) }).is_ok() {
            files.opened(Arc::downgrade(self));
        }
    }

    /// Returns the open file, for reading and writing; only for reading after [`SegmentFile::close_when_idle`].
    ///
    /// # Errors
    /// Those of opening it again; they name the file.
    pub fn get(self: &Arc<Self>) -> io::Result<Arc<File>> {
        self.used.store(true, Relaxed);
        if let Some(file) = self.pinned.get().or(self.file.read().as_ref()) {
            return Ok(Arc::clone(file));
        }
        let Reopen { path, files } = self.reopen.get().ok_or(io::ErrorKind::NotFound)?;
        let mut slot = self.file.write();
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path).map_err(named(Path::new(path), ""))?);
        *slot = Some(Arc::clone(&file));
        drop(slot);
        files.opened(Arc::downgrade(self));
        Ok(file)
    }

    /// Keeps the file open from now on, because it may be deleted.
    ///
    /// # Errors
    /// As [`SegmentFile::get`].
    pub fn pin(self: &Arc<Self>) -> io::Result<()> {
        let file = self.get()?;
        self.pinned.get_or_init(|| file);
        Ok(())
    }

    /// Closes the file, unless it was read since the last call.
    fn close_unless_used(&self) -> bool {
        let unused = !self.used.swap(false, Relaxed);
        if unused {
            *self.file.write() = None;
        }
        unused
    }
}
