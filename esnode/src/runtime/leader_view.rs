//! The leader, as the listeners for clients see it.

use std::ops::Deref;
use std::time::Instant;

use crate::replica::Leadership;

/// The leader, or since when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderView {
    /// What the replica knows.
    leadership: Leadership,
    /// Time since which this node knows of no leader; `None` if it knows of one.
    pub leaderless: Option<Instant>,
}

impl LeaderView {
    /// Returns the view after `leadership` was announced.
    pub fn next(&self, leadership: Leadership) -> Self {
        let since = || self.leaderless.unwrap_or_else(Instant::now);
        Self { leadership, leaderless: leadership.leader.is_none().then(since) }
    }
}

impl Deref for LeaderView {
    type Target = Leadership;

    fn deref(&self) -> &Leadership {
        &self.leadership
    }
}
