//! Snapshots: whole or passed over, never half believed; and a log that begins where they say.

use super::super::{LogStart, Snapshot, is_full, scrub};
use super::*;

fn snapshot_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("checkpoints")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "ckpt")).collect();
    files.sort();
    files
}

fn index_of(found: Option<&Snapshot>) -> Option<u64> {
    found.map(|snapshot| snapshot.index)
}

/// A log of 60 entries in small segments, with a snapshot after each of these.
fn with_snapshots(dir: &Path, indices: &[u64]) {
    let (log, mut wal, recovered) = open(dir, SMALL).unwrap();
    put(&mut wal, &entries(1..=60, 1, 200));
    for index in indices {
        recovered.snapshots.write(&log, *index, 1, format!("state {index}").as_bytes()).unwrap();
    }
    wal.close().unwrap();
}

#[test]
fn the_newest_two_are_kept_and_the_newest_is_found() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[10, 25, 40]);
    assert_eq!(snapshot_files(dir.path()).len(), 2);
    for _ in 0..2 {
        let (found, recovered) = look(dir.path(), SMALL).unwrap();
        let expected = Snapshot {
            index: 40,
            term: 1,
            start: LogStart::default(),
            payload: Bytes::from_static(b"state 40"),
        };
        assert_eq!((found.len(), recovered.snapshot, recovered.damaged), (60, Some(expected), vec![]));
    }
    // The same one written again takes no other's place.
    let (log, _wal, recovered) = open(dir.path(), SMALL).unwrap();
    recovered.snapshots.write(&log, 40, 1, b"again").unwrap();
    assert_eq!(snapshot_files(dir.path()).len(), 2);
}

#[test]
fn one_torn_at_any_byte_or_with_any_bit_flipped_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[10, 25]);
    let newest = snapshot_files(dir.path()).pop().unwrap();
    let good = fs::read(&newest).unwrap();
    let cuts = (0..good.len()).map(|length| good[..length].to_vec());
    let flips = (0..good.len() * 8).map(|bit| {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    });
    let longer = [&good[..], b"x"].concat();
    for bad in cuts.chain(flips).chain([longer, vec![0; good.len()]]) {
        fs::write(&newest, &bad).unwrap();
        let recovered = look(dir.path(), SMALL).unwrap().1;
        assert_eq!(index_of(recovered.snapshot.as_ref()), Some(10), "{bad:?}");
        let [(file, _)] = &recovered.damaged[..] else { panic!("{:?}", recovered.damaged) };
        assert!(newest.to_str().unwrap().ends_with(file.as_str()), "{file}");
    }
    // Under another's name it is no better.
    fs::write(newest.with_file_name(format!("{:020}.ckpt", 26)), &good).unwrap();
    let recovered = look(dir.path(), SMALL).unwrap().1;
    assert_eq!((index_of(recovered.snapshot.as_ref()), recovered.damaged.len()), (Some(10), 2));
}

#[test]
fn without_any_the_whole_log_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[10, 25]);
    for file in snapshot_files(dir.path()) {
        fs::write(file, b"").unwrap();
    }
    let (log, wal, recovered) = open(dir.path(), SMALL).unwrap();
    assert_eq!((all(&log).len(), recovered.snapshot, recovered.damaged.len()), (60, None, 2));
    // The next one cleans up.
    recovered.snapshots.write(&log, 30, 1, b"").unwrap();
    drop(wal);
    assert_eq!(snapshot_files(dir.path()).len(), 1);
    assert_eq!(index_of(look(dir.path(), SMALL).unwrap().1.snapshot.as_ref()), Some(30));
}

#[test]
fn a_later_format_is_told_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[10]);
    let file = &snapshot_files(dir.path())[0];
    let mut bytes = fs::read(file).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..68]);
    bytes[68..72].copy_from_slice(&crc.to_le_bytes());
    fs::write(file, bytes).unwrap();
    assert!(matches!(look(dir.path(), SMALL), Err(OpenError::Version { found: 2, known: 1, .. })));
}

/// A power cut leaves the directory as it was before a rename or as it is after it, and of a file that was
/// not synced any part. Only what had been synced is renamed, so these are all the states there are.
#[test]
fn a_power_cut_while_one_is_written_leaves_the_old_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[10, 25]);
    let newest = snapshot_files(dir.path()).pop().unwrap();
    let unfinished = newest.with_file_name("next.tmp");
    let good = fs::read(&newest).unwrap();
    fs::rename(&newest, newest.with_extension("aside")).unwrap();
    for length in 0..=good.len() {
        fs::write(&unfinished, &good[..length]).unwrap();
        let recovered = look(dir.path(), SMALL).unwrap().1;
        assert_eq!((index_of(recovered.snapshot.as_ref()), recovered.damaged), (Some(10), vec![]));
        assert!(!unfinished.exists());
    }
    fs::rename(newest.with_extension("aside"), &newest).unwrap();
    assert_eq!(index_of(look(dir.path(), SMALL).unwrap().1.snapshot.as_ref()), Some(25));
}

#[test]
fn a_full_disk_costs_only_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[10, 25]);
    let (log, _wal, recovered) = open(dir.path(), SMALL).unwrap();
    // The kernel's own error: /dev/full takes no bytes.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("checkpoints/next.tmp")).unwrap();
    let error = recovered.snapshots.write(&log, 40, 1, b"state").unwrap_err();
    assert!(is_full(&error), "{error}");
    assert_eq!(index_of(look(dir.path(), SMALL).unwrap().1.snapshot.as_ref()), Some(25));
    recovered.snapshots.write(&log, 40, 1, b"state").unwrap();
    assert_eq!(index_of(look(dir.path(), SMALL).unwrap().1.snapshot.as_ref()), Some(40));
}

#[test]
fn a_log_that_ends_before_its_snapshot_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, recovered) = open(dir.path(), ROOMY).unwrap();
    put(&mut wal, &entries(1..=5, 1, 100));
    recovered.snapshots.write(&log, 5, 1, b"").unwrap();
    drop(wal);
    // No mark covers the last entry: without the snapshot this would be a torn tail.
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    fs::write(path, &bytes).unwrap();
    let error = look(dir.path(), ROOMY).unwrap_err();
    assert!(matches!(error, OpenError::Lost { index: 5, .. }), "{error}");
    assert!(error.to_string().contains("it ends at entry 4") && error.to_string().contains("add it again"));
    assert!(fs::read(path).unwrap() == bytes, "nothing was changed on disk");
    for segment in segments(dir.path()) {
        fs::remove_file(segment).unwrap();
    }
    assert!(matches!(look(dir.path(), ROOMY), Err(OpenError::Lost { .. })));
}

#[test]
fn without_sync_of_entries_a_snapshot_syncs_them_first() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, recovered) = open(dir.path(), Options { sync: false, ..ROOMY }).unwrap();
    put(&mut wal, &entries(1..=3, 1, 10));
    recovered.snapshots.write(&log, 3, 1, b"").unwrap();
    // A segment that takes every byte but cannot be synced must not get a snapshot.
    log.replace_last(File::options().write(true).open("/dev/null").unwrap());
    recovered.snapshots.write(&log, 3, 1, b"").unwrap_err();
}

/// Retires what comes before `index`, and writes a snapshot after entry `at`.
fn delete(log: &Log, recovered: &Recovered, index: u64, at: u64) {
    log.delete_before(index);
    recovered.snapshots.write(log, at, log.term(at).unwrap().unwrap(), b"").unwrap();
}

#[test]
fn deleted_segments_are_gone_for_readers_at_once_and_from_the_disk_after_two_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, recovered) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=60, 1, 200));
    let files = segments(dir.path()).len();
    let bytes = log.stats().log_bytes.load(Relaxed);
    delete(&log, &recovered, 30, 40);
    let first = log.first_index();
    assert!((2..=30).contains(&first), "whole segments only: {first}");
    assert_eq!((log.term(first - 1).unwrap(), log.term(first - 2).unwrap()), (Some(1), None));
    assert_eq!(log.entries(first - 1, 60, 1).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(all(&log), entries(first..=60, 1, 200));
    assert!(log.stats().log_bytes.load(Relaxed) < bytes);
    assert_eq!(segments(dir.path()).len(), files, "one snapshot is no way back");
    recovered.snapshots.write(&log, 50, 1, b"").unwrap();
    let left = segments(dir.path()).len();
    assert!(left < files);
    assert_eq!(log.stats().segments.load(Relaxed), left as u64);
    drop(wal);

    // Either snapshot is enough to start from, and the log goes on.
    let newest = snapshot_files(dir.path()).pop().unwrap();
    for _ in 0..2 {
        let (log, mut wal, _) = open(dir.path(), SMALL).unwrap();
        assert_eq!((log.first_index(), log.term(first - 1).unwrap()), (first, Some(1)));
        let last = log.last_index();
        put(&mut wal, &entries([last + 1], 1, 200));
        assert_eq!(all(&log), entries(first..=last + 1, 1, 200));
        fs::write(&newest, b"").unwrap();
    }
    // With none the log's start is not known.
    snapshot_files(dir.path()).into_iter().for_each(|file| fs::write(file, b"").unwrap());
    let error = look(dir.path(), SMALL).unwrap_err();
    assert!(matches!(error, OpenError::Snapshot { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(newest.file_name().unwrap().to_str().unwrap()) && text.contains("add it again"));
}

#[test]
fn the_segment_in_use_is_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, recovered) = open(dir.path(), SMALL).unwrap();
    log.delete_before(7);
    put(&mut wal, &entries(1..=60, 1, 200));
    delete(&log, &recovered, u64::MAX, 59);
    delete(&log, &recovered, u64::MAX, 60);
    assert_eq!((segments(dir.path()).len(), log.last_index()), (1, 60));
    drop(wal);
    let (log, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(61..=80, 1, 200));
    assert_eq!(all(&log), entries(log.first_index()..=80, 1, 200));
}

#[test]
fn a_crash_between_deletions_is_no_obstacle_but_a_lost_segment_is() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, recovered) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=60, 1, 200));
    delete(&log, &recovered, 40, 41);
    let first = log.first_index();
    drop(wal);
    // Some of the deleted are gone, in any order.
    let files = segments(dir.path());
    fs::remove_file(&files[1]).unwrap();
    assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(first..=60, 1, 200));
    fs::remove_file(&files[0]).unwrap();
    assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(first..=60, 1, 200));
    // The first that is still needed.
    let name = files.iter().find(|path| path.to_str().unwrap().contains(&format!("-{first:020}"))).unwrap();
    fs::remove_file(name).unwrap();
    assert!(matches!(look(dir.path(), SMALL), Err(OpenError::Missing { .. })));
}

#[test]
fn a_replaced_suffix_survives_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, recovered) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=40, 1, 300));
    // Replaced twice in one segment, the second time below where that segment began.
    put(&mut wal, &entries(35..=37, 2, 300));
    put(&mut wal, &entries(30..=60, 3, 300));
    delete(&log, &recovered, 33, 45);
    delete(&log, &recovered, 33, 46);
    let expected = all(&log);
    assert!(log.first_index() > 1 && log.term(log.first_index() - 1).unwrap().is_some());
    drop(wal);
    for path in segments(dir.path()) {
        let _ = fs::remove_file(path.with_extension("sum"));
    }
    assert_eq!(look(dir.path(), SMALL).unwrap().0, expected, "by reading the segments");
    assert_eq!(look(dir.path(), SMALL).unwrap().0, expected, "by their footers");
}

#[test]
fn a_footer_that_is_not_whole_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[]);
    let summary = segments(dir.path())[0].with_extension("sum");
    let good = fs::read(&summary).unwrap();
    for length in 0..good.len() {
        fs::write(&summary, &good[..length]).unwrap();
        assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(1..=60, 1, 200));
        assert!(fs::read(&summary).unwrap() == good, "it is written anew");
    }
    fs::remove_file(&summary).unwrap();
    assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(1..=60, 1, 200));
}

#[test]
fn damage_behind_a_footer_is_found_refused_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path(), &[]);
    let path = &segments(dir.path())[0];
    let (summary, good) = (fs::read(path.with_extension("sum")).unwrap(), fs::read(path).unwrap());
    let used = 4096 - 225;
    for offset in (56..used).step_by(7) {
        let mut bad = good.clone();
        bad[offset] ^= 1 << (offset % 8);
        fs::write(path, &bad).unwrap();
        fs::write(path.with_extension("sum"), &summary).unwrap();
        let (log, _wal, _) = open(dir.path(), SMALL).unwrap();
        // Whoever meets it first: a reader, unless it is where no entry lies, or the scrub.
        if offset % 2 == 0 {
            if let Ok(found) = log.entries(1, 61, u64::MAX) {
                assert!(offset < 97 && found == entries(1..=60, 1, 200), "byte {offset}");
                continue;
            }
        } else {
            let error = scrub::scrub(&log, u64::MAX).unwrap_err();
            assert!(matches!(error, OpenError::Corrupt { .. }), "byte {offset}: {error}");
        }
        let error = look(dir.path(), SMALL).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "byte {offset}: {error}");
    }
    fs::write(path, &good).unwrap();
    let (log, _wal, _) = open(dir.path(), SMALL).unwrap();
    scrub::scrub(&log, u64::MAX).unwrap();
}
