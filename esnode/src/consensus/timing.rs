//! Raft's timing in ticks, and election timeouts drawn from a seed instead of from the system.

use std::time::Duration;

use shared::spec::RaftTiming;

/// How much time one tick stands for.
pub const TICK: Duration = Duration::from_millis(10);

/// Raft's timing in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A follower that has heard from its leader within this many ticks ignores candidates, and a leader that has not
    /// heard from a majority within them steps down.
    pub election: usize,
    /// Shortest randomised timeout. It is longer than `election`, so that no node campaigns while another one, which
    /// got the same heartbeat a tick later, still ignores candidates.
    pub election_min: usize,
    /// Longest randomised timeout, exclusive.
    pub election_max: usize,
    /// Ticks between heartbeats.
    pub heartbeat: usize,
}

impl Timing {
    /// Converts the milliseconds of `cluster.raft` to ticks: 150/300/50 become 15, 16..31 and 5.
    pub fn from_spec(spec: &RaftTiming) -> Self {
        let ticks = |ms: u64| usize::try_from(ms.div_ceil(tick_ms())).unwrap_or(usize::MAX / 4).max(1);
        let heartbeat = ticks(spec.heartbeat_interval);
        let election = ticks(spec.election_timeout_min).max(heartbeat + 1);
        let election_min = election + 1;
        Self {
            election,
            election_min,
            election_max: (ticks(spec.election_timeout_max) + 1).max(election_min + 1),
            heartbeat,
        }
    }

    /// Ticks without a response after which a follower counts as silent: two election timeouts. Raft's own flag is
    /// cleared at every election timeout, and just after that all followers would seem silent.
    pub fn silent(&self) -> u64 {
        2 * self.election as u64
    }

    /// Ticks for which a learner must keep up before it is promoted, since it may keep up for a moment by chance.
    pub fn steady(&self) -> u64 {
        10 * self.heartbeat as u64
    }

    /// Ticks after which a transfer counts as failed. They suffice for an election of the chosen voter, a second
    /// election if the first is split, and for its result to arrive here.
    pub fn transfer(&self) -> u64 {
        (3 * self.election_max as u64).max(100)
    }

    /// Ticks for which a removed node continues to run. If it was the leader, its heartbeats tell the others that its
    /// removal is committed.
    pub fn redirect_grace(&self) -> u64 {
        10 * self.heartbeat as u64
    }

    /// Returns this node's timeout for one role in one term: uniformly distributed over the range, and the same for the
    /// same seed.
    pub fn draw(&self, seed: u64, term: u64, role: u64) -> usize {
        let range = (self.election_max - self.election_min) as u64;
        let drawn = mix(seed ^ mix(term.wrapping_mul(4).wrapping_add(role))) % range;
        self.election_min + usize::try_from(drawn).unwrap_or(0)
    }
}

fn tick_ms() -> u64 {
    u64::try_from(TICK.as_millis()).unwrap_or(10)
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): every input bit moves every output bit.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missions_milliseconds_map_to_ticks() {
        let timing = Timing::from_spec(&RaftTiming::default());
        assert_eq!(timing, Timing { election: 15, election_min: 16, election_max: 31, heartbeat: 5 });
    }

    #[test]
    fn every_limit_follows_the_configured_timing() {
        let limits =
            |timing: Timing| [timing.silent(), timing.steady(), timing.transfer(), timing.redirect_grace()];
        assert_eq!(limits(Timing::from_spec(&RaftTiming::default())), [30, 50, 100, 50]);
        let slow = RaftTiming {
            election_timeout_min: 1000,
            election_timeout_max: 2000,
            heartbeat_interval: 300,
            ..RaftTiming::default()
        };
        let timing = Timing::from_spec(&slow);
        assert_eq!(limits(timing), [200, 300, 603, 300]);
        assert!(timing.silent() > 3 * timing.heartbeat as u64, "who answers each heartbeat is never silent");
    }

    #[test]
    fn draws_cover_the_range_and_repeat() {
        let timing = Timing::from_spec(&RaftTiming::default());
        let drawn: std::collections::BTreeSet<_> = (0..500).map(|term| timing.draw(7, term, 0)).collect();
        assert_eq!(drawn.iter().copied().collect::<Vec<_>>(), (16..31).collect::<Vec<_>>());
        assert_eq!(timing.draw(7, 3, 1), timing.draw(7, 3, 1));
    }
}
