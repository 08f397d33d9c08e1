//! The log's clock: about when each entry was appended, by what leaders said in the log itself.
//!
//! It is time of day when it starts, and from then on time that has passed: a leader lets it go on by its monotonic
//! clock (the driver's timekeeper does), so it may differ from the time of day by as much as somebody's clock was once
//! wrong. It never goes back. What counts is how far two of its times lie apart.

use serde::{Deserialize, Serialize};

/// The on-disk format from which on the log has a clock.
pub const CLOCK_FORMAT: u16 = 2;
/// A leader ticks before it appends events, if its last tick is older than this, in milliseconds: no event is younger than
/// the tick before it by more.
pub const TICK_MS: i64 = 1000;
/// Runs kept, at most; the more there would be, the more time each of them stands for.
const MAX_RUNS: usize = 4096;
/// Ticks between two looks at what nobody needs any more.
const LOOK_TICKS: u64 = 1024;

/// What a leader says of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The log's time, in ms since 1970.
    pub ms: i64,
    /// Time of day by the leader's own clock, in ms since 1970: from it a later leader learns how long nobody led.
    pub wall: i64,
    /// More time may have passed than `ms` says: the leader cannot tell yet.
    pub doubted: bool,
    /// So much of `ms` passed before the doubt that ends now, and was unknown meanwhile; 0 if it proved unfounded.
    pub made_up: i64,
}

/// When entries were appended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogClock {
    latest: Option<Tick>,
    /// The first entry appended in doubt, while that lasts.
    doubted_from: Option<u64>,
    /// First entry, and the time before which the last tick of the run is, with a slot's length to spare.
    runs: Vec<(u64, i64)>,
    /// Length of a slot in ms is [`TICK_MS`] doubled so many times.
    doublings: u32,
    ticks: u64,
}

impl LogClock {
    /// What was said last.
    pub fn latest(&self) -> Option<Tick> {
        self.latest
    }

    /// When entry `index` was appended at the latest, in ms; `None` before the clock first ticked. Later than the truth by
    /// a slot and [`TICK_MS`] at most; what was appended before the first tick counts as appended with it.
    pub fn appended_at(&self, index: u64) -> Option<i64> {
        let after = self.runs.partition_point(|run| run.0 <= index);
        self.runs.get(after.saturating_sub(1)).map(|run| run.1.saturating_add(TICK_MS))
    }

    /// The first entry that may have been appended at or after `ms`; `u64::MAX` when all are older; `None` before the clock
    /// first ticked.
    pub fn first_since(&self, ms: i64) -> Option<u64> {
        match self.runs.partition_point(|run| run.1.saturating_add(TICK_MS) < ms) {
            _ if self.runs.is_empty() => None,
            // What was appended before the first tick too.
            0 => Some(0),
            older => Some(self.runs.get(older).map_or(u64::MAX, |run| run.0)),
        }
    }

    /// A tick in entry `index`. `first_needed` says which entry is the oldest that anybody will ask about.
    pub(super) fn tick(&mut self, index: u64, tick: Tick, first_needed: impl FnOnce() -> u64) {
        if self.latest.is_some_and(|latest| tick.ms < latest.ms) {
            return;
        }
        self.latest = Some(tick);
        let until = self.slot(tick.ms).saturating_add(1).saturating_mul(self.slot_length());
        if tick.doubted && self.doubted_from.is_none() {
            // A run of their own for the entries that may have to be moved.
            self.doubted_from = Some(index);
            self.runs.push((index, until));
        }
        if let Some(from) = self.doubted_from.take_if(|_| !tick.doubted) {
            // What was appended in doubt is as old as it was, although the clock leaps.
            let doubted = self.runs.iter_mut().filter(|run| run.0 >= from);
            doubted.for_each(|run| run.1 = run.1.saturating_add(tick.made_up.max(0)).min(until));
        }
        if self.runs.last().is_none_or(|run| run.1 <= tick.ms) {
            self.runs.push((index, until));
        }
        self.ticks += 1;
        if self.runs.len() > MAX_RUNS || self.ticks.is_multiple_of(LOOK_TICKS) {
            self.thin(first_needed());
        }
    }

    /// Lets go of what nobody needs; then slots grow until there are few enough runs, or shrink while there are very few.
    fn thin(&mut self, first_needed: u64) {
        let after = self.runs.partition_point(|run| run.0 <= first_needed);
        self.runs.drain(..after.saturating_sub(1));
        if self.runs.len() < MAX_RUNS / 8 {
            self.doublings = self.doublings.saturating_sub(1);
        }
        while self.runs.len() > MAX_RUNS {
            self.doublings += 1;
            let length = self.slot_length();
            self.runs.dedup_by(|next, run| {
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

    /// Numbers that stand for the whole state, in a fixed order.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        let latest = self.latest.map_or([0; 2], |tick| [tick.ms, tick.wall]);
        latest.iter().for_each(|number| put(&number.to_le_bytes()));
        put(&self.doubted_from.unwrap_or(0).to_le_bytes());
        put(&self.doublings.to_le_bytes());
        put(&self.ticks.to_le_bytes());
        for (index, ms) in &self.runs {
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
