//! Frames: how entries and Raft's state stand in a segment.
//!
//! ```text
//! 0  length   u32  of the whole frame; 0 ends the segment's data
//! 4  crc      u32  CRC32C of all that follows, seeded with the segment's generation
//! 8  kind     u8   0..=2 an entry, 16 Raft's state
//! 9  term     u64
//! 17 index    u64  of the entry; the commit index for Raft's state
//! 25 synced   u64  log position up to which everything was durable when this frame was written
//! 33 body          the entry's payload; the vote (u64) for Raft's state
//! ```
//!
//! All numbers are little endian. `synced` makes recovery exact: a frame that a later frame vouches for and that does
//! not validate is corruption, any other is a write that had not finished.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::entry::{Entry, EntryKind, HardState, MAX_PAYLOAD};

/// Bytes before the body.
pub(super) const HEADER: usize = 33;
/// Longest frame that can be valid.
pub(super) const MAX_FRAME: usize = HEADER + MAX_PAYLOAD + 4096;

const HARD_STATE: u8 = 16;
const CHECKED_FROM: usize = 8;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Entry(Entry),
    HardState(HardState),
}

/// A frame that validates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) content: Content,
    pub(super) synced: u64,
    pub(super) length: usize,
}

/// Why no frame can be read at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The data end here.
    End,
    /// More bytes are needed than there are: this many in all.
    Short(usize),
    /// These bytes are no frame.
    Bad,
}

/// Appends an entry's frame.
pub(super) fn put_entry(out: &mut BytesMut, generation: u32, synced: u64, entry: &Entry) {
    put(out, generation, (entry.kind as u8, entry.term, entry.index, synced), &entry.data);
}

/// Appends a frame of Raft's state.
pub(super) fn put_hard_state(out: &mut BytesMut, generation: u32, synced: u64, state: &HardState) {
    put(out, generation, (HARD_STATE, state.term, state.commit, synced), &state.vote.to_le_bytes());
}

fn put(out: &mut BytesMut, generation: u32, (kind, term, index, synced): (u8, u64, u64, u64), body: &[u8]) {
    let start = out.len();
    out.reserve(HEADER + body.len());
    out.put_u32_le(u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX));
    out.put_u32_le(0);
    out.put_u8(kind);
    out.put_u64_le(term);
    out.put_u64_le(index);
    out.put_u64_le(synced);
    out.put_slice(body);
    let crc = crc32c::crc32c_append(generation, &out[start + CHECKED_FROM..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the frame at the start of `bytes`; its payload is a slice of them.
pub(super) fn read(bytes: &Bytes, generation: u32) -> Result<Frame, Broken> {
    let length = check(bytes, generation)?;
    let mut frame = bytes.slice(CHECKED_FROM..length);
    let (kind, term, index, synced) =
        (frame.get_u8(), frame.get_u64_le(), frame.get_u64_le(), frame.get_u64_le());
    let content = match (EntryKind::from_u8(kind), kind) {
        (Some(kind), _) => Content::Entry(Entry { index, term, kind, data: frame }),
        (None, HARD_STATE) if frame.len() == 8 => {
            Content::HardState(HardState { term, vote: frame.get_u64_le(), commit: index })
        }
        (None, _) => return Err(Broken::Bad),
    };
    Ok(Frame { content, synced, length })
}

/// Length of the valid frame at the start of `bytes`.
pub(super) fn check(bytes: &[u8], generation: u32) -> Result<usize, Broken> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Err(Broken::Short(4)) };
    let length = u32::from_le_bytes(*length) as usize;
    match length {
        0 => return Err(Broken::End),
        HEADER..=MAX_FRAME => {}
        _ => return Err(Broken::Bad),
    }
    if bytes.len() < length {
        return Err(Broken::Short(length));
    }
    let Some((crc, _)) = rest.split_first_chunk::<4>() else { return Err(Broken::Bad) };
    let valid = crc32c::crc32c_append(generation, &bytes[CHECKED_FROM..length]) == u32::from_le_bytes(*crc);
    if valid { Ok(length) } else { Err(Broken::Bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry { index: 7, term: 3, kind: EntryKind::Normal, data: Bytes::from_static(b"payload") }
    }

    #[test]
    fn frames_read_back() {
        let mut out = BytesMut::new();
        put_entry(&mut out, 9, 100, &entry());
        let state = HardState { term: 4, vote: 2, commit: 6 };
        put_hard_state(&mut out, 9, 120, &state);
        let mut bytes = out.freeze();
        let first = read(&bytes, 9).unwrap();
        assert_eq!((first.content, first.synced), (Content::Entry(entry()), 100));
        bytes.advance(first.length);
        assert_eq!(read(&bytes, 9).unwrap().content, Content::HardState(state));
    }

    #[test]
    fn any_flipped_bit_and_a_foreign_generation_are_noticed() {
        let mut out = BytesMut::new();
        put_entry(&mut out, 9, 100, &entry());
        assert_eq!(read(&out.clone().freeze(), 8), Err(Broken::Bad));
        for bit in 0..out.len() * 8 {
            let mut flipped = out.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped.freeze(), 9).is_err(), "bit {bit}");
        }
    }
}
