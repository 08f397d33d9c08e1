//! The front end's own figures: plain atomics, read by whoever exposes them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::process::histogram::Histogram;

/// One more than the largest API number counted.
pub const APIS: usize = 80;

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
    pub produce_latency: Histogram,
    /// The same for Fetch, long polls included.
    pub fetch_latency: Histogram,
    /// The same for all others.
    pub other_latency: Histogram,
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
            produce_latency: Histogram::default(),
            fetch_latency: Histogram::default(),
            other_latency: Histogram::default(),
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
