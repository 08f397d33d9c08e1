//! The files of an online backup: the newest snapshot, the segments up to its entry, and the packs.
//!
//! Segments are append-only, and packs never change, so the copied bytes stay the same, whatever is written or deleted
//! meanwhile.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::batch_reader::BatchFile;
use super::log::packs::Pack;
use super::log::state::Sealed;
use super::log::{Log, LogStart};
use super::snapshot::{self, Snapshot, Snapshots};

/// The files to copy.
pub struct BackupSource {
    /// Index of the first entry.
    pub first_index: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// Term of the last entry.
    pub last_term: u64,
    /// All files.
    pub files: Vec<SourceFile>,
}

/// One file to copy.
pub struct SourceFile {
    /// Path below the data directory.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    content: Content,
}

enum Content {
    Bytes(Bytes),
    File(BatchFile),
}

impl BackupSource {
    /// Gathers everything up to the newest snapshot's entry; `None` if there is no snapshot.
    ///
    /// # Errors
    /// The system's; `InvalidData` if the log or the snapshot is damaged.
    pub fn gather(log: &Log, snapshots: &Snapshots) -> io::Result<Option<Self>> {
        log.packs().unchanged(|packs| Self::gather_with(log, snapshots, packs))
    }

    fn gather_with(log: &Log, snapshots: &Snapshots, packs: &[Arc<Pack>]) -> io::Result<Option<Self>> {
        let Some(Snapshot { index, term, payload, .. }) = snapshots.newest()? else { return Ok(None) };
        let Sealed { before, segments: sealed } = log.sealed_between(0, index);
        let segments: Vec<_> = sealed.into_iter().chain([log.end_of(index)?]).collect();
        // Segments that were deleted since the snapshot was written are left out.
        let sequence = segments.first().map_or(1, |(first, _)| first.header.sequence);
        let snapshot = snapshot::encode(index, term, LogStart { sequence, before }, &payload);
        let segments = segments.into_iter().map(|(segment, bytes)| SourceFile {
            path: format!("log/{}", segment.name),
            bytes,
            content: Content::File(BatchFile::Segment(segment)),
        });
        let packs = packs.iter().map(|pack| SourceFile {
            path: format!("log/{}", pack.file_name()),
            bytes: pack.length(),
            content: Content::File(BatchFile::Pack(Arc::clone(pack))),
        });
        let snapshot = SourceFile {
            path: format!("{}/{}", snapshot::DIR, snapshot::file_name(index)),
            bytes: snapshot.len() as u64,
            content: Content::Bytes(snapshot.into()),
        };
        let files = packs.chain(segments).chain([snapshot]).collect();
        Ok(Some(Self { first_index: before.0 + 1, last_index: index, last_term: term, files }))
    }
}

impl SourceFile {
    /// Returns a reader of the content, from its beginning.
    pub fn reader(&self) -> impl Read {
        FileReader { file: self, offset: 0 }
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match &self.content {
            Content::File(file) => file.read(offset, length),
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start.saturating_add(length).min(bytes.len())))
            }
        }
    }
}

struct FileReader<'a> {
    file: &'a SourceFile,
    offset: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.bytes - self.offset).unwrap_or(usize::MAX);
        let bytes = self.file.read(self.offset, buffer.len().min(left))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }
}
