//! What a handler gives for a request: the outcome, or a future that comes to it.

use std::pin::Pin;

use super::frame::Outcome;

/// An answer, or the promise of one.
pub enum Answer {
    /// Known at once.
    Now(Outcome),
    /// Known when the future says so; it is first polled when all earlier answers of the connection are out.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// What the future comes to. No later request of the connection is begun before.
    First(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Answer {
    /// Something that must have happened before later requests are begun.
    pub fn first(future: impl Future<Output = Self> + Send + 'static) -> Self {
        Self::First(Box::pin(future))
    }

    /// An answer that takes time.
    pub fn later(future: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}
