//! Consumer groups, of the classic protocol and of the consumer protocol ([`consumer`]): the leader coordinates all of
//! them.
//!
//! What a group is and becomes stands in the state machine ([`crate::state_machine::groups`]); every change of it goes
//! through the log. Here is what cannot: who was heard when ([`coordinator`]), the clients that wait for a rebalance to end,
//! and what is due by a clock ([`timers`]).

pub mod commit;
mod consumer;
pub mod coordinator;
mod describe;
pub mod errors;
mod fetch_offsets;
mod heartbeat;
mod join;
#[cfg(test)]
mod lab;
mod leave;
mod offset_delete;
mod pending;
mod sessions;
mod subscription;
mod sync;
#[cfg(test)]
pub(super) mod tests;
pub mod timers;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::Notify;

pub use self::commit::handle as commit;
pub use self::consumer::{describe as describe_consumers, heartbeat as heartbeat_consumer};
pub use self::describe::{delete, describe, list};
pub use self::fetch_offsets::handle as fetch_offsets;
pub use self::heartbeat::handle as heartbeat;
pub use self::join::handle as join;
pub use self::leave::handle as leave;
pub use self::offset_delete::handle as delete_offsets;
pub use self::sync::handle as sync;
use super::errors as proposals;
use super::session::Session;
use crate::state_machine::command::{Command, Refusal, Reply};
use crate::state_machine::groups::{GROUPS_FORMAT, Group, GroupChange, GroupReply};

/// Whether this node coordinates groups now.
fn coordinates(session: &Session) -> Result<(), ResponseError> {
    super::coordinator::coordinates(session, GROUPS_FORMAT)
}

/// Refuses a group's name that Kafka does not allow.
pub fn check_name(group: &str) -> Result<(), ResponseError> {
    if group.is_empty() { Err(ResponseError::InvalidGroupId) } else { Ok(()) }
}

/// A time in ms as clients give it; none if it is negative.
fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Changes a group, through the log.
fn change(
    session: &Session,
    group: &str,
    change: GroupChange,
) -> impl Future<Output = Result<GroupReply, ResponseError>> + Send + use<> {
    let proposed = session.node().propose(&[Command::Group { group: group.to_owned(), change }]);
    async move {
        let replies = proposed.await.map_err(proposals::coordinator)?;
        match replies.into_iter().next() {
            Some(Reply::Group(reply)) => Ok(reply),
            Some(Reply::Refused(Refusal::Group(error))) => Err(errors::code(error)),
            _ => Err(ResponseError::UnknownServerError),
        }
    }
}

/// Waits until `outcome` can be told of a group, looking whenever the group changes. Ends also when this node ceases to
/// coordinate, or stops.
async fn until<T>(
    session: &Arc<Session>,
    name: &str,
    outcome: impl Fn(Option<&Group>) -> Option<Result<T, ResponseError>>,
) -> Result<T, ResponseError> {
    let changes: Arc<Notify> = session.node().group_changes(name);
    let (mut leadership, mut stopping) = (session.watch_leadership(), session.stopping.clone());
    loop {
        let changed = changes.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        leadership.mark_unchanged();
        coordinates(session)?;
        if let Some(outcome) = outcome(session.node().state_machine().group(name)) {
            return outcome;
        }
        tokio::select! {
            () = changed => {}
            _ = leadership.changed() => {}
            _ = stopping.wait_for(|stop| *stop) => return Err(ResponseError::NotCoordinator),
        }
    }
}
