//! What clients may take of this node: connections, memory, time. Given when the front end is made.

use std::time::Duration;

/// The limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// A client may be silent for so long: consumers that work on what they have got are.
    pub idle: Duration,
    /// A request that has begun must be complete within this, however many bytes at a time it comes in.
    pub half_sent: Duration,
    /// Answers must be taken within this.
    pub untaken: Duration,
    /// What a client has begun that has left since, or misbehaved, may take so long to be answered.
    pub leaving: Duration,
    /// Memory of requests that are not complete, on all connections together. Small requests need none of it.
    pub half_sent_bytes: usize,
    /// Memory of requests in flight, on all connections together; beyond it nothing more is begun.
    pub request_bytes: usize,
    /// The same for large ones, which cannot use up what the others need.
    pub large_request_bytes: usize,
    /// Memory of events that are held for sending, on all connections together; beyond it answers are small.
    pub fetch_bytes: usize,
    /// Memory of fetch sessions, on all connections together; beyond it there are no more of them.
    pub fetch_session_bytes: usize,
    /// Memory of other large answers that are held for sending, on all connections together; beyond it they wait.
    pub answer_bytes: usize,
    /// Memory of answers that many clients get at once, for as long as anybody reads them.
    pub shared_bytes: usize,
    /// When memory is short, a client that has kept the node waiting for longer than this must give back its own.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            idle: Duration::from_secs(600),
            half_sent: Duration::from_secs(60),
            untaken: Duration::from_secs(600),
            leaving: Duration::from_secs(10),
            half_sent_bytes: 64 << 20,
            request_bytes: 128 << 20,
            large_request_bytes: 64 << 20,
            fetch_bytes: 128 << 20,
            fetch_session_bytes: 64 << 20,
            answer_bytes: 32 << 20,
            shared_bytes: 64 << 20,
            grace: Duration::from_secs(1),
        }
    }
}
