//! The log as a whole: files on a real disk, opened again and again.

mod damage;
mod install;
mod model;
mod open_files;
mod packs;
mod power_cut;
mod snapshots;
mod verify;
mod writer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::{Batch, Log, OpenError, Options, Recovered, Wal, open};
use crate::entry::{Entry, EntryKind, HardState};

const SMALL: Options = Options { segment_bytes: 4096, sync: true };
const ROOMY: Options = Options { segment_bytes: 1 << 20, sync: true };

/// An entry whose data tell its index, its term and its place in the data.
fn entry(index: u64, term: u64, size: usize) -> Entry {
    let pattern = (index << 8 | term).to_le_bytes();
    // Not zero, or cutting them off would change nothing.
    let data = pattern.iter().map(|byte| byte ^ 0xa5).cycle().take(size).collect::<Vec<_>>();
    Entry { index, term, kind: EntryKind::Normal, data: Bytes::from(data) }
}

fn entries(indices: impl IntoIterator<Item = u64>, term: u64, size: usize) -> Vec<Entry> {
    indices.into_iter().map(|index| entry(index, term, size)).collect()
}

fn batch(entries: &[Entry]) -> Batch {
    Batch { hard_state: None, entries: entries.to_vec() }
}

fn put(wal: &mut Wal, entries: &[Entry]) {
    wal.write(&batch(entries)).unwrap();
    wal.sync().unwrap();
}

fn all(log: &Log) -> Vec<Entry> {
    log.entries(log.first_index(), u64::MAX, u64::MAX).unwrap()
}

/// Opens, reads everything, and closes without a trace.
fn look(dir: &Path, options: Options) -> Result<(Vec<Entry>, Recovered), OpenError> {
    let (log, _wal, recovered) = open(dir, options)?;
    Ok((all(&log), recovered))
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("log")).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).collect();
    segments.sort();
    segments
}

fn copy_log(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).unwrap();
    for segment in segments(from) {
        fs::copy(&segment, to.join("log").join(segment.file_name().unwrap())).unwrap();
    }
}

#[test]
fn an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (log, _wal, recovered) = open(dir.path(), SMALL).unwrap();
        assert_eq!((log.first_index(), log.last_index()), (1, 0));
        assert_eq!((log.term(0).unwrap(), log.term(1).unwrap()), (Some(0), None));
        assert_eq!(log.entries(1, 10, 1000).unwrap(), []);
        assert_eq!(recovered.hard_state, HardState::default());
        assert_eq!(recovered.torn, None);
    }
}

#[test]
fn written_is_visible_only_after_the_sync_and_there_when_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    let mut expected = entries(1..=5, 1, 100);
    expected.push(Entry { kind: EntryKind::ConfChange, ..entry(6, 1, 0) });
    expected.push(Entry { kind: EntryKind::ConfChangeV2, ..entry(7, 2, 100_000) });
    let hard_state = HardState { term: 2, vote: 3, commit: 4 };
    wal.write(&Batch { hard_state: Some(hard_state), entries: expected.clone() }).unwrap();
    assert_eq!((log.last_index(), all(&log)), (0, vec![]));
    wal.sync().unwrap();
    assert_eq!((log.last_index(), all(&log)), (7, expected.clone()));
    drop(wal);
    let (found, recovered) = look(dir.path(), ROOMY).unwrap();
    assert_eq!(found, expected);
    assert_eq!((recovered.hard_state, recovered.torn), (hard_state, None));
}

#[test]
fn a_commit_index_alone_is_not_synced_but_carried_along() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    let state = |commit| HardState { term: 1, vote: 1, commit };
    wal.write(&Batch { hard_state: Some(state(0)), entries: entries(1..=3, 1, 10) }).unwrap();
    wal.sync().unwrap();
    let before = log.stats().syncs.counts().sum::<u64>();
    wal.write(&Batch { hard_state: Some(state(2)), entries: vec![] }).unwrap();
    wal.sync().unwrap();
    assert_eq!(log.stats().syncs.counts().sum::<u64>(), before);
    wal.close().unwrap();
    assert_eq!(look(dir.path(), ROOMY).unwrap().1.hard_state, state(2));
}

#[test]
fn a_recovered_commit_index_is_inside_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    let hard_state = HardState { term: 1, vote: 1, commit: 9 };
    wal.write(&Batch { hard_state: Some(hard_state), entries: entries(1..=3, 1, 10) }).unwrap();
    wal.sync().unwrap();
    assert_eq!(look(dir.path(), ROOMY).unwrap().1.hard_state.commit, 3);
}

#[test]
fn without_sync_of_entries_a_vote_is_still_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), Options { sync: false, ..ROOMY }).unwrap();
    let syncs = || log.stats().syncs.counts().sum::<u64>();
    put(&mut wal, &entries(1..=3, 1, 10));
    assert_eq!((syncs(), log.last_index()), (0, 3));
    wal.write(&Batch { hard_state: Some(HardState { term: 2, vote: 0, commit: 0 }), entries: vec![] })
        .unwrap();
    wal.sync().unwrap();
    assert_eq!(syncs(), 1);
    wal.write(&Batch { hard_state: Some(HardState { term: 2, vote: 3, commit: 0 }), entries: vec![] })
        .unwrap();
    wal.sync().unwrap();
    assert_eq!(syncs(), 2);
}

#[test]
fn a_replaced_suffix_stays_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=40, 1, 200));
    put(&mut wal, &entries(21..=30, 2, 300));
    put(&mut wal, &entries(31..=35, 3, 10));
    put(&mut wal, &entries(34..=34, 4, 10));
    let mut expected = entries(1..=20, 1, 200);
    expected.extend(entries(21..=30, 2, 300));
    expected.extend(entries(31..=33, 3, 10));
    expected.extend(entries(34..=34, 4, 10));
    let check = |log: &Log| {
        assert_eq!(log.last_index(), 34);
        for low in 1..=34 {
            for high in low..=36 {
                let wanted = &expected[low - 1..(high - 1).min(34)];
                assert_eq!(log.entries(low as u64, high as u64, u64::MAX).unwrap(), wanted);
            }
        }
        let terms: Vec<_> = (1..=35).map(|index| log.term(index).unwrap()).collect();
        let wanted = expected.iter().map(|entry| Some(entry.term)).chain([None]);
        assert!(terms.into_iter().eq(wanted));
    };
    check(&log);
    drop(wal);
    let (log, _wal, _) = open(dir.path(), SMALL).unwrap();
    check(&log);
}

#[test]
fn even_the_whole_log_can_be_replaced_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=40, 1, 300));
    let rolled = segments(dir.path()).len();
    assert!(rolled > 2);
    put(&mut wal, &entries(1..=40, 2, 300));
    assert!(segments(dir.path()).len() > rolled);
    drop(wal);
    assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(1..=40, 2, 300));
}

#[test]
fn reads_keep_to_the_byte_limit_but_return_at_least_one() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut wal, _) = open(dir.path(), ROOMY).unwrap();
    put(&mut wal, &entries(1..=20, 1, 100));
    let count = |low, high, max| log.entries(low, high, max).unwrap().len();
    assert_eq!([0, 99, 100, 199, 200, 1000].map(|max| count(3, 21, max)), [1, 1, 1, 1, 2, 10]);
    assert_eq!((count(5, 5, 1000), count(21, 30, 1000), count(20, 90, 1000)), (0, 0, 1));
    assert_eq!(log.entries(0, 5, 10).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_gap_or_a_falling_term_is_refused_for_good() {
    let bad = [entries([3], 1, 1), entries([0], 1, 1), entries([2], 0, 1)];
    for bad in bad {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
        put(&mut wal, &entries([1], 1, 10));
        let error = wal.write(&batch(&bad)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
        let error = wal.sync().unwrap_err();
        assert!(error.to_string().contains("failed before"), "{error}");
        drop(wal);
        assert_eq!(look(dir.path(), SMALL).unwrap().0, entries([1], 1, 10));
    }
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_size() {
    for fill in [super::Fill::Nothing, super::Fill::Zeroes] {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut wal, _) = super::open_with(dir.path(), SMALL, fill).unwrap();
        put(&mut wal, &entries([1], 1, 10));
        put(&mut wal, &entries([2], 1, 16 << 20));
        put(&mut wal, &entries(3..=20, 1, 100));
        assert_eq!(log.entries(1, 21, u64::MAX).unwrap().len(), 20);
        drop(wal);
        assert_eq!(look(dir.path(), SMALL).unwrap().0.len(), 20);
    }
}

#[test]
fn a_failed_write_or_sync_is_never_retried() {
    // The kernel's own errors: /dev/full takes no bytes, /dev/null cannot be synced.
    for device in ["/dev/full", "/dev/null"] {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut wal, _) = open(dir.path(), ROOMY).unwrap();
        put(&mut wal, &entries([1], 1, 10));
        wal.redirect(File::options().write(true).open(device).unwrap());
        wal.write(&batch(&entries([2], 1, 10))).unwrap();
        wal.sync().unwrap_err();
        for _ in 0..2 {
            assert!(wal.sync().unwrap_err().to_string().contains("failed before"));
            assert!(wal.write(&Batch::default()).is_err());
        }
        assert_eq!(log.last_index(), 1, "an entry that may not be durable was shown");
        assert!(wal.close().is_err());
    }
}

#[test]
fn a_half_prepared_segment_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(1..=5, 1, 100));
    drop(wal);
    fs::write(dir.path().join("log/next.tmp"), b"rubbish").unwrap();
    let (_, mut wal, _) = open(dir.path(), SMALL).unwrap();
    put(&mut wal, &entries(6..=60, 1, 100));
    drop(wal);
    assert_eq!(look(dir.path(), SMALL).unwrap().0, entries(1..=60, 1, 100));
}

#[test]
fn a_roll_syncs_what_it_leaves_even_where_entries_are_not_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), Options { sync: false, ..SMALL }).unwrap();
    // Takes every byte, but cannot be synced.
    wal.redirect(File::options().write(true).open("/dev/null").unwrap());
    put(&mut wal, &entries(1..=3, 1, 1000));
    wal.write(&batch(&entries(4..=5, 1, 1000))).unwrap_err();
    assert_eq!(segments(dir.path()).len(), 1);
}

/// Offset of the first block that was only allocated, or the file's length; `None` while there is nothing in
/// it.
fn first_hole(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).ok()
}

#[test]
fn segments_double_and_are_zeroed_ahead_of_use() {
    let options = Options { segment_bytes: 64 << 20, sync: true };
    let (first, second) = (4 << 20, 8 << 20);
    let bare = tempfile::tempdir().unwrap();
    drop(super::open_with(bare.path(), options, super::Fill::Nothing).unwrap());
    let bare = first_hole(&segments(bare.path())[0]).unwrap();
    assert!(bare < first, "this file system does not tell allocated from written: nothing can be shown here");

    let dir = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = open(dir.path(), options).unwrap();
    assert_eq!(first_hole(&segments(dir.path())[0]), Some(first));
    let mut next = 1;
    let mut grow = |wal: &mut Wal| {
        put(wal, &entries([next], 1, 512 << 10));
        next += 1;
    };
    (0..5).for_each(|_| grow(&mut wal));
    // More than half is used: all of the next one is due.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while first_hole(&dir.path().join("log/next.tmp")) != Some(second) {
        assert!(std::time::Instant::now() < deadline, "the next segment is not being zeroed");
        std::thread::sleep(std::time::Duration::from_millis(10));
        // A wake-up may be missed once, by design.
        wal.mark().unwrap();
    }
    while segments(dir.path()).len() < 2 {
        grow(&mut wal);
    }
    assert_eq!(first_hole(&segments(dir.path())[1]), Some(second));
    drop(wal);
    assert_eq!(look(dir.path(), options).unwrap().0.len() as u64, next - 1);
}
