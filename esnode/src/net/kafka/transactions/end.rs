//! EndTxn: a transaction is committed or aborted, in one entry.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::{change, code, coordinates_of, errors, identity, outcome};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::leader_epoch::prove;
use crate::net::kafka::session::Session;
use crate::runtime::read_clocks;
use crate::state_machine::StateMachine;
use crate::state_machine::transactions::{Ending, TransactionChange, TransactionError};

/// From this version on fenced producers are told so by an error of their own.
const FENCED_SINCE: i16 = 2;

/// Serves EndTxn.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: EndTxnRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let ended = outcome(end(&session, &body).await, to.version, FENCED_SINCE);
        to.send(&EndTxnResponse::default().with_error_code(code(ended)))
    }))
}

async fn end(session: &Arc<Session>, body: &EndTxnRequest) -> Result<(), ResponseError> {
    coordinates_of(session, &body.transactional_id)?;
    let mut next = plan(&session.node().state_machine(), body, read_clocks().wall);
    if !matches!(next, Ok(Some(_))) {
        // Before a client is told that nothing is left to be done, this node must know all that was.
        prove(session).await.map_err(|_| ResponseError::NotCoordinator)?;
        next = plan(&session.node().state_machine(), body, read_clocks().wall);
    }
    match next.map_err(errors::transaction)? {
        None => Ok(()),
        Some(ending) => {
            let ended = change(session, &body.transactional_id, vec![TransactionChange::End(ending)]);
            ended.await.map(drop)
        }
    }
}

/// How to end the transaction; nothing if it has ended so.
fn plan(state: &StateMachine, body: &EndTxnRequest, time: i64) -> Result<Option<Ending>, TransactionError> {
    let producer = identity(body.producer_id, body.producer_epoch);
    let transaction = state.transaction(&body.transactional_id).ok_or(TransactionError::UnknownProducer)?;
    if transaction.has_ended(producer, body.committed) {
        return Ok(None);
    }
    transaction.ending(producer, body.committed, time).map(Some)
}
