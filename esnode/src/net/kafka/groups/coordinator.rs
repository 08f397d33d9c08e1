//! The coordinator's memory.

use super::pending::Pending;
use super::sessions::Sessions;

/// What the coordinator remembers of the groups' members beside the log.
#[derive(Default)]
pub struct Coordinator {
    /// When each member was last heard.
    pub sessions: Sessions,
    /// Ids that clients were told to join with.
    pub pending: Pending,
}
