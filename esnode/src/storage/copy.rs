//! A consistent copy of the log while it goes on: the newest checkpoint, and the segments up to its entry.
//!
//! Segments are append-only, so what is copied stays what it is, whatever is written or retired meanwhile.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoint::{self, Checkpoint, Checkpoints, Start};
use super::reader::{Log, Sealed};
use super::segment::Segment;

/// What is to be copied.
pub struct Copy {
    /// The first entry's index.
    pub first_index: u64,
    /// The last entry's index.
    pub last_index: u64,
    /// The last entry's term.
    pub last_term: u64,
    /// Every file.
    pub files: Vec<CopiedFile>,
}

/// One file of it.
pub struct CopiedFile {
    /// Where it goes, seen from the data directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    content: Content,
}

enum Content {
    Bytes(Bytes),
    Segment(Arc<Segment>),
}

impl Copy {
    /// Gathers everything up to the newest checkpoint's entry; `None` if there is no checkpoint.
    ///
    /// # Errors
    /// The system's; `InvalidData` if the log or the checkpoint is damaged.
    pub fn gather(log: &Log, checkpoints: &Checkpoints) -> io::Result<Option<Self>> {
        let Some(Checkpoint { index, term, payload, .. }) = checkpoints.newest()? else { return Ok(None) };
        let Sealed { before, segments: sealed } = log.sealed_between(0, index);
        let segments: Vec<_> = sealed.into_iter().chain([log.end_of(index)?]).collect();
        // What was retired since the checkpoint was written is not in the copy.
        let sequence = segments.first().map_or(1, |(first, _)| first.header.sequence);
        let checkpoint = checkpoint::encode(index, term, Start { sequence, before }, &payload);
        let segments = segments.into_iter().map(|(segment, bytes)| CopiedFile {
            path: format!("log/{}", segment.name),
            bytes,
            content: Content::Segment(segment),
        });
        let checkpoint = CopiedFile {
            path: format!("{}/{}", checkpoint::DIR, checkpoint::file_name(index)),
            bytes: checkpoint.len() as u64,
            content: Content::Bytes(checkpoint.into()),
        };
        let files = segments.chain([checkpoint]).collect();
        Ok(Some(Self { first_index: before.0 + 1, last_index: index, last_term: term, files }))
    }
}

impl CopiedFile {
    /// Its bytes, from the beginning.
    pub fn reader(&self) -> impl Read {
        FileReader { file: self, offset: 0 }
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match &self.content {
            Content::Segment(segment) => segment.read(offset, length),
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start.saturating_add(length).min(bytes.len())))
            }
        }
    }
}

struct FileReader<'a> {
    file: &'a CopiedFile,
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
