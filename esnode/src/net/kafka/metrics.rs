//! The front end's own figures: plain atomics, read by whoever exposes them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One more than the largest API number counted.
pub const APIS: usize = 80;

/// Upper bounds of the latency buckets, in microseconds; one more bucket takes what is slower.
pub const BOUNDS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Figures of one listener, since it started.
#[derive(Debug)]
pub struct KafkaMetrics {
    /// Requests by the API's number, counted when they arrive.
    pub requests: [AtomicU64; APIS],
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections turned away because `network.max_connections` was reached.
    pub connections_refused: AtomicU64,
    /// Connections ended because of what the client sent.
    pub bad_requests: AtomicU64,
    /// Bytes of record batches received.
    pub produce_bytes: AtomicU64,
    /// Bytes of record batches sent.
    pub fetch_bytes: AtomicU64,
    /// From the last byte of a Produce request to its answer.
    pub produce_latency: Latency,
    /// The same for Fetch, long polls included.
    pub fetch_latency: Latency,
    /// The same for all others.
    pub other_latency: Latency,
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Latency {
    /// Observations per bucket, not cumulative; bounds in [`BOUNDS_US`].
    pub buckets: [AtomicU64; BOUNDS_US.len() + 1],
    /// Sum of all observations, in microseconds.
    pub sum_us: AtomicU64,
}

impl Default for KafkaMetrics {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            connections: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            bad_requests: AtomicU64::new(0),
            produce_bytes: AtomicU64::new(0),
            fetch_bytes: AtomicU64::new(0),
            produce_latency: Latency::default(),
            fetch_latency: Latency::default(),
            other_latency: Latency::default(),
        }
    }
}

impl KafkaMetrics {
    /// Counts a request of the API with this number.
    pub fn request(&self, key: i16) {
        if let Some(counter) = usize::try_from(key).ok().and_then(|key| self.requests.get(key)) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

impl Latency {
    /// Adds one observation.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_bucket_that_bounds_them() {
        let latency = Latency::default();
        for us in [0, 100, 101, 20_000_000] {
            latency.observe(Duration::from_micros(us));
        }
        let counts: Vec<u64> = latency.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        assert_eq!((counts[0], counts[1], counts[15]), (2, 1, 1));
        assert_eq!(latency.sum_us.load(Relaxed), 20_000_201);
    }
}
