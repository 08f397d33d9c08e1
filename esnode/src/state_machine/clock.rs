//! The log's clock: tells about when each entry was appended. Leaders write the time into the log itself, as ticks, so
//! all replicas compute the same.
//!
//! At its first tick the clock is set to the time of day. From then on a leader advances it by its monotonic clock (the
//! replica's `log_time` does so), and it never goes back. Its absolute time may thus be off by as much as a leader's
//! wall clock once was; only the difference between two of its times means anything.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The first on-disk format in which the log has a clock.
pub const CLOCK_FORMAT: u16 = 2;
/// A leader writes a tick before it appends events, if its last tick is older than this, in milliseconds. So an event
/// was appended at most this long after the last tick before it.
pub const TICK_MS: i64 = 1000;
/// Largest number of runs that are kept. When there would be more, slots are made longer.
const MAX_RUNS: usize = 4096;
/// Number of ticks after which runs that nobody needs any more are removed.
const PRUNE_INTERVAL_TICKS: u64 = 1024;

/// The time, as a leader writes it into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The log's time, in ms since 1970.
    pub ms: i64,
    /// Time of day by the leader's own clock, in ms since 1970. A later leader compares it with its own to learn how
    /// long no node led.
    pub wall: i64,
    /// More time may have passed than `ms` says: the leader does not trust its wall clock yet, which alone tells how
    /// long no node led.
    pub doubted: bool,
    /// Set in the tick that ends a doubt: how much of the advance of `ms`, in ms, passed before the doubt began and was
    /// not known until now. 0 if no more time had passed than was known.
    pub made_up: i64,
}

/// When entries were appended. Time is divided into slots, and a run is the sequence of entries that were appended in
/// one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogClock {
    latest: Option<Tick>,
    /// The first entry that was appended in doubt, as long as the doubt lasts.
    doubted_from: Option<u64>,
    /// For each run its first entry, and the end of its slot in ms: a time after all ticks of the run.
    /// Shared with clones until one side changes it.
    runs: Arc<Vec<(u64, i64)>>,
    /// The length of a slot is [`TICK_MS`], doubled this many times.
    doublings: u32,
    ticks: u64,
}

impl LogClock {
    /// Returns the last tick; `None` before the first one.
    pub fn latest(&self) -> Option<Tick> {
        self.latest
    }

    /// Returns the latest time at which entry `index` can have been appended, in ms of the log's time; `None` before
    /// the clock's first tick. It was appended at most a slot and [`TICK_MS`] earlier. Entries before the first tick
    /// count as appended with it.
    pub fn appended_at(&self, index: u64) -> Option<i64> {
        let after = self.runs.partition_point(|run| run.0 <= index);
        self.runs.get(after.saturating_sub(1)).map(|run| run.1.saturating_add(TICK_MS))
    }

    /// Returns the first entry that may have been appended at or after `ms`; `u64::MAX` if all entries are older;
    /// `None` before the clock's first tick.
    pub fn first_since(&self, ms: i64) -> Option<u64> {
        match self.runs.partition_point(|run| run.1.saturating_add(TICK_MS) < ms) {
            _ if self.runs.is_empty() => None,
            // Entries before the first tick belong to it too.
            0 => Some(0),
            older => Some(self.runs.get(older).map_or(u64::MAX, |run| run.0)),
        }
    }

    /// Applies a tick that was written as entry `index`. `low_watermark` returns the oldest entry whose time anybody
    /// may still ask for.
    pub(super) fn tick(&mut self, index: u64, tick: Tick, low_watermark: impl FnOnce() -> u64) {
        if self.latest.is_some_and(|latest| tick.ms < latest.ms) {
            return;
        }
        self.latest = Some(tick);
        let until = self.slot(tick.ms).saturating_add(1).saturating_mul(self.slot_length());
        if tick.doubted && self.doubted_from.is_none() {
            // These entries get a run of their own, because the end of the doubt may move its time.
            self.doubted_from = Some(index);
            Arc::make_mut(&mut self.runs).push((index, until));
        }
        if let Some(from) = self.doubted_from.take_if(|_| !tick.doubted) {
            // When the doubt ends, the clock leaps forward. What was appended in doubt leaps with it, so that it grows
            // no older.
            let doubted = Arc::make_mut(&mut self.runs).iter_mut().filter(|run| run.0 >= from);
            doubted.for_each(|run| run.1 = run.1.saturating_add(tick.made_up.max(0)).min(until));
        }
        if self.runs.last().is_none_or(|run| run.1 <= tick.ms) {
            Arc::make_mut(&mut self.runs).push((index, until));
        }
        self.ticks += 1;
        if self.runs.len() > MAX_RUNS || self.ticks.is_multiple_of(PRUNE_INTERVAL_TICKS) {
            self.prune(low_watermark());
        }
    }

    /// Removes the runs before `low_watermark`. Then doubles the slots until there are few enough runs, or halves them
    /// if there are very few.
    fn prune(&mut self, low_watermark: u64) {
        let after = self.runs.partition_point(|run| run.0 <= low_watermark);
        Arc::make_mut(&mut self.runs).drain(..after.saturating_sub(1));
        if self.runs.len() < MAX_RUNS / 8 {
            self.doublings = self.doublings.saturating_sub(1);
        }
        while self.runs.len() > MAX_RUNS {
            self.doublings += 1;
            let length = self.slot_length();
            Arc::make_mut(&mut self.runs).dedup_by(|next, run| {
                let same = (next.1 - 1).div_euclid(length) == (run.1 - 1).div_euclid(length);
                run.1 = if same { next.1 } else { run.1 };
                same
            });
        }
    }

    fn slot_length(&self) -> i64 {
        TICK_MS << self.doublings.min(40)
    }

    fn slot(&self, ms: i64) -> i64 {
        ms.div_euclid(self.slot_length())
    }

    /// Passes the whole state to `put` as bytes, in a fixed order, for the digest that replicas compare.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        let latest = self.latest.map_or([0; 2], |tick| [tick.ms, tick.wall]);
        latest.iter().for_each(|number| put(&number.to_le_bytes()));
        put(&self.doubted_from.unwrap_or(0).to_le_bytes());
        put(&self.doublings.to_le_bytes());
        put(&self.ticks.to_le_bytes());
        for (index, ms) in self.runs.iter() {
            put(&index.to_le_bytes());
            put(&ms.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn tick(ms: i64) -> Tick {
        Tick { ms, wall: ms, doubted: false, made_up: 0 }
    }

    #[test]
    fn an_entry_counts_as_appended_never_too_early_and_little_too_late() {
        let mut clock = LogClock::default();
        assert_eq!((clock.appended_at(5), clock.first_since(0)), (None, None));
        for second in 0..100 {
            clock.tick(10 * second, tick(second.cast_signed() * 1000 + 1_000_500), || 0);
        }
        for index in 0..1000_u64 {
            // Its tick, and up to a second more.
            let earliest = (index / 10).cast_signed() * 1000 + 1_000_500;
            let at = clock.appended_at(index).unwrap();
            assert!((earliest + TICK_MS..=earliest + 2 * TICK_MS).contains(&at), "{index}: {at}");
            let since = clock.first_since(at).unwrap();
            assert!(since <= index, "{index} is at or after its own time");
            assert!(clock.first_since(at + 1).unwrap() > index);
        }
        assert_eq!(clock.first_since(i64::MAX), Some(u64::MAX));
        assert_eq!(clock.first_since(i64::MIN), Some(0), "before the first tick nothing is known");
    }

    #[test]
    fn it_never_goes_back() {
        let mut clock = LogClock::default();
        clock.tick(1, tick(5000), || 0);
        let before = clock.clone();
        clock.tick(2, tick(4999), || 0);
        assert_eq!(clock, before);
    }

    #[test]
    fn what_was_appended_in_doubt_does_not_age_when_it_ends() {
        let doubted = |ms| Tick { doubted: true, ..tick(ms) };
        let mut clock = LogClock::default();
        clock.tick(10, tick(0), || 0);
        clock.tick(20, doubted(500), || 0);
        clock.tick(30, doubted(4000), || 0);
        let mut unfounded = clock.clone();
        clock.tick(40, Tick { made_up: DAY, ..tick(DAY + 5000) }, || 0);
        assert!(clock.appended_at(19).unwrap() < 10_000);
        for (index, age) in [(20, 4500), (35, 1000), (40, 0)] {
            let at = clock.appended_at(index).unwrap();
            assert!((DAY + 5000 - age..=DAY + 5000 - age + 2 * TICK_MS).contains(&at), "{index}: {at}");
        }
        assert_eq!(clock.first_since(DAY), Some(20));
        unfounded.tick(40, tick(5000), || 0);
        assert!(unfounded.appended_at(20).unwrap() < 5000);
    }

    #[test]
    fn years_take_little_memory_and_stay_in_order() {
        let mut clock = LogClock::default();
        for minute in 0..60 * 24 * 365 * 2_u64 {
            clock.tick(minute, tick(minute.cast_signed() * 60_000), || 0);
        }
        assert!(clock.runs.len() <= MAX_RUNS && clock.runs.is_sorted());
        let length = clock.slot_length();
        assert!(length < DAY, "{length} ms");
        for minute in (0..60 * 24 * 365 * 2_u64).step_by(1001) {
            let (earliest, at) = (minute.cast_signed() * 60_000, clock.appended_at(minute).unwrap());
            assert!((earliest..=earliest + length + TICK_MS).contains(&at), "{minute}: {at}");
        }
        // Once the old entries are gone, time is told finely again.
        let end = 60 * 24 * 365 * 2_u64;
        for second in 0..60 * 60 * 24 * 30_u64 {
            let at = end.cast_signed() * 60_000 + second.cast_signed() * 1000;
            clock.tick(end + second, tick(at), || end + second.saturating_sub(600));
        }
        assert!(clock.slot_length() < length / 4, "{} ms", clock.slot_length());
    }
}
