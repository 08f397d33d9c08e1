//! However many segments a log has, few of its files are open; and what is being read outlives its file's
//! name.

use std::io::Read;

use super::super::{BackupSource, scrub, verify};
use super::*;

/// More segments than may be open.
const MANY: u64 = 300;

/// A log of one entry a segment.
fn long(dir: &Path) -> (Log, Wal, Recovered) {
    let (log, mut wal, recovered) = open(dir, SMALL).unwrap();
    wal.write(&batch(&entries(1..=MANY, 1, 2500))).unwrap();
    wal.sync().unwrap();
    assert!(segments(dir).len() as u64 >= MANY);
    (log, wal, recovered)
}

/// Files under `dir` that this process has open, deleted ones among them.
fn open_under(dir: &Path) -> usize {
    let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
    files.filter(|file| fs::read_link(file.path()).is_ok_and(|path| path.starts_with(dir))).count()
}

#[test]
fn a_log_of_many_segments_keeps_few_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let (log, wal, recovered) = long(dir.path());
    let few = || assert!(open_under(dir.path()) < 270, "{} files are open", open_under(dir.path()));
    few();
    assert_eq!(all(&log).len() as u64, MANY);
    few();
    scrub::scrub(&log, u64::MAX).unwrap();
    few();
    wal.close().unwrap();
    drop((log, recovered));
    assert_eq!(open_under(dir.path()), 0);
    let (log, wal, recovered) = open(dir.path(), SMALL).unwrap();
    few();
    assert_eq!(all(&log).len() as u64, MANY);
    few();
    drop((log, wal, recovered));
    assert!(verify::verify(dir.path(), |_| Ok(()), |_| true).unwrap().ok);
}

#[test]
fn a_copy_goes_on_when_the_log_lets_go_of_what_it_copies() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _wal, recovered) = long(dir.path());
    recovered.snapshots.write(&log, MANY - 2, 1, b"").unwrap();
    let copy = BackupSource::gather(&log, &recovered.snapshots).unwrap().unwrap();
    log.delete_before(MANY);
    for index in [MANY - 1, MANY] {
        recovered.snapshots.write(&log, index, 1, b"").unwrap();
    }
    assert!(segments(dir.path()).len() < 5, "the files are gone");
    for file in &copy.files {
        let mut bytes = Vec::new();
        file.reader().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, file.bytes, "{}", file.path);
    }
    drop(copy);
    assert!(open_under(dir.path()) < 10);
}
