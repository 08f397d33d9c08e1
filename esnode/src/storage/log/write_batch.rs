//! Collects frames and writes them with one system call. Does not know what the frames mean.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;

use bytes::Bytes;

/// Payloads of at least this many bytes are passed to the kernel without a copy. Copying smaller ones into a buffer
/// with their headers is cheaper than one vector element each. Measured on batches of 4 MiB, passing without a copy
/// takes 2.5 times as long at 256 bytes, the same between 1 and 2 KiB, and 0.7 times as long from 4 KiB on.
pub(crate) const SHARE_FROM: usize = 2048;
/// Largest number of elements that the kernel accepts at once (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Bytes that will be written in one piece.
#[derive(Debug, Default)]
pub(crate) struct WriteBatch {
    buffer: Vec<u8>,
    pieces: Vec<OfferedSegment>,
    length: usize,
}

#[derive(Debug)]
enum OfferedSegment {
    Copied(Range<usize>),
    Shared(Bytes),
}

impl WriteBatch {
    /// Bytes gathered.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Adds a copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        self.length += bytes.len();
        match self.pieces.last_mut() {
            Some(OfferedSegment::Copied(range)) => range.end = self.buffer.len(),
            _ => self.pieces.push(OfferedSegment::Copied(start..self.buffer.len())),
        }
    }

    /// Adds a payload, without a copy if it is large.
    pub fn payload(&mut self, data: &Bytes) {
        if data.len() < SHARE_FROM {
            self.copy(data);
        } else {
            self.length += data.len();
            self.pieces.push(OfferedSegment::Shared(data.clone()));
        }
    }

    /// Writes everything at `offset`, then forgets it.
    ///
    /// # Errors
    /// The system's; part of the bytes may have been written.
    pub fn write_to(&mut self, file: &File, mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> =
            self.pieces.iter().map(|piece| piece.slice(&self.buffer)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(MAX_SLICES)];
            let written = rustix::io::retry_on_intr(|| rustix::io::pwritev(file, some, offset))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        self.buffer.clear();
        self.pieces.clear();
        self.length = 0;
        Ok(())
    }
}

impl OfferedSegment {
    fn slice<'a>(&'a self, buffer: &'a [u8]) -> IoSlice<'a> {
        match self {
            Self::Copied(range) => IoSlice::new(&buffer[range.clone()]),
            Self::Shared(data) => IoSlice::new(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn writes_more_pieces_than_the_kernel_takes_at_once() {
        let file = tempfile::tempfile().unwrap();
        let mut batch = WriteBatch::default();
        let mut expected = Vec::new();
        for i in 0..1500usize {
            let data =
                Bytes::from(vec![u8::try_from(i % 251).unwrap(); if i % 3 == 0 { 10 } else { SHARE_FROM }]);
            batch.copy(&i.to_le_bytes());
            batch.payload(&data);
            expected.extend_from_slice(&i.to_le_bytes());
            expected.extend_from_slice(&data);
        }
        assert_eq!(batch.len(), expected.len());
        batch.write_to(&file, 100).unwrap();
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 100).unwrap();
        assert!(found == expected);
        assert_eq!(batch.len(), 0);
        batch.copy(b"next");
        batch.write_to(&file, 0).unwrap();
        file.read_exact_at(&mut found[..4], 0).unwrap();
        assert_eq!(&found[..4], b"next");
    }
}
