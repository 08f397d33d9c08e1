//! The membership change that an entry carries.
//!
//! It is parsed by protobuf 2.28, which recurses without limit into nested groups (RUSTSEC-2024-0437). A membership
//! change has four scalar fields and nests nothing, so bytes with a group in them are no change, and are never given to
//! that parser.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb;

use super::convert::{change_from_raft, change_to_raft};
use super::message::ConfChange;
use crate::entry::{Entry, EntryKind};

impl ConfChange {
    /// Returns the payload of the entry that carries this change.
    pub fn encode(&self) -> Bytes {
        // Writing to memory fails for a message that lacks required fields; this one has none.
        change_to_raft(self).write_to_bytes().unwrap_or_default().into()
    }
}

/// The membership change that an entry carries; `None` for one of a kind that this program never writes.
pub fn change(entry: &Entry) -> Option<ConfChange> {
    parse(entry).map(change_from_raft)
}

/// As [`change`], in Raft's own type.
pub(super) fn parse(entry: &Entry) -> Option<eraftpb::ConfChange> {
    if entry.kind == EntryKind::ConfChange { parse_bytes(&entry.data) } else { None }
}

fn parse_bytes(bytes: &[u8]) -> Option<eraftpb::ConfChange> {
    if is_flat(bytes) { eraftpb::ConfChange::parse_from_bytes(bytes).ok() } else { None }
}

/// Whether `bytes` are protobuf fields without any group. A field with a length may contain anything, since in a change
/// nothing looks into it.
fn is_flat(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let length = match varint(&mut bytes).map(|tag| tag & 7) {
            Some(0) => varint(&mut bytes).map(|_| 0),
            Some(1) => Some(8),
            Some(2) => varint(&mut bytes),
            Some(5) => Some(4),
            _ => None,
        };
        let length = length.and_then(|length| usize::try_from(length).ok());
        match length.and_then(|length| bytes.get(length..)) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    true
}

/// Takes a number of at most ten bytes, seven bits each, from the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1 + bytes.iter().take(10).position(|byte| *byte < 0x80)?;
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    Some(number.iter().rev().fold(0, |all, byte| all << 7 | u64::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::ConfChangeType;

    fn entry(kind: EntryKind, data: Vec<u8>) -> Entry {
        Entry { index: 1, term: 1, kind, data: data.into() }
    }

    #[test]
    fn a_change_comes_back_as_it_was() {
        let context = vec![0x0b; 70_000].into();
        let wanted = ConfChange { kind: ConfChangeType::AddLearner, node: u64::MAX, context };
        let data = wanted.encode().to_vec();
        assert_eq!(change(&entry(EntryKind::ConfChange, data.clone())), Some(wanted));
        assert_eq!(change(&entry(EntryKind::ConfChangeV2, data.clone())), None);
        assert_eq!(change(&entry(EntryKind::Normal, data.clone())), None);
        let unknown = [&data[..], &[0x3d, 1, 2, 3, 4, 0x39, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        assert!(parse_bytes(&unknown).is_some(), "a later version may add scalar fields");
    }

    /// Each 0x0b begins another group: protobuf's parser calls itself for every one and ends the process.
    #[test]
    fn what_nests_without_end_is_no_change() {
        assert_eq!(parse_bytes(&vec![0x0b; 1 << 20]), None);
        assert_eq!(parse_bytes(&[vec![0x08, 1], vec![0x3b; 1 << 20]].concat()), None);
        for cut in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x22, 5, 1],
            &[0x09, 1],
            &[0xff; 11],
            &[0x22, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            assert_eq!(parse_bytes(cut), None, "{cut:?}");
        }
    }
}
