//! Recovery for fuzzers: any bytes as a segment file, which lies in memory here.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;

use super::log::Log;
use super::log::frame::{HEADER_LEN, PREFIX_LEN, u32_at, u64_at};
use super::log::header::{Header, SEGMENT_HEADER_LEN};
use super::log::recovery::FoundLog;
use super::log::segment::Segment;
use super::log::state::{LogState, SharedLog};
use crate::entry::Entry;

/// Takes `bytes` for a segment file, then once more with checksums that fit: an error, or entries that stand
/// in the file with their checksums.
pub fn fuzz(bytes: &[u8]) {
    if bytes.len() < SEGMENT_HEADER_LEN {
        return;
    }
    let mut bytes = bytes.to_vec();
    mend_header(&mut bytes);
    recover(&bytes);
    mend_frames(&mut bytes);
    recover(&bytes);
}

fn recover(bytes: &[u8]) {
    let Some(segment) = open(bytes) else { return };
    let Some(found) = replay(&segment) else { return };
    found.cut_tail().expect("memory takes all");
    let again = replay(&segment).expect("what recovery leaves behind can be recovered");
    assert!(again.torn.is_none() && again.index == found.index, "it was torn still");
    let FoundLog { segments, index, end, .. } = found;
    let state = RwLock::new(LogState { index, segments, end, ..LogState::default() });
    let shared = SharedLog {
        dir: PathBuf::new(),
        synced: true,
        state,
        stats: Arc::default(),
        sealed: crossbeam_channel::bounded(1),
        files: Arc::default(),
        packs: Default::default(),
        ending: AtomicBool::new(false),
    };
    let log = Log::new(Arc::new(shared));
    let (first, last) = (log.first_index(), log.last_index());
    let entries = log.entries(first, u64::MAX, u64::MAX).expect("what recovery has read reads again");
    assert!(entries.iter().map(|entry| entry.index).eq(first..=last), "{first}..={last}");
    entries.iter().for_each(|entry| assert!(stands(bytes, entry), "{entry:?} was made up"));
}

fn replay(segment: &Arc<Segment>) -> Option<FoundLog> {
    let mut found = FoundLog::of(segment.clone());
    found.replay_last(segment).ok()?;
    Some(found)
}

/// The header says how the file is called; real files are found by their name.
fn open(bytes: &[u8]) -> Option<Arc<Segment>> {
    let name = Header { sequence: u32_at(bytes, 12), first_index: u64_at(bytes, 16), ..Header::default() }
        .file_name();
    let file = rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = File::from(file);
    file.write_all(bytes).ok()?;
    Segment::from_file(&name, file).ok().map(Arc::new)
}

/// Whether the entry's frame is somewhere in the file, with a checksum that was reckoned here, not by the
/// codec.
fn stands(bytes: &[u8], entry: &Entry) -> bool {
    let mut at = SEGMENT_HEADER_LEN;
    while let Some(frame) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_LEN) {
        let whole = HEADER_LEN + entry.data.len();
        let same = frame.len() >= whole
            && u32_at(frame, 0) as usize == whole - PREFIX_LEN
            && frame[8] == entry.kind as u8
            && (u64_at(frame, 9), u64_at(frame, 17)) == (entry.term, entry.index)
            && frame[HEADER_LEN..whole] == entry.data;
        if same && u32_at(frame, 4) == checksum(bytes, at, &frame[..whole]) {
            return true;
        }
        at += 1;
    }
    false
}

/// As the format says: over the generation, the frame's place, its length, and all behind the checksum.
fn checksum(bytes: &[u8], at: usize, frame: &[u8]) -> u32 {
    let parts: [&[u8]; 4] = [&bytes[24..32], &(at as u64).to_le_bytes(), &frame[..4], &frame[PREFIX_LEN..]];
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

fn mend_header(bytes: &mut [u8]) {
    bytes[..12].copy_from_slice(&Header::default().encode()[..12]);
    // Alone it is the log's first.
    bytes[12..24]
        .copy_from_slice(&Header { sequence: 1, first_index: 1, ..Header::default() }.encode()[12..24]);
    bytes[32..40].fill(0);
    let crc = crc32c::crc32c(&bytes[..52]);
    bytes[52..SEGMENT_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

fn mend_frames(bytes: &mut [u8]) {
    let mut at = SEGMENT_HEADER_LEN;
    while bytes.len() - at >= HEADER_LEN {
        let end = at + PREFIX_LEN + u32_at(bytes, at) as usize;
        if end < at + HEADER_LEN || end > bytes.len() {
            break;
        }
        let crc = checksum(bytes, at, &bytes[at..end]);
        bytes[at + 4..at + PREFIX_LEN].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::frame::{Seed, StateFrame, encode_entry, encode_state};
    use super::*;
    use crate::entry::{EntryKind, HardState};
    use crate::fuzz::seeds::{self, Seeds};

    /// A segment of state frames and entries; each list of entries is a group with its own mark.
    fn segment(groups: &[&[(u64, u64, usize)]], room: usize) -> Vec<u8> {
        let header = Header { sequence: 1, first_index: 1, generation: 0x5eed, ..Header::default() };
        let seed = Seed::new(header.generation);
        let mut bytes = header.encode().to_vec();
        for group in groups {
            let (offset, term) = (bytes.len() as u64, group.first().map_or(1, |first| first.1));
            let state = StateFrame { hard_state: HardState { term, vote: 1, commit: 0 }, synced_to: offset };
            bytes.extend(encode_state(seed, offset, &state));
            for (index, term, size) in *group {
                let data = vec![u8::try_from(*index).unwrap(); *size].into();
                let entry = Entry { index: *index, term: *term, kind: EntryKind::Normal, data };
                bytes.extend(encode_entry(seed, bytes.len() as u64, &entry));
                bytes.extend_from_slice(&entry.data);
            }
        }
        bytes.resize(bytes.len() + room, 0);
        bytes
    }

    #[test]
    fn the_committed_seeds_of_segments() {
        let mut torn = segment(&[&[(1, 1, 30), (2, 1, 30)]], 0);
        torn.truncate(torn.len() - 9);
        let seeds = [
            ("new", segment(&[&[]], 100)),
            ("entries", segment(&[&[(1, 1, 0), (2, 1, 40), (3, 1, 7)], &[(4, 2, 100)]], 200)),
            (
                "superseded",
                segment(&[&[(1, 1, 20), (2, 1, 20), (3, 1, 20)], &[(2, 2, 20)], &[(3, 3, 9)]], 64),
            ),
            ("full", segment(&[&[(1, 1, 30)]], 0)),
            ("torn", torn),
        ];
        seeds::check("segment", &seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into());
    }

    #[test]
    fn an_entry_that_does_not_stand_in_the_file_would_be_noticed() {
        let bytes = segment(&[&[(1, 1, 30)]], 10);
        let data = vec![1; 30].into();
        let entry = Entry { index: 1, term: 1, kind: EntryKind::Normal, data };
        assert!(stands(&bytes, &entry));
        let mut changed = bytes.clone();
        *changed.iter_mut().rev().nth(20).unwrap() ^= 1;
        assert!(!stands(&changed, &entry));
        assert!(!stands(&bytes, &Entry { index: 2, ..entry }));
    }

    #[test]
    fn seeds_are_recovered_whole() {
        let seeds: Seeds = [("x".to_owned(), segment(&[&[(1, 1, 5), (2, 1, 5)], &[(2, 2, 9)]], 99))].into();
        let found = replay(&open(&seeds["x"]).unwrap()).unwrap();
        assert_eq!((found.index.last(), found.index.term(2), found.torn), (2, Some(2), None));
    }
}
