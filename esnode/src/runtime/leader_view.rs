//! Who leads, as those see it who serve clients.

use std::ops::Deref;
use std::time::Instant;

use crate::replica::Leadership;

/// Who leads, and since when nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderView {
    /// What the replica knows.
    leadership: Leadership,
    /// Since when this node knows of no leader; `None` while there is one.
    pub leaderless: Option<Instant>,
}

impl LeaderView {
    /// The view after this one, when `leadership` is announced.
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
