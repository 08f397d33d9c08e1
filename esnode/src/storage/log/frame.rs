//! Codec of one frame, the unit of a segment: an entry, or Raft's persistent state. Pure; knows no files.
//!
//! ```text
//! length u32 | crc u32 | kind u8 | term u64 | index u64 | body        (little endian)
//! ```
//! `length` counts the bytes after `crc`; zero means that nothing was written here. The CRC32C covers
//! everything but itself and is seeded with the segment's generation and the frame's offset: bytes left over
//! from another segment, or a copy of a frame inside a client's payload, never validate.

use bytes::Bytes;

use crate::entry::{Entry, EntryKind, HardState};

/// Bytes of `length` and `crc`.
pub(crate) const PREFIX_LEN: usize = 8;
/// Bytes before the body.
pub(crate) const HEADER_LEN: usize = PREFIX_LEN + 17;
/// Bytes of a whole state frame. It is constant, so that recovery can search damaged bytes for state frames in linear
/// time.
pub(crate) const STATE_LEN: usize = HEADER_LEN + 16;

/// Kind of a state frame; smaller numbers are [`EntryKind`]s.
const STATE_KIND: u8 = 16;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// An entry of Raft's log.
    Entry(Entry),
    /// Raft's persistent state, and the mark that distinguishes damage from a torn tail.
    State(StateFrame),
}

/// Body of a state frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateFrame {
    /// Raft's persistent state.
    pub hard_state: HardState,
    /// Everything in this segment below this offset had been synced before this frame was written.
    pub synced_to: u64,
}

/// CRC of a segment's generation: where the CRC of its frames starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed for a segment of this generation.
    pub fn new(generation: u64) -> Self {
        Self(crc32c::crc32c(&generation.to_le_bytes()))
    }
}

/// The header for an entry at `offset`, to be followed by its data.
pub(crate) fn encode_entry(seed: Seed, offset: u64, entry: &Entry) -> [u8; HEADER_LEN] {
    encode(seed, offset, entry.kind as u8, entry.term, entry.index, &entry.data)
}

/// A whole state frame for `offset`.
pub(crate) fn encode_state(seed: Seed, offset: u64, state: &StateFrame) -> [u8; STATE_LEN] {
    let HardState { term, vote, commit } = state.hard_state;
    let mut frame = [0; STATE_LEN];
    frame[HEADER_LEN..][..8].copy_from_slice(&vote.to_le_bytes());
    frame[HEADER_LEN + 8..].copy_from_slice(&state.synced_to.to_le_bytes());
    let header = encode(seed, offset, STATE_KIND, term, commit, &frame[HEADER_LEN..]);
    frame[..HEADER_LEN].copy_from_slice(&header);
    frame
}

fn encode(seed: Seed, offset: u64, kind: u8, term: u64, index: u64, body: &[u8]) -> [u8; HEADER_LEN] {
    let length = HEADER_LEN - PREFIX_LEN + body.len();
    let length = u32::try_from(length).expect("segments, hence frames, are below 4 GiB");
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[8] = kind;
    header[9..17].copy_from_slice(&term.to_le_bytes());
    header[17..].copy_from_slice(&index.to_le_bytes());
    let crc = checksum(seed, offset, &header, body);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    header
}

fn checksum(seed: Seed, offset: u64, header: &[u8], body: &[u8]) -> u32 {
    let mut covered = [0; 8 + HEADER_LEN - 4];
    covered[..8].copy_from_slice(&offset.to_le_bytes());
    covered[8..12].copy_from_slice(&header[..4]);
    covered[12..].copy_from_slice(&header[PREFIX_LEN..HEADER_LEN]);
    crc32c::crc32c_append(crc32c::crc32c_append(seed.0, &covered), body)
}

/// Length of the whole frame that starts with `prefix`, of which `room` bytes can exist; `None` where nothing
/// was written. The error says what is wrong.
pub(crate) fn frame_len(prefix: &[u8], room: u64) -> Result<Option<usize>, &'static str> {
    let length = u32_at(prefix, 0) as usize;
    match length + PREFIX_LEN {
        PREFIX_LEN => Ok(None),
        total if total < HEADER_LEN || total as u64 > room => Err("impossible frame length"),
        total => Ok(Some(total)),
    }
}

/// Decodes `frame`, exactly as long as [`frame_len`] says. The entry's data is a slice of it, not a copy. The
/// error says what is wrong.
pub(crate) fn decode(seed: Seed, offset: u64, frame: &Bytes) -> Result<Frame, &'static str> {
    let (header, body) = frame.split_at(HEADER_LEN);
    if u32_at(header, 4) != checksum(seed, offset, header, body) {
        return Err("checksum mismatch");
    }
    let (kind, term, index) = (header[8], u64_at(header, 9), u64_at(header, 17));
    if kind == STATE_KIND && frame.len() == STATE_LEN {
        let hard_state = HardState { term, vote: u64_at(body, 0), commit: index };
        return Ok(Frame::State(StateFrame { hard_state, synced_to: u64_at(body, 8) }));
    }
    let kind = EntryKind::from_u8(kind).ok_or("unknown kind of frame")?;
    Ok(Frame::Entry(Entry { index, term, kind, data: frame.slice(HEADER_LEN..) }))
}

/// The state frame at the start of `bytes`, which lie at `offset`, if there is a valid one.
pub(crate) fn find_state(seed: Seed, offset: u64, bytes: &[u8]) -> Option<StateFrame> {
    let frame = bytes.get(..STATE_LEN)?;
    if u32_at(frame, 0) as usize != STATE_LEN - PREFIX_LEN || frame[8] != STATE_KIND {
        return None;
    }
    match decode(seed, offset, &Bytes::copy_from_slice(frame)) {
        Ok(Frame::State(state)) => Some(state),
        _ => None,
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_frame(seed: Seed, offset: u64) -> (Entry, Vec<u8>) {
        let data = Bytes::from_static(b"payload");
        let entry = Entry { index: 7, term: 3, kind: EntryKind::ConfChangeV2, data };
        let mut bytes = encode_entry(seed, offset, &entry).to_vec();
        bytes.extend_from_slice(&entry.data);
        (entry, bytes)
    }

    #[test]
    fn round_trips() {
        let seed = Seed::new(99);
        let (entry, bytes) = entry_frame(seed, 640);
        assert_eq!(frame_len(&bytes, 1000), Ok(Some(bytes.len())));
        assert_eq!(decode(seed, 640, &Bytes::from(bytes)), Ok(Frame::Entry(entry)));

        let state = StateFrame { hard_state: HardState { term: 5, vote: 2, commit: 40 }, synced_to: 512 };
        let bytes = encode_state(seed, 640, &state);
        assert_eq!(frame_len(&bytes, 1000), Ok(Some(STATE_LEN)));
        assert_eq!(find_state(seed, 640, &bytes), Some(state));
    }

    #[test]
    fn validates_only_in_its_own_place() {
        let seed = Seed::new(99);
        let (_, bytes) = entry_frame(seed, 640);
        let bytes = Bytes::from(bytes);
        assert!(decode(seed, 641, &bytes).is_err());
        assert!(decode(Seed::new(98), 640, &bytes).is_err());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let seed = Seed::new(1);
        let (_, bytes) = entry_frame(seed, 0);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let whole = frame_len(&bytes, bytes.len() as u64) == Ok(Some(bytes.len()));
            assert!(!whole || decode(seed, 0, &Bytes::from(bytes)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_are_checked_against_the_room() {
        assert_eq!(frame_len(&[0; 8], 100), Ok(None));
        assert!(frame_len(&[16, 0, 0, 0], 100).is_err());
        assert!(frame_len(&[17, 0, 0, 0], 24).is_err());
        assert_eq!(frame_len(&[17, 0, 0, 0], 25), Ok(Some(25)));
        assert!(frame_len(&[255; 4], u64::from(u32::MAX)).is_err());
    }
}
