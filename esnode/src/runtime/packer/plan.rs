//! What to pack next. Pure.
//!
//! A pack is written only when that pays: to free space, to bring together what small partitions have in many places, or to
//! have fewer files. Whatever is not packed is complete, so packing never hurries, and the events that come in never wait for
//! it.

use std::ops::RangeInclusive;

/// Files that are packed together have at most so many times the bytes of a segment.
const GROUP: u64 = 4;
/// No pack has more bytes than positions in it can count.
const LARGEST: u64 = 2 << 30;
/// A full disk is no place for a large file: a pack takes at most this part of what is free.
const ROOM: u64 = 4;
/// So many small packs in a row become one.
const SMALL_PACKS: usize = 8;

/// A pack, or a segment that may be packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub entries: RangeInclusive<u64>,
    pub is_pack: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of it that are of events which are kept.
    pub live: u64,
    /// The same of the partition that has most.
    pub largest: u64,
}

/// The disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// Bytes of a segment.
    pub segment: u64,
    /// It is almost full.
    pub is_low: bool,
    pub free: u64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Delete the first packs, up to this entry.
    DeleteBefore(u64),
    /// Write a pack of these entries.
    Pack(RangeInclusive<u64>),
}

impl Unit {
    /// A pack that stays as it is: of `bytes`, where segments have `segment`.
    pub fn kept(entries: RangeInclusive<u64>, bytes: u64, segment: u64) -> Self {
        Self { entries, is_pack: true, bytes, live: bytes.max(segment), largest: bytes }
    }

    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }
}

/// Decides what to do next with these units, which are in the order of their entries, packs first, and without gaps. No entry
/// before `low_watermark` holds an event that is kept.
pub(super) fn next(units: &[Unit], low_watermark: u64, disk: Disk) -> Option<Work> {
    if units.first().is_some_and(|first| first.is_pack && *first.entries.end() < low_watermark) {
        return Some(Work::DeleteBefore(low_watermark));
    }
    // Others must not come to want because of this one.
    let room = if disk.is_low { disk.free / ROOM } else { disk.free.saturating_sub(2 * disk.segment) / 2 };
    let (packs, segments) = units.split_at(units.partition_point(|unit| unit.is_pack));
    let chosen = for_space(packs, segments, disk, room);
    let chosen = chosen.or_else(|| if disk.is_low { None } else { for_locality(segments, disk, room) });
    let chosen = chosen.or_else(|| if disk.is_low { None } else { small_packs(packs, disk, room) })?;
    Some(Work::Pack(*chosen.first()?.entries.start()..=*chosen.last()?.entries.end()))
}

/// The files that are worth being written again for the space that this frees, once too much of the disk is of deleted events.
fn for_space<'a>(packs: &'a [Unit], segments: &'a [Unit], disk: Disk, room: u64) -> Option<&'a [Unit]> {
    let all = || packs.iter().chain(segments);
    let (live, dead): (u64, u64) = (all().map(|unit| unit.live).sum(), all().map(Unit::dead).sum());
    let much = if disk.is_low { 0 } else { live / 4 + GROUP * disk.segment };
    if dead <= much {
        return None;
    }
    // No file is written again to free a seventh of it.
    let pays = |(live, dead): (u64, u64)| dead >= live / 6 && dead > 0;
    let in_a_row = |at: usize| packs[at..].iter().take_while(|pack| pays((pack.live, pack.dead()))).count();
    let of_packs = (0..packs.len()).map(|at| {
        let group = group(&packs[at..at + in_a_row(at)], disk, room);
        (group, sums(group))
    });
    // Segments leave the log from its beginning on only: the first ones go for the sake of those behind them.
    let first = group(segments, disk, room);
    let of_segments = (1..=segments.len()).map(|count| (first, sums(&segments[..count])));
    let enough = |sums: (u64, u64)| pays(sums) && sums.1 >= disk.segment / 4;
    let groups = of_packs.chain(of_segments).filter(|(group, sums)| !group.is_empty() && enough(*sums));
    let freed = |(live, dead): (u64, u64)| u128::from(dead) * 1_000_000 / u128::from(live + disk.segment / 8);
    groups.max_by_key(|(_, sums)| freed(*sums)).map(|(group, _)| group)
}

/// The longest group of units from the first on that becomes a pack of a good size and for which there is room.
fn group(units: &[Unit], disk: Disk, room: u64) -> &[Unit] {
    let limit = (GROUP * disk.segment).min(LARGEST).min(room);
    let mut live = 0;
    let fits = units.iter().take_while(|unit| {
        live += unit.live;
        live <= limit
    });
    let count = fits.count();
    // A single one that is larger may always be written again, if there is room.
    let count = if count == 0 && units.first().is_some_and(|first| first.live <= room) { 1 } else { count };
    &units[..count]
}

fn sums(units: &[Unit]) -> (u64, u64) {
    units.iter().fold((0, 0), |(live, dead), unit| (live + unit.live, dead + unit.dead()))
}

/// The first segments, if most are of many partitions, so that what one of them has lies in many places.
fn for_locality(segments: &[Unit], disk: Disk, room: u64) -> Option<&[Unit]> {
    let mixed =
        segments.iter().filter(|unit| unit.largest < unit.live / 2).map(|unit| unit.live).sum::<u64>();
    let all = sums(segments).0;
    let first = group(segments, disk, room);
    (mixed > all / 2 && !first.is_empty() && first.len() < segments.len()).then_some(first)
}

/// Small packs in a row.
fn small_packs(packs: &[Unit], disk: Disk, room: u64) -> Option<&[Unit]> {
    let is_small = |unit: &Unit| unit.live < disk.segment / 2;
    let runs = (0..packs.len()).map(|at| {
        let run = packs[at..].iter().take_while(|unit| is_small(unit)).count();
        group(&packs[at..at + run], disk, room)
    });
    runs.into_iter().find(|run| run.len() >= SMALL_PACKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Disk = Disk { segment: 100, is_low: false, free: 1 << 40 };

    fn units(packs: &[(u64, u64)], segments: &[(u64, u64)]) -> Vec<Unit> {
        let all = packs.iter().map(|unit| (true, unit)).chain(segments.iter().map(|unit| (false, unit)));
        let unit = |(number, (is_pack, &(bytes, live))): (u64, (bool, &(u64, u64)))| {
            let entries = number * 10 + 1..=number * 10 + 10;
            Unit { entries, is_pack, bytes, live, largest: live }
        };
        (0..).zip(all).map(unit).collect()
    }

    #[test]
    fn what_is_dead_goes_and_what_is_whole_stays() {
        let whole = units(&[(100, 90); 5], &[(100, 100); 50]);
        assert_eq!(next(&whole, 1, DISK), None);
        assert_eq!(next(&whole, 21, DISK), Some(Work::DeleteBefore(21)));
        let only_segments = units(&[], &[(100, 0); 5]);
        assert_eq!(next(&only_segments, 51, DISK), Some(Work::Pack(1..=50)));
    }

    #[test]
    fn the_pack_that_frees_most_is_written_again() {
        let mixed = units(&[(300, 290), (400, 350), (400, 20), (400, 30), (400, 390)], &[]);
        assert_eq!(next(&mixed, 1, DISK), Some(Work::Pack(21..=40)));
        // Little is dead of so much.
        let large = units(&[(400, 370); 100], &[]);
        assert_eq!(next(&large, 1, DISK), None);
    }

    #[test]
    fn segments_of_many_partitions_are_packed_in_groups() {
        let mut mixed = units(&[], &[(100, 99); 6]);
        assert_eq!(next(&mixed, 1, DISK), None, "one partition has it all");
        mixed.iter_mut().for_each(|unit| unit.largest = 9);
        assert_eq!(next(&mixed, 1, DISK), Some(Work::Pack(1..=40)));
        assert_eq!(next(&mixed[..4], 1, DISK), None, "not before the group is whole");
    }

    #[test]
    fn small_packs_become_one() {
        assert_eq!(next(&units(&[(400, 400), (0, 0)], &[]), 1, DISK), None);
        let small = units(&[&[(400, 400)], &[(30, 30); 9][..]].concat(), &[]);
        assert_eq!(next(&small, 1, DISK), Some(Work::Pack(11..=100)));
    }

    #[test]
    fn a_full_disk_is_freed_by_small_files() {
        let low = Disk { is_low: true, free: 100, ..DISK };
        let mixed = units(&[(400, 30), (400, 10)], &[(100, 40), (100, 5)]);
        assert_eq!(next(&mixed, 1, low), Some(Work::Pack(11..=20)));
        assert_eq!(next(&units(&[(400, 300)], &[]), 1, low), None, "there is no room for it");
    }

    /// Units as they are after some work.
    fn perform(units: &[Unit], work: &Work) -> Vec<Unit> {
        let Work::Pack(entries) = work else {
            return units.iter().filter(|unit| unit.live > 0).cloned().collect();
        };
        let is_in = |unit: &&Unit| entries.contains(unit.entries.start());
        let live = units.iter().filter(is_in).map(|unit| unit.live).sum();
        let largest = units.iter().filter(is_in).map(|unit| unit.largest).sum();
        let pack = Unit { entries: entries.clone(), is_pack: true, bytes: live, live, largest };
        let before = units.iter().filter(|unit| unit.entries.end() < entries.start()).cloned();
        let after = units.iter().filter(|unit| unit.entries.start() > entries.end()).cloned();
        before.chain([pack]).chain(after).collect()
    }

    #[test]
    fn work_ends_and_leaves_little_that_is_dead() {
        for seed in 0..2000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut some = |most: usize| -> Vec<(u64, u64)> {
                let count = rng.usize(..most);
                (0..count)
                    .map(|_| (rng.u64(1..500), rng.u64(1..500)))
                    .map(|(a, b)| (a.max(b), a.min(b)))
                    .collect()
            };
            let mut now = units(&some(20), &some(20));
            now.iter_mut().for_each(|unit| unit.largest = rng.u64(..=unit.live));
            let mut written = 0;
            let before: u64 = now.iter().map(|unit| unit.bytes).sum();
            while let Some(work) = next(&now, 1, DISK) {
                now = perform(&now, &work);
                written += 1;
                assert!(written < 100, "seed {seed} does not end");
            }
            let (live, dead) = sums(&now);
            let bytes: u64 = now.iter().map(|unit| unit.bytes).sum();
            assert!(bytes <= before);
            let unworthy: u64 = now.iter().map(|unit| (unit.live / 6).max(25)).sum();
            assert!(dead <= (live / 4 + 400).max(unworthy), "seed {seed}: {live} live, {dead} dead");
        }
    }
}
