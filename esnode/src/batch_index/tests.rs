//! The index of a segment and the recent batches, against what was put into them.

use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::recent::{RecentBatch, RecentBatches};
use super::segment_index::{SegmentId, SegmentIndex, encode};
use super::{BatchEntry, Content, IndexedBatch, PartitionKey, Wanted};

const SEGMENT: SegmentId = SegmentId { sequence: 3, generation: 17, end: 1 << 30 };

/// Batches of one partition as (offsets that nothing has before it, records, position, length, newest, term), each counted
/// from the one before; the last one ends a transaction.
fn batches(steps: &[(u32, u32, u32, i64, u64)], base: i64) -> Vec<IndexedBatch> {
    let (mut offset, mut position, mut newest, mut term) = (base, 56, i64::MIN, 1);
    let each = |(number, step): (usize, &(u32, u32, u32, i64, u64))| {
        position += step.1;
        newest = newest.max(step.3);
        term += step.4;
        let content = if number + 1 == steps.len() { Content::EndOfTransaction } else { Content::Batch };
        let batch = BatchEntry { base_offset: offset, records: step.0, newest, length: step.2, content };
        offset += i64::from(step.0);
        IndexedBatch { batch, term, position }
    };
    steps.iter().enumerate().map(each).collect()
}

fn index(partitions: &[(PartitionKey, Vec<IndexedBatch>)]) -> (Bytes, SegmentIndex<Bytes>) {
    let bytes = Bytes::from(encode(SEGMENT, &(5..=900), partitions));
    let index = SegmentIndex::open(bytes.clone(), bytes.len() as u64).unwrap();
    assert_eq!(index.id(), SEGMENT);
    (bytes, index)
}

fn found(index: &SegmentIndex<Bytes>, key: PartitionKey, wanted: Wanted) -> Vec<IndexedBatch> {
    let mut found = Vec::new();
    if let Some(row) = index.row(key).unwrap() {
        let all = index.batches(&row, wanted, |batch| {
            found.push(batch);
            ControlFlow::Continue(())
        });
        assert!(all.unwrap().is_continue());
    }
    found
}

proptest! {
    #[test]
    fn every_batch_is_found_by_offset_and_by_time(
        steps in prop::collection::vec((1..2000u32, 0..70_000u32, 1..2_000_000u32, -1..5000i64, 0..2u64), 1..2000),
        others in 0..400u32,
        asked in prop::collection::vec((0..4_000_000i64, -2..5001i64), 1..20),
    ) {
        let own = (7, others / 2);
        let mut partitions: Vec<_> =
            (0..others).filter(|other| *other != own.1).map(|other| ((7, other), batches(&[(1, 0, 70, 5, 0)], 0))).collect();
        let wanted = batches(&steps, 100);
        partitions.push((own, wanted.clone()));
        partitions.sort_unstable_by_key(|(key, _)| *key);
        let (_, index) = index(&partitions);
        for (offset, time) in asked {
            let by_offset: Vec<_> = wanted.iter().filter(|batch| batch.batch.end_offset() > offset).copied().collect();
            prop_assert_eq!(found(&index, own, Wanted::Offset(offset)), by_offset);
            let by_time: Vec<_> = wanted.iter().filter(|batch| batch.batch.newest >= time).copied().collect();
            prop_assert_eq!(found(&index, own, Wanted::Time(time)), by_time);
        }
        for (key, batches) in &partitions {
            prop_assert_eq!(&found(&index, *key, Wanted::Offset(0)), batches);
        }
        let rows: Vec<_> = index.rows().map(Result::unwrap).collect();
        prop_assert_eq!(rows.len(), partitions.len());
        for row in rows {
            prop_assert_eq!(index.row(row.key).unwrap(), Some(row));
        }
        prop_assert_eq!(index.row((8, 0)).unwrap(), None);
        prop_assert_eq!(index.row((7, others + 1)).unwrap(), None);
    }
}

#[test]
fn any_flipped_bit_and_any_cut_is_noticed_or_changes_nothing() {
    let partitions = [
        ((1, 0), batches(&[(5, 10, 70, 9, 0), (1, 80, 90, 7, 1)], 0)),
        ((1, 2), batches(&[(1, 0, 70, 1, 0)], 4)),
    ];
    let (good, index) = index(&partitions);
    assert_eq!(index.entries(), &(5..=900));
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let read = || {
            let index = SegmentIndex::open(Bytes::from(bad.clone()), bad.len() as u64)?;
            let mut found = Vec::new();
            for key in [(1, 0), (1, 2)] {
                let row = index.row(key)?.expect("in the filter");
                let _ = index.batches(&row, Wanted::Offset(0), |batch| {
                    found.push(batch);
                    ControlFlow::Continue(())
                })?;
            }
            std::io::Result::Ok(found)
        };
        assert!(read().is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        let cut = good.slice(..length);
        assert!(SegmentIndex::open(cut, length as u64).is_err(), "cut to {length}");
    }
}

fn recent(entry: u64, base_offset: i64, newest: i64) -> RecentBatch {
    let batch = BatchEntry { base_offset, records: 10, newest, length: 100, content: Content::Batch };
    RecentBatch { batch, entry, offset: 13 }
}

#[test]
fn recent_batches_are_found_until_they_are_forgotten() {
    let batches = RecentBatches::since_entry(4);
    let all = [recent(4, 0, 5), recent(5, 10, 5), recent(7, 20, 9)];
    all.iter().for_each(|batch| batches.push((1, 0), *batch));
    let find = |wanted, bytes| batches.find((1, 0), wanted, bytes);
    assert_eq!(find(Wanted::Offset(9), 1000), all);
    assert_eq!(find(Wanted::Offset(10), 200), all[1..]);
    assert_eq!(find(Wanted::Offset(10), 1), all[1..2], "one comes, however little is wanted");
    assert_eq!((find(Wanted::Time(6), 1000), find(Wanted::Time(10), 1000)), (all[2..].to_vec(), vec![]));
    assert_eq!(batches.find((1, 1), Wanted::Offset(0), 1000), []);
    assert_eq!(batches.of_entries(&(5..=6)), [((1, 0), vec![all[1]])]);
    batches.forget(5);
    assert_eq!((batches.since(), find(Wanted::Offset(0), 1000)), (6, all[2..].to_vec()));
    batches.extend_back(4, 5, [((1, 0), all[..2].to_vec())]);
    assert_eq!(batches.since(), 6, "they would not join");
    batches.extend_back(4, 6, [((1, 0), all[..2].to_vec())]);
    assert_eq!((batches.since(), find(Wanted::Offset(0), 1000)), (4, all.to_vec()));
    batches.restart(90);
    assert_eq!((batches.since(), find(Wanted::Offset(0), 1000)), (90, vec![]));
}

#[test]
fn the_committed_seeds_of_indexes() {
    let small = [
        ((1, 0), batches(&[(5, 10, 70, 9, 0), (1, 80, 90, 7, 1)], 0)),
        ((1, 1), batches(&[(1, 0, 70, 1, 0)], 4)),
    ];
    let long = [((7, 3), batches(&[(3, 100, 90, 5, 0); 900], 0))];
    let seeds = [("empty", &[][..]), ("small", &small), ("long", &long)];
    let encoded = |partitions| encode(SEGMENT, &(5..=900), partitions);
    crate::fuzz::seeds::check(
        "index",
        &seeds.map(|(name, partitions)| (name.to_owned(), encoded(partitions))).into(),
    );
}
