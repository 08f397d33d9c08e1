//! One segment file: its name, its header, its place in the log.
//!
//! A position in the log counts bytes over all segments, headers included, so that it orders everything ever written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;

/// Bytes before the first frame.
pub(super) const HEADER: u64 = 64;

const MAGIC: &[u8; 8] = b"ESLOGSEG";
const EXTENSION: &str = "seg";

/// A segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    /// Log position of the file's first byte.
    pub(super) base: u64,
    /// Seeds the checksums of its frames, so that a recycled file's old frames never validate.
    pub(super) generation: u32,
}

impl Segment {
    /// Writes the header; the file must be durable and renamed into place by the caller.
    pub(super) fn create(file: File, dir: &Path, first_index: u64, base: u64) -> io::Result<Self> {
        let generation = fastrand::u32(..);
        file.write_all_at(&header(first_index, base, generation), 0)?;
        // Named by position, not by index: Raft may replace a suffix, so a later segment can begin at a lower index.
        let path = dir.join(format!("{base:020}.{EXTENSION}"));
        Ok(Self { file: Arc::new(file), path, base, generation })
    }

    /// Opens a segment file and checks its header.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = [0; HEADER as usize];
        let corrupt = |reason: &str| OpenError::corrupt(path, 0, reason);
        file.read_exact_at(&mut bytes, 0)
            .map_err(|_| corrupt("the file is shorter than a segment's header"))?;
        if &bytes[..8] != MAGIC {
            return Err(corrupt("this is not a segment of the log"));
        }
        let crc = crc32c::crc32c(&bytes[..32]);
        if bytes[32..36] != crc.to_le_bytes() {
            return Err(corrupt("the segment's header does not match its checksum"));
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(crate::version::FORMAT.min..=crate::version::FORMAT.max).contains(&format) {
            return Err(OpenError::Format { file: path.display().to_string(), format });
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let generation = u32::from_le_bytes(std::array::from_fn(|i| bytes[12 + i]));
        let file = Arc::new(file);
        Ok(Self { file, path: path.to_owned(), base: number(24), generation })
    }

    /// The segments of a directory, in order.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        paths.sort();
        Ok(paths)
    }

    /// The file's name, for people.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn header(first_index: u64, base: u64, generation: u32) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&crate::version::FORMAT.max.to_le_bytes());
    bytes[12..16].copy_from_slice(&generation.to_le_bytes());
    bytes[16..24].copy_from_slice(&first_index.to_le_bytes());
    bytes[24..32].copy_from_slice(&base.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..32]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    bytes
}
