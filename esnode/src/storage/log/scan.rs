//! Reading the frames of one segment, one after the other.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, Frame, PREFIX_LEN};
use super::segment::Segment;

/// Reads a segment's frames one after the other, in chunks.
pub(crate) struct Frames {
    segment: Arc<Segment>,
    offset: u64,
    /// Offset up to which to read ahead.
    until: u64,
    chunk: usize,
    buffer: Bytes,
    buffer_offset: u64,
}

/// The result of [`Frames::next`].
pub(crate) enum Next {
    /// A valid frame.
    Frame(Frame),
    /// Nothing was written here, or the segment is full.
    End,
    /// The bytes are damaged, in this way.
    Bad(&'static str),
}

impl Frames {
    /// Starts at `offset`; reads `chunk` bytes at once.
    pub fn new(segment: Arc<Segment>, offset: u64, chunk: usize) -> Self {
        let until = segment.capacity;
        Self { segment, offset, until, chunk, buffer: Bytes::new(), buffer_offset: 0 }
    }

    /// Continues at `offset`. Nothing from offset `until` on is expected to be needed.
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

    /// Returns the frame at the current offset. Moves on only if it is valid.
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
