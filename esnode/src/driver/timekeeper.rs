//! What time the log has: the time that passes, by the monotonic clock. The wall clock, which somebody may set to
//! anything, only says how long it was that no node led at all, and is doubted if that is long.
//!
//! Every node notes when it applied a leader's last tick, so whoever leads next goes on from there, and a wall clock that
//! leaps, anywhere, moves nothing. After a start, or an outage of all, the own clock is ahead of what the tick says of the
//! leader's. That is not believed before it has stayed the same for an hour; until then the log's time goes on from where it
//! was, and nothing is deleted too early.

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::run::Driver;
use crate::consensus::Role;
use crate::state_machine::clock::{CLOCK_FORMAT, TICK_MS, Tick};
use crate::state_machine::command::Command;

/// Clocks of one cluster lie apart by no more than this, in ms, and a tick is no longer on its way.
const NOISE_MS: i64 = 60_000;
/// So long, in ms, must a clock have stayed ahead by the same before it may be believed.
const STEADY_MS: i64 = 3_600_000;

/// Ticks between two attempts to let the log's clock begin.
const BEGIN_TICKS: u64 = 50;

/// This machine's clocks, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the machine has started, time in which it was suspended included.
    pub boot: i64,
    /// Time of day, since 1970.
    pub wall: i64,
}

impl Now {
    /// Reads them.
    pub fn read() -> Self {
        let ms = |id| {
            let time = clock_gettime(id);
            time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
        };
        Self { boot: ms(ClockId::Boottime), wall: ms(ClockId::Realtime) }
    }
}

impl Driver {
    /// Lets the clock begin where nothing is written: what is there already grows older too.
    pub(super) fn begin_log_clock(&mut self) {
        let leads = self.parts.core.role() == Role::Leader;
        if leads
            && self.tick.is_multiple_of(BEGIN_TICKS)
            && self.parts.stream.read().clock().latest().is_none()
        {
            self.tick_log_clock();
        }
    }

    /// Before events are appended the log says what time it is, unless it just did. By an entry of its own, which shares
    /// their write and their messages.
    pub(super) fn tick_log_clock(&mut self) {
        // Whoever has not applied all that came before it does not know what time it is.
        if self.serves_from.is_some() || self.parts.stream.read().format() < CLOCK_FORMAT {
            return;
        }
        if let Some(tick) = self.parts.time.due() {
            self.propose_own(&[Command::Clock(tick)]);
        }
    }
}

/// The log's time on this node. Shared by the raft thread and those who ask.
#[derive(Debug, Default)]
pub struct Timekeeper {
    time: Mutex<LogTime>,
}

impl Timekeeper {
    /// The last tick that was applied is this one.
    pub(super) fn follow(&self, tick: Option<Tick>) {
        let mut time = self.time.lock();
        if let Some(tick) = tick.filter(|_| tick != time.latest) {
            let doubted = time.doubt.is_some();
            time.applied(tick, Now::read());
            if let Some(Doubt { ahead, .. }) = time.doubt.filter(|_| !doubted) {
                tracing::warn!(
                    ms = ahead,
                    "the clock is ahead of the last leader's: it is doubted for an hour"
                );
            }
        }
    }

    /// The tick to propose, as leader: `None` while the last one is young enough.
    pub(super) fn due(&self) -> Option<Tick> {
        self.time.lock().due(Now::read())
    }

    /// The log's time now, in ms.
    pub fn now(&self) -> i64 {
        self.time.lock().read(Now::read()).ms
    }

    /// Believes the clock, if it has stayed ahead by the same for long enough.
    pub fn believe_if_steady(&self) {
        let mut time = self.time.lock();
        if !time.believed && time.is_steady(Now::read()) {
            tracing::warn!("the clock has been steady for an hour: it is believed how long nobody led");
            time.believed = true;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// By how much the clock was ahead when it began.
    ahead: i64,
    /// When it began, in ms since the machine has started.
    since: i64,
}

#[derive(Debug, Default)]
struct LogTime {
    latest: Option<Tick>,
    /// When it was applied, in ms since the machine has started.
    applied_at: i64,
    /// When the last one was proposed.
    proposed_at: Option<i64>,
    doubt: Option<Doubt>,
    believed: bool,
}

impl LogTime {
    fn applied(&mut self, tick: Tick, now: Now) {
        (self.latest, self.applied_at, self.believed) = (Some(tick), now.boot, false);
        let ahead = now.wall.saturating_sub(tick.wall);
        let same = self.doubt.filter(|doubt| doubt.ahead.abs_diff(ahead) <= NOISE_MS.unsigned_abs());
        self.doubt = (ahead > NOISE_MS).then(|| same.unwrap_or(Doubt { ahead, since: now.boot }));
    }

    fn due(&mut self, now: Now) -> Option<Tick> {
        let latest = self.latest.map(|_| self.applied_at).max(self.proposed_at);
        if latest.is_some_and(|latest| now.boot - latest < TICK_MS) {
            return None;
        }
        self.proposed_at = Some(now.boot);
        Some(self.read(now))
    }

    fn read(&self, now: Now) -> Tick {
        let Some(Tick { ms, wall, .. }) = self.latest else {
            return Tick { ms: now.wall, wall: now.wall, doubted: false, made_up: 0 };
        };
        let passed = (now.boot - self.applied_at).max(0);
        let (ms, expected) = (ms.saturating_add(passed), wall.saturating_add(passed));
        // A wall clock that was set back must not look, after the next start, like a long outage.
        let wall = now.wall.max(expected);
        match self.doubt {
            None => Tick { ms, wall, doubted: false, made_up: 0 },
            Some(doubt) if self.believed => {
                Tick { ms: ms.saturating_add(doubt.ahead), wall, doubted: false, made_up: doubt.ahead }
            }
            Some(_) => Tick { ms, wall: expected, doubted: true, made_up: 0 },
        }
    }

    fn is_steady(&self, now: Now) -> bool {
        let (Some(doubt), Some(tick)) = (self.doubt, self.latest) else { return false };
        let ahead = now.wall - tick.wall.saturating_add(now.boot - self.applied_at);
        let same = ahead.abs_diff(doubt.ahead) <= NOISE_MS.unsigned_abs();
        same && now.boot - doubt.since >= STEADY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const WEEK: i64 = 7 * 24 * HOUR;
    const YEAR: i64 = 52 * WEEK;

    fn at(boot: i64, wall: i64) -> Now {
        Now { boot, wall }
    }

    /// A leader's next tick, which it applies at once.
    fn tick(time: &mut LogTime, now: Now) -> Tick {
        let tick = time.due(now).unwrap();
        time.applied(tick, now);
        tick
    }

    #[test]
    fn it_begins_with_the_time_of_day_and_counts_what_passes() {
        let mut time = LogTime::default();
        assert_eq!(tick(&mut time, at(50, YEAR)).ms, YEAR);
        assert_eq!(time.due(at(1049, YEAR + 999)), None, "not every entry bears one");
        assert_eq!(tick(&mut time, at(1050, YEAR + 1000)).ms, YEAR + 1000);
        assert_eq!(time.read(at(WEEK + 50, YEAR + WEEK)).ms, YEAR + WEEK, "nothing was written for a week");
    }

    #[test]
    fn a_clock_that_leaps_while_a_node_runs_moves_nothing() {
        for leap in [YEAR, -YEAR] {
            let mut leader = LogTime::default();
            let mut follower = LogTime::default();
            for second in 0..100 {
                let leapt = if second < 50 { 0 } else { leap };
                let tick = tick(&mut leader, at(second * 1000, YEAR + second * 1000 + leapt));
                assert_eq!((tick.ms, tick.doubted), (YEAR + second * 1000, false));
                follower.applied(tick, at(7 * HOUR + second * 1000, YEAR + second * 1000));
            }
            // The follower takes over, with a clock that did not leap, or leaps now.
            for wall in [2 * YEAR, YEAR + 200_000, 3] {
                assert_eq!(follower.read(at(7 * HOUR + 200_000, wall)).ms, YEAR + 200_000);
            }
        }
    }

    #[test]
    fn an_outage_is_believed_after_an_hour() {
        let before = Tick { ms: YEAR, wall: YEAR + 5, doubted: false, made_up: 0 };
        let mut time = LogTime::default();
        time.applied(before, at(0, YEAR + WEEK));
        for second in 1..3600 {
            let now = at(second * 1000, YEAR + WEEK + second * 1000);
            assert!(!time.is_steady(now));
            let tick = tick(&mut time, now);
            assert!(tick.doubted && tick.ms == YEAR + second * 1000, "{tick:?}");
        }
        let now = at(HOUR, YEAR + WEEK + HOUR);
        assert!(time.is_steady(now) && time.read(now).doubted, "not before somebody looks");
        time.believed = true;
        let tick = tick(&mut time, now);
        let made_up = WEEK - 5;
        assert_eq!(tick, Tick { ms: YEAR + HOUR + made_up, wall: now.wall, doubted: false, made_up });
        assert!(time.doubt.is_none());
    }

    #[test]
    fn a_clock_that_is_set_again_in_doubt_is_doubted_for_another_hour() {
        let mut time = LogTime::default();
        time.applied(Tick { ms: 0, wall: 0, doubted: false, made_up: 0 }, at(0, YEAR));
        assert!(!time.is_steady(at(HOUR, 2 * YEAR)));
        tick(&mut time, at(HOUR, 2 * YEAR));
        // A tick in doubt says what the last leader's clock would show, so the doubt outlives whoever has it.
        assert!(!time.is_steady(at(2 * HOUR - 1, 2 * YEAR + HOUR)));
        assert!(time.is_steady(at(2 * HOUR, 2 * YEAR + HOUR)));
    }

    #[test]
    fn a_clock_that_was_set_back_before_a_restart_does_not_look_like_an_outage() {
        let mut time = LogTime::default();
        tick(&mut time, at(0, YEAR));
        let tick = tick(&mut time, at(HOUR, HOUR));
        let mut restarted = LogTime::default();
        restarted.applied(tick, at(0, YEAR + HOUR + NOISE_MS));
        assert!(restarted.doubt.is_none());
    }
}
