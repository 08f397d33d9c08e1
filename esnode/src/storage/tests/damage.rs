//! Damage is refused, a torn tail is cut, and neither is ever served.

use std::os::unix::fs::FileExt;

use super::super::log::frame::{HEADER_LEN, STATE_LEN, Seed, StateFrame, encode_state, u64_at};
use super::super::log::header::SEGMENT_HEADER_LEN;
use super::*;

/// Offset of the first frame after a segment's state frame.
const FIRST: usize = SEGMENT_HEADER_LEN + STATE_LEN;

fn only_segment(dir: &Path) -> PathBuf {
    let segments = segments(dir);
    assert_eq!(segments.len(), 1);
    segments[0].clone()
}

fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset as u64).unwrap();
}

/// Runs `check` with each bit of `range` flipped in turn, one bit per byte in turn to save time.
fn with_flips(path: &Path, range: std::ops::Range<usize>, mut check: impl FnMut(usize)) {
    let good = fs::read(path).unwrap();
    for offset in range {
        let bad = good[offset] ^ 1 << (offset % 8);
        overwrite(path, offset, &[bad]);
        check(offset);
        overwrite(path, offset, &good[offset..=offset]);
        // Cutting a tail zeroes it.
        if fs::read(path).unwrap() != good {
            fs::write(path, &good).unwrap();
        }
    }
}

fn is_corrupt(result: Result<(Vec<Entry>, Recovered), OpenError>, path: &Path) -> String {
    let error = result.expect_err("damage was accepted");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
    assert!(text.contains("byte ") && text.contains("add it again"), "{text}");
    text
}

#[test]
fn a_tail_cut_at_any_byte_of_the_last_entry_is_no_obstacle() {
    let size = 100;
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=3, 1, size));
    drop(wal);
    let path = only_segment(dir.path());
    let good = fs::read(&path).unwrap();
    let length = HEADER_LEN + size;
    let last = FIRST + 2 * length;
    for cut in 0..length {
        let mut torn = good.clone();
        torn[last + cut..].fill(0);
        fs::write(&path, &torn).unwrap();
        let (log, mut wal, recovered) = open(dir.path(), SMALL).unwrap();
        assert_eq!(all(&log), entries(1..=2, 1, size), "cut at {cut}");
        assert_eq!(recovered.torn.is_some(), cut > 0, "cut at {cut}");
        if let Some((name, offset, bytes)) = recovered.torn {
            assert_eq!(path.file_name().unwrap(), name.as_str());
            assert!(offset == last as u64 && bytes <= cut as u64);
        }
        // The log goes on where it was cut, and nothing of the tail comes back.
        put(&mut wal, &entries(3..=3, 2, 7));
        drop(wal);
        let (found, recovered) = look(dir.path(), SMALL).unwrap();
        assert_eq!((found.len(), &found[2], recovered.torn), (3, &entry(3, 2, 7), None));
    }
}

#[test]
fn a_file_shortened_in_its_tail_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=3, 1, 100));
    drop(wal);
    let path = only_segment(dir.path());
    File::options().write(true).open(&path).unwrap().set_len(FIRST as u64 + 150).unwrap();
    let (log, mut wal, _) = open(dir.path(), SMALL).unwrap();
    assert_eq!(all(&log), entries(1..=1, 1, 100));
    put(&mut wal, &entries(2..=50, 1, 100));
    assert_eq!(all(&log), entries(1..=50, 1, 100));
}

#[test]
fn any_flip_below_a_mark_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=3, 1, 60));
    wal.mark().unwrap();
    drop(wal);
    let path = only_segment(dir.path());
    let synced = FIRST + 3 * (HEADER_LEN + 60);
    with_flips(&path, 0..synced, |offset| {
        match look(dir.path(), SMALL) {
            // A flip in the version's number reads like a newer version.
            Err(OpenError::Version { .. }) => assert!((8..12).contains(&offset)),
            result => drop(is_corrupt(result, &path)),
        }
    });
    // A flip in the mark itself costs nothing but the mark.
    with_flips(&path, synced..synced + STATE_LEN, |_| {
        assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(1..=3, 1, 60));
    });
    assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(1..=3, 1, 60));
}

#[test]
fn the_next_group_protects_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=2, 1, 60));
    put(&mut wal, &entries(3..=3, 1, 60));
    drop(wal);
    let path = only_segment(dir.path());
    let first_group = FIRST + 2 * (HEADER_LEN + 60);
    with_flips(&path, FIRST..first_group, |_| drop(is_corrupt(look(dir.path(), SMALL), &path)));
    // Nothing says that the last group was synced. It is cut, never served.
    let end = first_group + STATE_LEN + HEADER_LEN + 60;
    with_flips(&path, first_group..end, |_| {
        let (found, recovered) = look(dir.path(), SMALL).unwrap();
        assert_eq!(found, entries(1..=2, 1, 60));
        assert!(recovered.torn.is_some());
    });
}

#[test]
fn any_flip_in_a_sealed_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1024, sync: true };
    let (_, mut wal, _) = open(dir.path(), options).unwrap();
    put(&mut wal, &entries(1..=10, 1, 200));
    drop(wal);
    let path = &segments(dir.path())[0];
    // Else it would be found only later: by whoever reads it, or by the scrub.
    segments(dir.path()).iter().for_each(|path| drop(fs::remove_file(path.with_extension("sum"))));
    let used = FIRST + 4 * (HEADER_LEN + 200);
    assert!(used + HEADER_LEN + 200 > 1024);
    with_flips(path, 12..used, |_| drop(is_corrupt(look(dir.path(), options), path)));
    with_flips(path, used..1024, |_| {
        assert_eq!(look(dir.path(), options).unwrap().0, entries(1..=10, 1, 200));
    });
}

#[test]
fn zeroes_where_there_were_entries_are_damage_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=6, 1, 200));
    wal.mark().unwrap();
    drop(wal);
    let path = only_segment(dir.path());
    overwrite(&path, 512, &[0; 512]);
    is_corrupt(look(dir.path(), SMALL), &path);
}

#[test]
fn a_hole_is_damage_only_below_a_mark() {
    // Two unsynced groups, of which the first did not reach the disk.
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=1, 1, 60));
    let second = FIRST + HEADER_LEN + 60;
    for index in 2..=3 {
        let hard_state = Some(HardState { term: index, vote: 1, commit: 0 });
        wal.write(&Batch { hard_state, entries: entries(index..=index, 1, 60) }).unwrap();
        wal.flush().unwrap();
    }
    let unsynced = tempfile::tempdir().unwrap();
    copy_log(dir.path(), unsynced.path());
    overwrite(&only_segment(unsynced.path()), second, &[0; 20]);
    let (found, recovered) = look(unsynced.path(), SMALL).unwrap();
    assert_eq!(found, entries(1..=1, 1, 60));
    assert_eq!(recovered.torn.map(|(_, offset, _)| offset), Some(second as u64));
    assert!(fs::read(only_segment(unsynced.path())).unwrap()[second..].iter().all(|byte| *byte == 0));

    // The same hole, after the sync.
    wal.sync().unwrap();
    wal.mark().unwrap();
    drop(wal);
    overwrite(&only_segment(dir.path()), second, &[0; 20]);
    is_corrupt(look(dir.path(), SMALL), &only_segment(dir.path()));
}

#[test]
fn damage_under_a_running_node_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=3, 1, 60));
    let path = only_segment(dir.path());
    let second = FIRST + HEADER_LEN + 60;
    with_flips(&path, second..second + HEADER_LEN + 60, |_| {
        let error = log.entries(1, 4, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        let text = error.to_string();
        assert!(text.contains(".seg") && text.contains(&format!("byte {second}")), "{text}");
    });
    assert_eq!(all(&log), entries(1..=3, 1, 60));
}

#[test]
fn a_frame_inside_a_payload_is_never_taken_for_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    put(&mut wal, &entries(1..=3, 1, 60));
    drop(wal);
    let path = only_segment(dir.path());
    // The worst a payload can carry: a true mark of this segment, from another place, that covers all of it.
    let seed = Seed::new(u64_at(&fs::read(&path).unwrap(), 24));
    let mark = encode_state(seed, 5, &StateFrame { hard_state: HardState::default(), synced_to: 1 << 19 });
    let carrier = Entry { data: Bytes::copy_from_slice(&mark), ..entry(4, 1, 0) };
    let (_, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    put(&mut wal, std::slice::from_ref(&carrier));
    drop(wal);
    assert_eq!(look(dir.path(), ROOMY).unwrap().0[3], carrier);
    // The carrier's own header is torn.
    overwrite(&path, FIRST + 3 * (HEADER_LEN + 60) + STATE_LEN, &[0; 2]);
    let (found, recovered) = look(dir.path(), ROOMY).unwrap();
    assert_eq!(found, entries(1..=3, 1, 60));
    assert!(recovered.torn.is_some());
}

#[test]
fn a_missing_or_foreign_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=60, 1, 200));
    drop(wal);
    let files = segments(dir.path());
    for missing in [0, 1] {
        let aside = dir.path().join("aside");
        fs::rename(&files[missing], &aside).unwrap();
        let error = look(dir.path(), SMALL).unwrap_err();
        let text = error.to_string();
        let number = u32::try_from(missing).unwrap() + 1;
        assert!(matches!(error, OpenError::Missing { sequence, .. } if sequence == number), "{text}");
        assert!(text.contains(files[missing + 1].file_name().unwrap().to_str().unwrap()), "{text}");
        fs::rename(&aside, &files[missing]).unwrap();
    }
    // Of another log, with the same name.
    let other = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(other.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=60, 1, 200));
    drop(wal);
    fs::copy(&segments(other.path())[1], &files[1]).unwrap();
    let text = is_corrupt(look(dir.path(), SMALL), &files[1]);
    assert!(text.contains("does not continue"), "{text}");
    // Under another name.
    let (renamed, new_name) = (&files[1], dir.path().join("log/0000000002-00000000000000000099.seg"));
    fs::rename(renamed, &new_name).unwrap();
    is_corrupt(look(dir.path(), SMALL), &new_name);
}
