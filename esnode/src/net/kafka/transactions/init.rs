//! InitProducerId with a transactional id: an instance of a producer begins, and fences those before it. What they left
//! under way is aborted.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{change, coordinates_of, identity, outcome};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::ReplyTo;
use crate::net::kafka::session::Session;
use crate::runtime::read_clocks;
use crate::state_machine::command::Reply;
use crate::state_machine::transactions::{ProducerIdentity, Transaction, TransactionChange};

/// The longest time that a transaction may take, in ms: Kafka's `transaction.max.timeout.ms`.
const MAX_TIMEOUT_MS: i32 = 15 * 60_000;
/// From this version on fenced producers are told so by an error of their own.
const FENCED_SINCE: i16 = 4;

/// Serves InitProducerId for the transactional id `id`.
pub fn handle(session: &Arc<Session>, to: ReplyTo, id: &str, body: &InitProducerIdRequest) -> Answer {
    let begun = check(session, id, body).map(|()| change(session, id, changes(session, id, body)));
    Answer::later(async move {
        let begun = match begun {
            Ok(begun) => begun.await,
            Err(error) => Err(error),
        };
        to.send(&match outcome(begun, to.version, FENCED_SINCE) {
            Ok(Reply::ProducerInitialized(ProducerIdentity { id, epoch })) => {
                InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(epoch)
            }
            Ok(_) => refused(ResponseError::UnknownServerError),
            Err(error) => refused(error),
        })
    })
}

fn check(session: &Session, id: &str, body: &InitProducerIdRequest) -> Result<(), ResponseError> {
    coordinates_of(session, id)?;
    match (1..=MAX_TIMEOUT_MS).contains(&body.transaction_timeout_ms) {
        true => Ok(()),
        false => Err(ResponseError::InvalidTransactionTimeout),
    }
}

/// Ends the transaction that the instance before has under way, unless the new one may be fenced itself.
fn changes(session: &Session, id: &str, body: &InitProducerIdRequest) -> Vec<TransactionChange> {
    let known = (body.producer_id.0 >= 0).then(|| identity(body.producer_id, body.producer_epoch));
    let init = TransactionChange::Init { timeout_ms: body.transaction_timeout_ms, known };
    let state = session.node().state_machine();
    let abort = |before: &Transaction| {
        let is_newest = known.is_none_or(|known| known == before.producer());
        let abort = before.ending(before.producer(), false, read_clocks().wall).ok();
        abort.filter(|_| is_newest)
    };
    let abort = state.transaction(id).and_then(abort).map(TransactionChange::End);
    abort.into_iter().chain([init]).collect()
}

fn refused(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_error_code(error.code()).with_producer_epoch(-1)
}
