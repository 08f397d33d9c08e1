//! Frames between nodes, and Raft's messages in them.
//!
//! ```text
//! frame    length u32 (of the rest) | crc u32 (CRC32C of the rest) | kind u8 | body
//! messages count u32, then per message:
//!          kind u8 | reject u8 | to, from, term, log_term, index, commit, commit_term, request_snapshot,
//!          reject_hint u64 | priority i64 | context | count u32 of entries, then per entry:
//!          kind u8 | term, index u64 | data
//! ```
//!
//! Context and data are u32 lengths and bytes. All numbers are little endian. Received entries are slices of the
//! received frame. A message with a snapshot cannot be sent: every node keeps the whole log.

use std::io::{self, IoSlice, Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protobuf::ProtobufEnum;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

/// Longest frame, without its length.
pub(super) const MAX_FRAME: usize = 16 << 20;
/// Entry data from this size on are sent from where they are, not copied.
const REFERENCE: usize = 4096;
/// Payload bytes of one frame of messages, beyond which the next begins.
const FRAME_BYTES: usize = 4 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello = 1,
    Refused = 2,
    Messages = 3,
    KeepAlive = 4,
}

/// A received frame's bytes make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed peer frame: {0}")]
pub(super) struct Malformed(&'static str);

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A frame as pieces to be written one after the other.
pub(super) struct Frame {
    pieces: Vec<Bytes>,
    open: BytesMut,
}

impl Frame {
    pub(super) fn new(kind: Kind, body: &[u8]) -> Vec<Bytes> {
        let mut frame = Self { pieces: Vec::new(), open: BytesMut::with_capacity(16 + body.len()) };
        frame.open.put_slice(body);
        frame.seal(kind)
    }

    /// Messages, in as many frames as their size asks for.
    pub(super) fn messages(messages: &[Message]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut rest = messages;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|message| {
                let before = bytes;
                bytes += payload_bytes(message);
                before < FRAME_BYTES
            });
            let (now, later) = rest.split_at(fits.count());
            pieces.extend(Self::of_messages(now));
            rest = later;
        }
        pieces
    }

    fn of_messages(messages: &[Message]) -> Vec<Bytes> {
        let mut frame = Self { pieces: Vec::new(), open: BytesMut::with_capacity(256) };
        frame.open.put_u32_le(length(messages.len()));
        messages.iter().for_each(|message| frame.message(message));
        frame.seal(Kind::Messages)
    }

    fn message(&mut self, message: &Message) {
        let out = &mut self.open;
        out.put_u8(u8::try_from(message.get_msg_type().value()).unwrap_or(u8::MAX));
        out.put_u8(u8::from(message.reject));
        let numbers = [
            message.to,
            message.from,
            message.term,
            message.log_term,
            message.index,
            message.commit,
            message.commit_term,
            message.request_snapshot,
            message.reject_hint,
        ];
        numbers.into_iter().for_each(|number| out.put_u64_le(number));
        out.put_i64_le(message.priority);
        out.put_u32_le(length(message.context.len()));
        out.put_slice(&message.context);
        out.put_u32_le(length(message.entries.len()));
        message.entries.iter().for_each(|entry| self.entry(entry));
    }

    fn entry(&mut self, entry: &Entry) {
        self.open.put_u8(u8::try_from(entry.entry_type.value()).unwrap_or(u8::MAX));
        self.open.put_u64_le(entry.term);
        self.open.put_u64_le(entry.index);
        self.open.put_u32_le(length(entry.data.len()));
        if entry.data.len() < REFERENCE {
            self.open.put_slice(&entry.data);
        } else {
            self.pieces.push(self.open.split().freeze());
            self.pieces.push(entry.data.clone());
        }
    }

    fn seal(mut self, kind: Kind) -> Vec<Bytes> {
        self.pieces.push(self.open.freeze());
        let kind = [kind as u8];
        let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        let crc =
            self.pieces.iter().fold(crc32c::crc32c(&kind), |crc, piece| crc32c::crc32c_append(crc, piece));
        let mut head = BytesMut::with_capacity(9);
        head.put_u32_le(length(bytes + 5));
        head.put_u32_le(crc);
        head.put_slice(&kind);
        self.pieces.insert(0, head.freeze());
        self.pieces
    }
}

fn payload_bytes(message: &Message) -> usize {
    message.entries.iter().map(|entry| entry.data.len() + 21).sum::<usize>() + 128
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Writes all pieces with as few calls as the system allows.
pub(super) fn write_all(socket: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    /// What one call takes (`IOV_MAX`).
    const AT_ONCE: usize = 1024;
    for pieces in pieces.chunks(AT_ONCE) {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match socket.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Cuts frames out of what a socket delivers.
pub(super) struct FrameReader<R> {
    socket: R,
    buffer: BytesMut,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(socket: R) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// The next frame's kind and body.
    pub(super) fn next(&mut self) -> io::Result<(Kind, Bytes)> {
        self.fill(4)?;
        let length = self.buffer.get_u32_le() as usize;
        if !(5..=MAX_FRAME).contains(&length) {
            return Err(Malformed("a length out of range").into());
        }
        self.fill(length)?;
        let mut frame = self.buffer.split_to(length).freeze();
        let crc = frame.get_u32_le();
        if crc32c::crc32c(&frame) != crc {
            return Err(Malformed("a checksum that does not match").into());
        }
        let kind = match frame.get_u8() {
            1 => Kind::Hello,
            2 => Kind::Refused,
            3 => Kind::Messages,
            4 => Kind::KeepAlive,
            _ => return Err(Malformed("an unknown kind of frame").into()),
        };
        Ok((kind, frame))
    }

    /// Has at least `wanted` bytes in the buffer. Memory grows with what arrives, not with what is claimed.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        const CHUNK: usize = 64 << 10;
        while self.buffer.len() < wanted {
            let have = self.buffer.len();
            let more = (wanted - have).max(CHUNK).min(have.max(CHUNK));
            self.buffer.resize(have + more, 0);
            let read = self.socket.read(&mut self.buffer[have..]);
            self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The messages of a frame; entries are slices of it.
pub(super) fn decode(mut body: Bytes) -> Result<Vec<Message>, Malformed> {
    let count = number(&mut body)?;
    // Every message takes bytes of the frame, so a claimed count cannot make this loop long.
    let messages = (0..count).map(|_| message(&mut body)).collect::<Result<Vec<_>, _>>()?;
    if body.is_empty() { Ok(messages) } else { Err(Malformed("bytes behind the last message")) }
}

fn message(body: &mut Bytes) -> Result<Message, Malformed> {
    let kind = body.try_get_u8().map_err(short)?;
    let mut message = Message::default();
    message.set_msg_type(MessageType::from_i32(kind.into()).ok_or(Malformed("an unknown message"))?);
    message.reject = body.try_get_u8().map_err(short)? != 0;
    for field in [
        &mut message.to,
        &mut message.from,
        &mut message.term,
        &mut message.log_term,
        &mut message.index,
        &mut message.commit,
        &mut message.commit_term,
        &mut message.request_snapshot,
        &mut message.reject_hint,
    ] {
        *field = body.try_get_u64_le().map_err(short)?;
    }
    message.priority = body.try_get_i64_le().map_err(short)?;
    message.context = slice(body)?;
    let count = number(body)?;
    let entries = (0..count).map(|_| entry(body)).collect::<Result<Vec<_>, _>>()?;
    message.set_entries(entries.into());
    Ok(message)
}

fn entry(body: &mut Bytes) -> Result<Entry, Malformed> {
    let kind = body.try_get_u8().map_err(short)?;
    let entry_type = EntryType::from_i32(kind.into()).ok_or(Malformed("an unknown entry"))?;
    let term = body.try_get_u64_le().map_err(short)?;
    let index = body.try_get_u64_le().map_err(short)?;
    Ok(Entry { entry_type, term, index, data: slice(body)?, ..Entry::default() })
}

fn number(body: &mut Bytes) -> Result<u32, Malformed> {
    body.try_get_u32_le().map_err(short)
}

fn slice(body: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = number(body)? as usize;
    if length > body.len() { Err(Malformed("a length beyond the frame")) } else { Ok(body.split_to(length)) }
}

#[allow(clippy::needless_pass_by_value, reason = "taken by map_err")]
fn short(_: bytes::TryGetError) -> Malformed {
    Malformed("a frame that ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Message> {
        let mut append = Message { to: 2, from: 1, term: 7, index: 9, commit: 8, ..Message::default() };
        append.set_msg_type(MessageType::MsgAppend);
        append.context = Bytes::from_static(b"context");
        let big = Bytes::from(vec![7; REFERENCE]);
        let entries = [Bytes::from_static(b"small"), big].map(|data| Entry {
            term: 7,
            index: 10,
            data,
            ..Entry::default()
        });
        append.set_entries(entries.to_vec().into());
        vec![append, Message { reject: true, reject_hint: 5, priority: -1, ..Message::default() }]
    }

    fn joined(pieces: &[Bytes]) -> Vec<u8> {
        pieces.concat()
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let bytes = joined(&Frame::messages(&sample()));
        let (kind, body) = FrameReader::new(bytes.as_slice()).next().unwrap();
        assert_eq!(kind, Kind::Messages);
        assert_eq!(decode(body).unwrap(), sample());
    }

    #[test]
    fn a_hundred_thousand_mutated_frames_do_no_harm() {
        let bytes = joined(&Frame::messages(&sample()));
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let mut mutated = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..mutated.len());
                mutated[at] = random.u8(..);
            }
            mutated.truncate(random.usize(1..=mutated.len()));
            let mutated_length = mutated.len();
            let _ = FrameReader::new(mutated.as_slice()).next().map(|(_, body)| decode(body));
            // Past the checksum, as from a peer that computes it right.
            let _ = decode(Bytes::from(mutated).slice(9.min(mutated_length)..));
        }
    }
}
