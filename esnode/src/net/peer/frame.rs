//! Frames, the unit of all bytes on a connection between nodes: length, checksum, kind, Raft group, body.
//!
//! Knows neither what a body means nor where bytes come from.

use std::io::{self, IoSlice, Read, Write};

use bytes::{Bytes, BytesMut};

use crate::process::rate_limited_log::RateLimitedLog;

/// Bytes before a frame's body, little endian: length (u32) and CRC32C (u32) of all that follows them, kind (u8),
/// group (u32).
pub const HEADER: usize = LENGTH_AND_CRC + KIND_AND_GROUP;
/// Bytes that the checksum does not cover.
pub const LENGTH_AND_CRC: usize = 8;
const KIND_AND_GROUP: usize = 5;
/// The Raft group of a frame. There is only one group now; a later version may have several.
const GROUP: u32 = 0;
/// Frames of other groups are dropped, and there may be many of them.
static UNKNOWN_GROUP: RateLimitedLog = RateLimitedLog::new();
/// Number of bytes read at once. Frames of one read share its memory.
const CHUNK: usize = 64 << 10;
/// If less room than this is left in a chunk, a new chunk is begun.
const MIN_READ: usize = 4 << 10;
/// Slices that Linux takes in one vectored write (`UIO_MAXIOV`).
const MAX_SLICES: usize = 1024;

/// What the body of a frame contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`super::greeting::Greeting`].
    Hello = 1,
    /// A [`super::handshake::Refused`]; the connection is closed after it.
    Refused = 2,
    /// Nothing: a sign of life.
    Keepalive = 3,
    /// Raft messages, as in [`super::codec`].
    Messages = 4,
    /// A [`super::greeting::Greeting`] of a node that wants files, as all below in [`super::files`].
    FilesHello = 5,
    /// Where the log of the node that needs files ends.
    FilesAsk = 6,
    /// What there is for it.
    FilesOffer = 7,
    /// The piece of a file that is requested.
    FilesWant = 8,
    /// A piece of a file.
    FilesPiece = 9,
    /// A question whether a connection is the listener's, as in [`super::claims`].
    Ask = 10,
    /// The answer to that question.
    Own = 11,
}

impl Kind {
    fn from_u8(byte: u8) -> Option<Self> {
        let raft = [Self::Hello, Self::Refused, Self::Keepalive, Self::Messages];
        let files = [Self::FilesHello, Self::FilesAsk, Self::FilesOffer, Self::FilesWant, Self::FilesPiece];
        let claims = [Self::Ask, Self::Own];
        raft.into_iter().chain(files).chain(claims).find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are no frame, or a body is invalid. The rest of the connection cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is shorter than any frame, or above the limit: another protocol, or a stream read from a wrong
    /// position.
    #[error("a frame of {0} bytes is outside the limits: the other side does not speak the peer protocol")]
    Length(usize),
    /// The checksum does not match.
    #[error("a frame's checksum does not match: the bytes were damaged on their way")]
    Checksum,
    /// A kind that no common protocol version has.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// The body ends early or holds a value that does not exist.
    #[error("a frame's body is malformed")]
    Malformed,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl From<bytes::TryGetError> for FrameError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Malformed
    }
}

/// A frame to be sent. The pieces of its body are shared: entry data is never copied.
#[derive(Debug)]
pub struct Encoded {
    header: [u8; HEADER],
    body: Vec<Bytes>,
}

impl Encoded {
    /// Puts a header before `body`, whose length must fit 32 bits.
    pub fn new(kind: Kind, body: Vec<Bytes>) -> Self {
        Self::of_group(GROUP, kind, body)
    }

    fn of_group(group: u32, kind: Kind, body: Vec<Bytes>) -> Self {
        let length: usize = KIND_AND_GROUP + body.iter().map(Bytes::len).sum::<usize>();
        let length = u32::try_from(length).expect("callers keep to the frame limit, far below 4 GiB");
        let mut header = [kind as u8; HEADER];
        header[LENGTH_AND_CRC + 1..].copy_from_slice(&group.to_le_bytes());
        let crc = crc32c::crc32c(&header[LENGTH_AND_CRC..]);
        let crc = body.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part));
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..LENGTH_AND_CRC].copy_from_slice(&crc.to_le_bytes());
        Self { header, body }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        HEADER + self.body.iter().map(Bytes::len).sum::<usize>()
    }

    fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let body = self.body.iter().filter(|part| !part.is_empty());
        std::iter::once(IoSlice::new(&self.header)).chain(body.map(|part| IoSlice::new(part)))
    }
}

/// Writes all frames, in as few system calls as the system allows. Returns the bytes written.
pub fn write_frames(sink: &mut impl Write, frames: &[Encoded]) -> io::Result<usize> {
    let mut slices: Vec<IoSlice<'_>> = frames.iter().flat_map(Encoded::slices).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let batch = rest.len().min(MAX_SLICES);
        match sink.write_vectored(&rest[..batch]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(frames.iter().map(Encoded::len).sum())
}

/// Splits a stream of bytes into frames. Bodies are slices of the memory that they were read into.
#[derive(Debug)]
pub struct FrameReader {
    /// All bytes are initialised; the first `filled` ones are read and not yet split.
    buffer: BytesMut,
    filled: usize,
    max_body: usize,
}

impl FrameReader {
    /// Returns a reader that refuses bodies above `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self { buffer: BytesMut::new(), filled: 0, max_body }
    }

    /// Sets the limit for bodies to `max_body` bytes: it is lower for strangers than for peers.
    pub fn set_max_body(&mut self, max_body: usize) {
        self.max_body = max_body;
    }

    /// Checks the limits of the next frame, as far as its header has arrived.
    pub fn peek(&self) -> Result<(), FrameError> {
        self.frame_len().map(drop)
    }

    /// Returns the next frame if all of it has arrived. Frames of unknown groups are dropped, since a node of a later
    /// version may have several groups.
    ///
    /// # Errors
    /// [`FrameError`]: the rest of the connection cannot be read.
    pub fn next_frame(&mut self) -> Result<Option<(Kind, Bytes)>, FrameError> {
        while let Some((group, kind, body)) = self.cut()? {
            if group == GROUP {
                return Ok(Some((kind, body)));
            }
            if let Some(times) = UNKNOWN_GROUP.due() {
                tracing::warn!(
                    group,
                    ?kind,
                    times,
                    "dropped a peer's frame of a Raft group that is not here"
                );
            }
        }
        Ok(None)
    }

    /// Removes the next frame, of any group.
    fn cut(&mut self) -> Result<Option<(u32, Kind, Bytes)>, FrameError> {
        let Some(total) = self.frame_len()? else { return Ok(None) };
        if self.filled < total {
            return Ok(None);
        }
        let frame = self.buffer.split_to(total).freeze();
        self.filled -= total;
        let crc = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
        if crc32c::crc32c(&frame[LENGTH_AND_CRC..]) != crc {
            return Err(FrameError::Checksum);
        }
        let kind = frame[LENGTH_AND_CRC];
        let kind = Kind::from_u8(kind).ok_or(FrameError::Kind(kind))?;
        let group = u32::from_le_bytes([frame[9], frame[10], frame[11], frame[12]]);
        Ok(Some((group, kind, frame.slice(HEADER..))))
    }

    /// Reads once from `source`. Returns `UnexpectedEof` if the other side has closed the connection.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let wanted = self.frame_len()?.unwrap_or(HEADER);
        let cramped = self.filled < HEADER && self.buffer.len() - self.filled < MIN_READ;
        if cramped || self.buffer.len() < wanted {
            let mut roomy = BytesMut::zeroed(wanted.max(CHUNK));
            roomy[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
            self.buffer = roomy;
        }
        let read = source.read(&mut self.buffer[self.filled..])?;
        self.filled += read;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }

    /// Returns the length of the next frame, with its header, once it is known.
    fn frame_len(&self) -> Result<Option<usize>, FrameError> {
        if self.filled < HEADER {
            return Ok(None);
        }
        let length = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        let length = u32::from_le_bytes(length) as usize;
        if length < KIND_AND_GROUP || length - KIND_AND_GROUP > self.max_body {
            return Err(FrameError::Length(length));
        }
        Ok(Some(LENGTH_AND_CRC + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(frames: &[Encoded]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frames(&mut bytes, frames).unwrap();
        bytes
    }

    fn read_all(bytes: &[u8], step: usize, max_body: usize) -> Result<Vec<(Kind, Bytes)>, FrameError> {
        let mut reader = FrameReader::new(max_body);
        let mut frames = Vec::new();
        for part in bytes.chunks(step) {
            let mut part = part;
            while !part.is_empty() {
                reader.fill(&mut part).unwrap();
                while let Some(frame) = reader.next_frame()? {
                    frames.push(frame);
                }
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_survive_any_split_of_the_stream() {
        let big = Bytes::from(vec![7u8; 200_000]);
        let frames = [
            Encoded::new(Kind::Keepalive, Vec::new()),
            Encoded::new(
                Kind::Messages,
                vec![Bytes::from_static(b"head"), big.clone(), Bytes::from_static(b"tail")],
            ),
            Encoded::new(Kind::Hello, vec![Bytes::from_static(b"x")]),
        ];
        let bytes = wire(&frames);
        assert_eq!(bytes.len(), frames.iter().map(Encoded::len).sum::<usize>());
        for step in [1, 8, 9, 10, 4095, 65_536, bytes.len()] {
            let got = read_all(&bytes, step, 1 << 20).unwrap();
            assert_eq!(
                got.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
                [Kind::Keepalive, Kind::Messages, Kind::Hello]
            );
            assert_eq!(got[1].1.len(), 200_008);
            assert_eq!(got[1].1.slice(4..200_004), big);
        }
    }

    #[test]
    fn more_slices_than_one_write_takes() {
        let frames: Vec<_> = (0..3000).map(|_| Encoded::new(Kind::Keepalive, Vec::new())).collect();
        assert_eq!(read_all(&wire(&frames), 1 << 20, 0).unwrap().len(), 3000);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = wire(&[Encoded::new(Kind::Messages, vec![Bytes::from_static(b"some body")])]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A longer length only waits for bytes that never come; everything else is an error.
            assert!(
                !matches!(read_all(&damaged, 4096, 1 << 20), Ok(frames) if !frames.is_empty()),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_body_above_the_limit_is_refused_from_its_header_alone() {
        let bytes = wire(&[Encoded::new(Kind::Messages, vec![Bytes::from(vec![0; 101])])]);
        assert_eq!(read_all(&bytes[..HEADER], 4096, 100), Err(FrameError::Length(106)));
        assert!(read_all(&bytes, 4096, 101).is_ok());
    }

    #[test]
    fn frames_of_another_group_are_dropped_and_those_behind_them_are_read() {
        let body = || vec![Bytes::from_static(b"body")];
        let frames = [
            Encoded::of_group(1, Kind::Messages, body()),
            Encoded::of_group(u32::MAX, Kind::Hello, body()),
            Encoded::new(Kind::Keepalive, body()),
            Encoded::of_group(1 << 24, Kind::Messages, Vec::new()),
        ];
        let got = read_all(&wire(&frames), 7, 100).unwrap();
        assert_eq!(got, [(Kind::Keepalive, Bytes::from_static(b"body"))]);
    }

    #[test]
    fn a_length_without_room_for_a_kind_and_a_group_is_refused() {
        for length in 0..5u32 {
            let bytes = [&length.to_le_bytes()[..], &[0; 9]].concat();
            assert_eq!(read_all(&bytes, 4096, 100), Err(FrameError::Length(length as usize)));
        }
    }

    #[test]
    fn an_end_of_stream_is_an_error() {
        let error = FrameReader::new(10).fill(&mut io::empty()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
