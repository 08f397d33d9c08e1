//! Transactions: the leader coordinates all of them.
//!
//! What a transaction is stands in the state machine ([`crate::state_machine::transactions`]), and every change of it goes
//! through the log. Here are the requests, and what is due by a clock ([`timers`]).

mod add;
mod commit_offsets;
mod describe;
mod end;
mod init;
#[cfg(test)]
pub(super) mod tests;
pub mod timers;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProducerId;

pub use self::add::{offsets as add_offsets, partitions as add_partitions};
pub use self::commit_offsets::handle as commit_offsets;
pub use self::describe::{describe, list};
pub use self::end::handle as end;
pub use self::init::handle as init;
use super::errors;
use super::groups::errors::code as group_code;
use super::session::Session;
use crate::state_machine::command::{Command, Refusal, Reply};
use crate::state_machine::transactions::{ProducerIdentity, TRANSACTIONS_FORMAT, TransactionChange};

/// Whether this node coordinates transactions now.
fn coordinates(session: &Session) -> Result<(), ResponseError> {
    super::coordinator::coordinates(session, TRANSACTIONS_FORMAT)
}

/// As [`coordinates`], for a transactional id that Kafka allows.
fn coordinates_of(session: &Session, id: &str) -> Result<(), ResponseError> {
    if id.is_empty() { Err(ResponseError::InvalidRequest) } else { coordinates(session) }
}

fn identity(id: ProducerId, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: id.0, epoch }
}

/// Changes a transactional id, through the log: one after the other, in one entry. Returns the last reply.
fn change(
    session: &Session,
    id: &str,
    changes: Vec<TransactionChange>,
) -> impl Future<Output = Result<Reply, ResponseError>> + Send + use<> {
    let commands = changes.into_iter().map(|change| Command::Transaction { id: id.to_owned(), change });
    let proposed = session.node().propose(&commands.collect::<Vec<_>>());
    async move {
        let mut replies = proposed.await.map_err(errors::coordinator)?;
        match replies.pop() {
            Some(Reply::Refused(Refusal::Group(error))) => Err(group_code(error)),
            Some(Reply::Refused(refusal)) => Err(errors::refusal(refusal)),
            Some(reply) => Ok(reply),
            None => Err(ResponseError::UnknownServerError),
        }
    }
}

/// The outcome of a request as clients of its version know it: before version `since` of the API, `PRODUCER_FENCED` was
/// `INVALID_PRODUCER_EPOCH`.
fn outcome<T>(outcome: Result<T, ResponseError>, version: i16, since: i16) -> Result<T, ResponseError> {
    outcome.map_err(|error| match error {
        ResponseError::ProducerFenced if version < since => ResponseError::InvalidProducerEpoch,
        error => error,
    })
}

/// The error code of an outcome.
fn code(outcome: Result<(), ResponseError>) -> i16 {
    outcome.map_or_else(|error| error.code(), |()| errors::NONE)
}
