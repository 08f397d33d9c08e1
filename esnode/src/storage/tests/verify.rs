//! Whatever byte is flipped, it is found and named, and looking changes nothing.

use std::os::unix::fs::FileExt;

use shared::verified::Verified;

use super::super::log::frame::STATE_LEN;
use super::super::verify::verify;
use super::*;

fn look_at(dir: &Path) -> Verified {
    verify(
        dir,
        |payload| if payload == b"state" { Ok(()) } else { Err("other content".to_owned()) },
        |batch| batch != b"bad",
    )
    .unwrap()
}

/// A log of several segments with two snapshots, ended in good order.
fn written(dir: &Path) {
    let (log, mut wal, recovered) = open(dir, SMALL).unwrap();
    for index in 1..=60 {
        put(&mut wal, &entries([index], 1, 300));
        if index % 20 == 0 {
            recovered.snapshots.write(&log, index, 1, b"state").unwrap();
        }
    }
    wal.close().unwrap();
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in ["log", "checkpoints"] {
        for file in fs::read_dir(dir.join(folder)).unwrap() {
            let path = file.unwrap().path();
            // A segment that was being made ready holds nothing.
            if !path.ends_with("next.tmp") {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_whole_is_called_whole_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let before = files(dir.path());
    let verified = look_at(dir.path());
    assert_eq!(verified.findings, []);
    assert_eq!((verified.first_index, verified.last_index, verified.snapshot), (1, 60, 60));
    assert!(verified.segments > 3, "{verified:?}");
    assert!(files(dir.path()) == before, "looking has changed something");
}

#[test]
fn any_flipped_byte_is_named() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    for (path, good) in files(dir.path()) {
        let name = path.strip_prefix(dir.path()).unwrap().display().to_string();
        let file = File::options().write(true).open(&path).unwrap();
        for at in (0..good.len()).step_by(7) {
            file.write_all_at(&[good[at] ^ 1 << (at % 8)], at as u64).unwrap();
            let verified = look_at(dir.path());
            let found = verified.findings.iter().find(|finding| finding.file == name);
            let found = found.unwrap_or_else(|| panic!("{name}, byte {at}: {verified:?}"));
            assert!(found.offset <= at as u64, "{name}, byte {at}: {found:?}");
            // In front of the log's end a start would refuse it. The last frame is the mark of a writer that
            // has ended: nothing behind it vouches for it, and nothing is lost with it.
            let last = good.iter().rposition(|byte| *byte != 0).unwrap_or_default() as u64;
            let mark = found.offset + STATE_LEN as u64 > last && name.ends_with(".seg");
            assert!(found.harmless == name.ends_with(".sum") || mark, "{name}, byte {at}: {found:?}");
            file.write_all_at(&good[at..=at], at as u64).unwrap();
        }
    }
    assert_eq!(look_at(dir.path()).findings, []);
}

#[test]
fn a_missing_segment_and_a_lost_end_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let paths = segments(dir.path());
    let aside = dir.path().join("aside");
    for path in [&paths[0], &paths[2], paths.last().unwrap()] {
        fs::rename(path, &aside).unwrap();
        let verified = look_at(dir.path());
        assert!(!verified.ok, "without {}: {verified:?}", path.display());
        fs::rename(&aside, path).unwrap();
    }
    assert!(look_at(dir.path()).ok);
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    put(&mut wal, &entries(1..=3, 1, 100));
    wal.write(&batch(&entries([4], 1, 100))).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let path = &segments(dir.path())[0];
    let good = fs::read(path).unwrap();
    let end = good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut torn = good.clone();
    torn[end - 50] ^= 1;
    fs::write(path, torn).unwrap();
    let verified = look_at(dir.path());
    assert!(verified.ok && verified.findings.len() == 1, "{verified:?}");
    assert!(verified.findings[0].reason.contains("torn tail"), "{verified:?}");
}
