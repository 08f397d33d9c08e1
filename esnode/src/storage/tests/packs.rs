//! Packs on a real disk: made, replaced, lost half-way, damaged, and brought to another node.

use std::ops::{ControlFlow, RangeInclusive};

use super::super::backup_source::BackupSource;
use super::super::log::packs::{self, Pack, PackWriter, Packs};
use super::super::transfer::commit;
use super::super::transfer::install;
use super::super::verify::verify;
use super::super::{Incoming, Outgoing, Staged};
use super::*;
use crate::batch_index::segment_index::Row;
use crate::batch_index::{BatchEntry, Content, Wanted};

const KEY: (u32, u32) = (1, 0);

/// Writes a pack of these entries, which has one batch of one record for each entry; the text makes it known.
fn write(packs: &Packs, entries: RangeInclusive<u64>, text: &str) -> PackWriter {
    let mut writer = packs.begin(entries.clone(), packs.epoch()).unwrap();
    for entry in entries.clone() {
        let bytes = format!("{text} {entry}");
        let base_offset = entry.cast_signed();
        let batch = BatchEntry { base_offset, records: 1, newest: 7, length: 0, content: Content::Batch };
        writer.push(batch, 1, bytes.as_bytes()).unwrap();
    }
    let offsets = entries.start().cast_signed()..entries.end().cast_signed() + 1;
    writer.end(Row::covering(KEY, offsets, 7));
    writer
}

fn put_pack(packs: &Packs, entries: RangeInclusive<u64>, text: &str) {
    assert!(packs.put(write(packs, entries, text)).unwrap());
}

/// Everything in a pack.
fn content(pack: &Pack) -> Vec<String> {
    let row = pack.index.row(KEY).unwrap().unwrap();
    let mut found = Vec::new();
    let flow = pack.index.batches(&row, Wanted::Offset(0), |indexed| {
        let bytes = pack.read(indexed.position.into(), indexed.batch.length as usize).unwrap();
        found.push(String::from_utf8(bytes.to_vec()).unwrap());
        ControlFlow::Continue(())
    });
    assert!(flow.unwrap().is_continue());
    found
}

fn all_packed(packs: &Packs) -> Vec<String> {
    packs.all().iter().flat_map(|pack| content(pack)).collect()
}

fn expected(entries: RangeInclusive<u64>, text: &str) -> Vec<String> {
    entries.map(|entry| format!("{text} {entry}")).collect()
}

/// The files of all packs.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut packs: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|found| found == "pack"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    packs.sort();
    packs
}

#[test]
fn a_pack_takes_the_place_of_others_whatever_a_power_cut_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let packs = Packs::open(dir.path()).unwrap();
    put_pack(&packs, 5..=9, "first");
    put_pack(&packs, 10..=12, "first");
    put_pack(&packs, 13..=20, "first");
    let held = packs.holding(11).unwrap();
    for (entries, all) in [
        (10..=12, [expected(5..=9, "first"), expected(10..=12, "second"), expected(13..=20, "first")]),
        (5..=12, [expected(5..=12, "second"), expected(13..=20, "first"), vec![]]),
    ] {
        let before = files(dir.path());
        put_pack(&packs, entries, "second");
        assert_eq!(all_packed(&packs), all.concat());
        // The files that were deleted are back, and the next one is not whole.
        before.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        fs::write(dir.path().join("pack.tmp"), "unfinished").unwrap();
        assert_eq!(all_packed(&Packs::open(dir.path()).unwrap()), all.concat());
    }
    assert_eq!(files(dir.path()).len(), 2);
    assert_eq!(content(&held), expected(10..=12, "first"), "whoever reads it goes on");
    assert_eq!((packs.entries(), packs.holding(4).is_none()), (Some(5..=20), true));
    packs.delete_before(13).unwrap();
    packs.delete_before(20).unwrap();
    let again = Packs::open(dir.path()).unwrap();
    assert_eq!((all_packed(&again), again.entries()), (expected(13..=20, "first"), Some(13..=20)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let packs = Packs::open(dir.path()).unwrap();
    put_pack(&packs, 1..=9, "first");
    let refused = |writer| assert!(!packs.put(writer).unwrap());
    refused(write(&packs, 11..=12, "a gap"));
    refused(write(&packs, 5..=12, "an overlap"));
    refused(write(&packs, 2..=9, "a part"));
    let late = write(&packs, 1..=9, "too late");
    put_pack(&packs, 1..=9, "second");
    refused(late);
    let late = write(&packs, 10..=12, "of packs that are gone");
    packs.replace_all(|| Ok(())).unwrap();
    refused(late);
    assert_eq!(all_packed(&packs), expected(1..=9, "second"));
    put_pack(&packs, 10..=12, "first");
    put_pack(&packs, 13..=14, "first");
    fs::remove_file(&files(dir.path())[1].0).unwrap();
    assert!(matches!(Packs::open(dir.path()), Err(OpenError::Corrupt { .. })), "one is missing");
}

#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let packs = Packs::open(dir.path()).unwrap();
    put_pack(&packs, 1..=3, "whole");
    let (path, good) = files(dir.path()).remove(0);
    let name = path.file_name().unwrap().to_str().unwrap();
    let check = || {
        let next = std::cell::Cell::new(1);
        let is_intact = |batch: &[u8]| batch == format!("whole {}", next.replace(next.get() + 1)).as_bytes();
        packs::open_to_read(dir.path(), name).is_ok_and(|pack| pack.check(is_intact).is_ok())
    };
    assert!(check());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bad).unwrap();
        assert!(!check(), "bit {bit}");
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(Packs::open(dir.path()).is_err(), "cut to {length}");
    }
}

/// A node whose first segments are packed.
fn packed(dir: &Path, text: &str) -> (Log, Wal, Recovered) {
    let (log, mut wal, recovered) = open(dir, SMALL).unwrap();
    put(&mut wal, &super::entries(1..=60, 1, 200));
    recovered.snapshots.write(&log, 60, 1, b"state").unwrap();
    let mut entry = 1;
    for up_to in [20, 40] {
        let end = log.sealed_between(entry, up_to).segments.len();
        assert!(end > 0);
        let next = log.with_index(|index| {
            index.span(up_to, up_to + 1).map(|span| index.first_in(span.position.segment))
        });
        let next = next.flatten().unwrap();
        put_pack(log.packs(), entry..=next - 1, text);
        entry = next;
    }
    log.delete_before(entry);
    (log, wal, recovered)
}

/// Brings everything to `dir`, as the connection would.
fn bring(outgoing: &Outgoing, dir: &Path) -> Staged {
    let (incoming, offer) = (Incoming::of(dir), outgoing.offer());
    incoming.begin(offer).unwrap();
    let packs = offer.packs.iter().flatten();
    for piece in offer.segments.iter().chain(packs.clone().map(|pack| &pack.piece)) {
        let bytes = outgoing.read(Some(piece.generation), 0, piece.length).unwrap();
        incoming.receive(*piece).unwrap().push(&bytes).unwrap();
    }
    let parts = offer.segments.iter().map(|piece| incoming.check(*piece).unwrap()).collect();
    let is_intact = |batch: &[u8]| batch.starts_with(b"theirs ");
    let packs = packs.map(|pack| incoming.check_pack(pack, is_intact).unwrap()).collect();
    let payload = outgoing.read(None, 0, offer.payload).unwrap();
    incoming.complete(offer, payload, parts, offer.packs.is_some().then_some(packs)).unwrap()
}

#[test]
fn a_node_that_lacks_what_is_packed_gets_the_packs_and_gives_up_its_own() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = packed(there.path(), "theirs");
    let (mine, mut wal, own) = open(here.path(), SMALL).unwrap();
    put(&mut wal, &super::entries(1..=5, 1, 200));
    put_pack(mine.packs(), 1..=2, "ours");
    put_pack(mine.packs(), 3..=4, "ours");
    let held = mine.packs().holding(3).unwrap();
    let outgoing = Outgoing::gather(&log, &recovered.snapshots, 5).unwrap().unwrap();
    let staged = bring(&outgoing, here.path());
    install(&mut wal, &own.snapshots, &staged, None).unwrap();
    let last = *log.packs().entries().unwrap().end();
    assert_eq!(all_packed(mine.packs()), expected(1..=last, "theirs"));
    assert_eq!((mine.first_index(), mine.last_index()), (last + 1, 60));
    assert_eq!(content(&held), expected(3..=4, "ours"), "whoever reads it goes on");
    drop(wal);
    let (mine, _wal, _) = open(here.path(), SMALL).unwrap();
    assert_eq!(all_packed(mine.packs()), expected(1..=last, "theirs"));
    // Who has all that is packed keeps its own.
    let outgoing = Outgoing::gather(&log, &recovered.snapshots, last).unwrap().unwrap();
    assert_eq!(outgoing.offer().packs, None);
}

#[test]
fn an_installation_that_a_crash_cut_short_is_finished() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, _wal, recovered) = packed(there.path(), "theirs");
    {
        let (mine, _wal, _) = open(here.path(), SMALL).unwrap();
        put_pack(mine.packs(), 1..=2, "ours");
    }
    let outgoing = Outgoing::gather(&log, &recovered.snapshots, 0).unwrap().unwrap();
    let staged = bring(&outgoing, here.path());
    let (mine, wal, _) = open(here.path(), SMALL).unwrap();
    let (header, end) = wal.position();
    let plan =
        mine.with_index(|index| install::Installation::plan(mine.start(), index, (header, end), &staged));
    let plan = plan.unwrap();
    drop(plan.stage(&Incoming::of(here.path()), &staged, HardState::default(), 4096).unwrap());
    commit::decide(here.path(), &plan.commit(&staged)).unwrap();
    drop((mine, wal));
    let (mine, _wal, _) = open(here.path(), SMALL).unwrap();
    let last = *log.packs().entries().unwrap().end();
    assert_eq!(all_packed(mine.packs()), expected(1..=last, "theirs"));
}

#[test]
fn backups_and_verification_know_packs() {
    let dir = tempfile::tempdir().unwrap();
    let (log, wal, recovered) = packed(dir.path(), "theirs");
    let copy = BackupSource::gather(&log, &recovered.snapshots).unwrap().unwrap();
    let packed: Vec<_> = copy.files.iter().filter(|file| file.path.ends_with(".pack")).collect();
    assert_eq!(packed.len(), 2);
    for (file, (path, bytes)) in packed.iter().zip(files(&dir.path().join("log"))) {
        let mut copied = Vec::new();
        std::io::Read::read_to_end(&mut file.reader(), &mut copied).unwrap();
        assert!(path.ends_with(&file.path) && copied == bytes);
    }
    drop((log, wal));
    let look = || verify(dir.path(), |_| Ok(()), |batch| batch.starts_with(b"theirs ")).unwrap();
    assert!(look().ok, "{:?}", look().findings);
    let (path, mut bytes) = files(&dir.path().join("log")).remove(1);
    bytes[3] ^= 1;
    fs::write(&path, bytes).unwrap();
    let verified = look();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(!verified.ok && verified.findings[0].file.ends_with(name), "{:?}", verified.findings);
}
