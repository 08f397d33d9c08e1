//! One segment file: its name, its header, and reading its frames. Knows nothing of Raft's rules or of other segments.
//!
//! A segment that nobody writes to any more may be *lent* to [`OpenFiles`], which closes its file while nobody reads it.
//!
//! Named `<sequence>-<first index>.seg`. The sequence number orders segments as they were written; the first index
//! alone would not, since Raft may replace a suffix that began in an earlier segment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::RwLock;

use super::OpenError;
use super::frame::{self, Frame, PREFIX_LEN, Seed, u32_at, u64_at};
use super::open_files::OpenFiles;

/// Bytes of the header; the first frame follows.
pub(super) const SEGMENT_HEADER_LEN: usize = 56;
/// The newest format of segments this program knows.
const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"EVSTRSEG";
/// Extension of segment files.
const EXTENSION: &str = ".seg";

/// What a segment says of itself.
///
/// ```text
/// magic [8] | format version u32 | sequence u32 | first index u64 | generation u64
/// | previous generation u64 | previous end u64 | reserved u32 (zero) | crc u32        (little endian)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// 1 for the log's first segment, then one more each.
    pub sequence: u32,
    /// Index of the first entry.
    pub first_index: u64,
    /// Random; seeds the CRC of every frame.
    pub generation: u64,
    /// Generation of the segment before; 0 for the first.
    pub previous_generation: u64,
    /// Where the frames of the segment before end; they were synced before this segment came to be.
    pub previous_end: u64,
}

impl Header {
    /// A header with a new generation.
    pub fn new(sequence: u32, first_index: u64, previous: Option<(u64, u64)>) -> Self {
        let (previous_generation, previous_end) = previous.unwrap_or_default();
        let generation = uuid::Uuid::new_v4().as_u64_pair().0;
        Self { sequence, first_index, generation, previous_generation, previous_end }
    }

    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("{:010}-{:020}{EXTENSION}", self.sequence, self.first_index)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sequence.to_le_bytes());
        let fields = [self.first_index, self.generation, self.previous_generation, self.previous_end];
        for (place, field) in bytes[16..48].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What the first bytes of `file` say, whatever its name is.
    fn decode(file: &str, bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<Self, OpenError> {
        let corrupt = |reason: &str| OpenError::corrupt(file, 0, reason);
        if bytes[..8] != MAGIC {
            return Err(corrupt("this is not the header of a segment"));
        }
        let intact = u32_at(bytes, 52) == crc32c::crc32c(&bytes[..52]);
        match u32_at(bytes, 8) {
            // A newer format may keep its checksum elsewhere, so the version is believed without it.
            found if found > FORMAT_VERSION => {
                return Err(OpenError::Version { file: file.to_owned(), found, known: FORMAT_VERSION });
            }
            _ if !intact => return Err(corrupt("checksum mismatch in the segment's header")),
            _ => {}
        }
        Ok(Self {
            sequence: u32_at(bytes, 12),
            first_index: u64_at(bytes, 16),
            generation: u64_at(bytes, 24),
            previous_generation: u64_at(bytes, 32),
            previous_end: u64_at(bytes, 40),
        })
    }
}

/// Names of all segments in `dir`, in the order they were written.
pub(super) fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(dir).map_err(at(dir, ""))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.ends_with(EXTENSION) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The sequence number in a segment's name.
pub(super) fn sequence(name: &str) -> Option<u32> {
    name.split('-').next()?.parse().ok()
}

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// The file's name, for messages.
    pub name: String,
    /// `None` while it is closed.
    file: RwLock<Option<Arc<File>>>,
    /// It was read since [`OpenFiles`] last looked.
    used: AtomicBool,
    /// Its file may be closed.
    lent: OnceLock<Lent>,
    /// Its file may be gone, and is open for as long as anybody has the segment.
    kept: OnceLock<Arc<File>>,
    /// Bytes in the file, used or not.
    pub capacity: u64,
    /// Its header.
    pub header: Header,
    /// Seed of its frames' CRC.
    pub seed: Seed,
}

/// How a segment's file is opened again.
#[derive(Debug)]
struct Lent {
    path: PathBuf,
    files: Arc<OpenFiles>,
    segment: Weak<Segment>,
}

impl Segment {
    /// A segment in `file`, whose header was written already.
    pub fn new(file: File, capacity: u64, header: Header) -> Self {
        Self {
            name: header.file_name(),
            file: RwLock::new(Some(Arc::new(file))),
            used: AtomicBool::new(false),
            lent: OnceLock::new(),
            kept: OnceLock::new(),
            capacity,
            header,
            seed: Seed::new(header.generation),
        }
    }

    /// Lets `files` close the file, which is in `dir`, while nobody reads it. It must be durable, and nobody writes to it
    /// any more.
    pub fn lend(self: &Arc<Self>, dir: &Path, files: &Arc<OpenFiles>) {
        let segment = Arc::downgrade(self);
        let lent = Lent { path: dir.join(&self.name), files: Arc::clone(files), segment: segment.clone() };
        if self.lent.set(lent).is_ok() {
            files.opened(segment);
        }
    }

    /// Its file: for reading and writing, once it is lent only for reading.
    ///
    /// # Errors
    /// The system's, for a file that has to be opened again; they name it.
    pub fn file(&self) -> io::Result<Arc<File>> {
        self.used.store(true, Relaxed);
        if let Some(file) = self.kept.get().or(self.file.read().as_ref()) {
            return Ok(Arc::clone(file));
        }
        let lent = self.lent.get().ok_or(io::ErrorKind::NotFound)?;
        let mut slot = self.file.write();
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let opened = File::open(&lent.path);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", lent.path.display()));
        let file = Arc::new(opened.map_err(named)?);
        *slot = Some(Arc::clone(&file));
        drop(slot);
        lent.files.opened(lent.segment.clone());
        Ok(file)
    }

    /// The log lets go of it, and its file may be removed: whoever still reads it can go on.
    pub fn leave(self: Arc<Self>) {
        // Readers get it from the log only, so that there will be no more of them.
        if Arc::strong_count(&self) > 1
            && let Err(error) = self.file().map(|file| self.kept.set(file))
        {
            tracing::warn!(%error, "a segment that is still read cannot be kept open");
        }
    }

    /// Closes the file, unless it was read since the last call.
    pub fn close_unless_used(&self) -> bool {
        let unused = !self.used.swap(false, Relaxed);
        if unused {
            *self.file.write() = None;
        }
        unused
    }

    /// Opens the segment `name` in `dir` and checks its header.
    pub fn open(dir: &Path, name: &str) -> Result<Self, OpenError> {
        Self::open_unnamed(dir, name)?.called(name)
    }

    /// Refuses it if it belongs into a file of another name.
    fn called(self, name: &str) -> Result<Self, OpenError> {
        if self.name == name {
            return Ok(self);
        }
        let reason = format!("the header belongs to a file named {}", self.name);
        Err(OpenError::corrupt(name, 0, reason))
    }

    /// As [`Segment::open`], for somebody who must not change a byte.
    pub fn open_to_read(dir: &Path, name: &str) -> Result<Self, OpenError> {
        let file = File::open(dir.join(name)).map_err(at(dir, name))?;
        Self::from_file(name, file)?.called(name)
    }

    /// The same for a file that does not have its name yet.
    pub fn open_unnamed(dir: &Path, name: &str) -> Result<Self, OpenError> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(name)).map_err(at(dir, name))?;
        match Self::from_file(name, file) {
            Err(OpenError::Io(error)) => Err(at(dir, name)(error).into()),
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

    /// Reads `length` bytes at `offset`. An error names the file.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: reading at byte {offset}: {error}", self.name))
        };
        self.file()?.read_exact_at(&mut buffer, offset).map_err(named)?;
        Ok(Bytes::from(buffer))
    }
}

/// Creates `path` with `capacity` bytes of allocated blocks, so that the disk cannot be full half way.
pub(super) fn allocate(path: &Path, capacity: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let allocated = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, capacity) {
        // Not every file system can; there, blocks are allocated as they are written.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(capacity),
        done => done.map_err(io::Error::from),
    };
    // What is left of one that found no room would be in the way of the next.
    allocated.inspect_err(|_| drop(std::fs::remove_file(path))).map(|()| file)
}

/// Names the file in an error of the system.
pub(super) fn at(dir: &Path, name: &str) -> impl Fn(io::Error) -> io::Error + Copy {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", dir.join(name).display()))
}

/// Reads a segment's frames one after the other, in chunks.
pub(super) struct Frames {
    segment: Arc<Segment>,
    offset: u64,
    /// How far to read ahead, at most.
    until: u64,
    chunk: usize,
    buffer: Bytes,
    buffer_offset: u64,
}

/// What [`Frames::next`] came upon.
pub(super) enum Next {
    /// A valid frame.
    Frame(Frame),
    /// Nothing was written here, or the segment is full.
    End,
    /// Damage, and of what sort.
    Bad(&'static str),
}

impl Frames {
    /// Starts at `offset`; reads `chunk` bytes at once.
    pub fn new(segment: Arc<Segment>, offset: u64, chunk: usize) -> Self {
        let until = segment.capacity;
        Self { segment, offset, until, chunk, buffer: Bytes::new(), buffer_offset: 0 }
    }

    /// Goes on at `offset`, expecting to need nothing from `until` on.
    pub fn seek(&mut self, offset: u64, until: u64) {
        self.offset = offset;
        self.until = until;
    }

    /// The segment being read.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Where the next frame starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The frame at the offset; moves on only past a valid one.
    pub fn next(&mut self) -> io::Result<Next> {
        let room = self.segment.capacity - self.offset;
        if room < PREFIX_LEN as u64 {
            return Ok(Next::End);
        }
        let length = match frame::frame_len(&self.window(PREFIX_LEN)?, room) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(Next::End),
            Err(reason) => return Ok(Next::Bad(reason)),
        };
        match frame::decode(self.segment.seed, self.offset, &self.window(length)?) {
            Ok(frame) => {
                self.offset += length as u64;
                Ok(Next::Frame(frame))
            }
            Err(reason) => Ok(Next::Bad(reason)),
        }
    }

    /// The `length` bytes at the offset, which exist.
    fn window(&mut self, length: usize) -> io::Result<Bytes> {
        let end = self.offset + length as u64;
        if self.offset < self.buffer_offset || end > self.buffer_offset + self.buffer.len() as u64 {
            let ahead = usize::try_from(self.until.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            self.buffer = self.segment.read(self.offset, self.chunk.min(ahead).max(length))?;
            self.buffer_offset = self.offset;
        }
        let start = usize::try_from(self.offset - self.buffer_offset).expect("inside the buffer");
        Ok(self.buffer.slice(start..start + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_any_flipped_bit_is_refused() {
        let header = Header::new(3, 17, Some((5, 4096)));
        let bytes = header.encode();
        assert_eq!(Header::decode(&header.file_name(), &bytes).unwrap(), header);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&header.file_name(), &bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let header = Header::new(1, 1, None);
        let mut bytes = header.encode();
        bytes[8] = 2;
        let error = Header::decode(&header.file_name(), &bytes).unwrap_err();
        assert!(matches!(error, OpenError::Version { found: 2, known: 1, .. }), "{error}");
    }
}
