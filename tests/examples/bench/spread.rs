//! A distribution of times, for people.

use std::fmt;
use std::time::Duration;

pub struct Spread(Vec<Duration>);

impl Spread {
    pub fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    fn at(&self, per_mille: usize) -> f64 {
        let position = (self.0.len() * per_mille / 1000).min(self.0.len().saturating_sub(1));
        self.0.get(position).map_or(0.0, |sample| sample.as_secs_f64() * 1e3)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, max] = [500, 990, 999, 1000].map(|per_mille| self.at(per_mille));
        write!(f, "p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2} ms")
    }
}
