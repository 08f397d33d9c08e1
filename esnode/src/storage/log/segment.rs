//! One segment file. Knows nothing of Raft's rules or of other segments.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::frame::Seed;
use super::header::{EXTENSION, Header, SEGMENT_HEADER_LEN};
use super::open_files::{OpenFiles, SegmentFile};
use super::segment_indexes::IndexFile;
use crate::batch_index::segment_index::SegmentIndex;
use crate::storage::error::OpenError;
use crate::storage::files::{self, named};

/// Returns the names of all segments in `dir`, in the order they were written.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<String>> {
    files::list(dir, EXTENSION)
}

/// A segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The file's name, for messages.
    pub name: String,
    file: Arc<SegmentFile>,
    /// Size of the file in bytes, used or not.
    pub capacity: u64,
    pub header: Header,
    /// Seed of the CRC of its frames.
    pub seed: Seed,
    /// Where each partition's batches are, once that is known.
    pub batches: RwLock<Option<Arc<SegmentIndex<IndexFile>>>>,
}

impl Segment {
    /// Returns a segment in `file`, whose header is already written.
    pub fn new(file: File, capacity: u64, header: Header) -> Self {
        let file = Arc::new(SegmentFile::new(file));
        let seed = Seed::new(header.generation);
        Self { name: header.file_name(), file, capacity, header, seed, batches: RwLock::default() }
    }

    /// Opens the segment `name` in `dir` and checks its header.
    pub fn open(dir: &Path, name: &str) -> Result<Self, OpenError> {
        Self::open_unnamed(dir, name)?.check_name(name)
    }

    /// As [`Segment::open`], for a caller that must not change a byte.
    pub fn open_to_read(dir: &Path, name: &str) -> Result<Self, OpenError> {
        let file = File::open(dir.join(name)).map_err(named(dir, name))?;
        Self::from_file(name, file)?.check_name(name)
    }

    /// As [`Segment::open`], for a file that does not have its final name yet.
    pub fn open_unnamed(dir: &Path, name: &str) -> Result<Self, OpenError> {
        let file =
            OpenOptions::new().read(true).write(true).open(dir.join(name)).map_err(named(dir, name))?;
        match Self::from_file(name, file) {
            Err(OpenError::Io(error)) => Err(named(dir, name)(error).into()),
            opened => opened,
        }
    }

    /// As [`Segment::open`], for a file that is open.
    pub fn from_file(name: &str, file: File) -> Result<Self, OpenError> {
        let capacity = file.metadata()?.len();
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        if capacity < bytes.len() as u64 {
            return Err(OpenError::corrupt(name, 0, "the file is too short for a header"));
        }
        file.read_exact_at(&mut bytes, 0)?;
        let header = Header::decode(name, &bytes)?;
        Ok(Self::new(file, capacity, header))
    }

    /// Refuses a header that belongs in a file of another name.
    fn check_name(self, name: &str) -> Result<Self, OpenError> {
        if self.name == name {
            return Ok(self);
        }
        let reason = format!("the header belongs to a file named {}", self.name);
        Err(OpenError::corrupt(name, 0, reason))
    }

    /// Returns the file: for writing only as long as [`Segment::close_when_idle`] was not called.
    ///
    /// # Errors
    /// The system's, for a file that has to be opened again; they name it.
    pub fn file(&self) -> io::Result<Arc<File>> {
        self.file.get()
    }

    /// Lets `files` close the file, which is in `dir`, while nobody reads it. The segment must be sealed and
    /// durable.
    pub fn close_when_idle(&self, dir: &Path, files: &Arc<OpenFiles>) {
        self.file.close_when_idle(dir.join(&self.name), files);
    }

    /// The log no longer contains the segment, and its file may be deleted. Whoever still reads it can continue.
    pub fn release(self: Arc<Self>) {
        // Readers get segments only from the log, so there will be no further ones.
        if Arc::strong_count(&self) > 1
            && let Err(error) = self.file.pin()
        {
            tracing::warn!(%error, "cannot keep a deleted segment open that is still being read");
        }
    }

    /// Reads `length` bytes at `offset`. An error names the file.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        self.read_into(offset, &mut buffer)?;
        Ok(Bytes::from(buffer))
    }

    /// Reads as many bytes at `offset` as fit in `buffer`. An error names the file.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: reading at byte {offset}: {error}", self.name))
        };
        self.file()?.read_exact_at(buffer, offset).map_err(named)
    }
}
