//! InitProducerId: identities for idempotent producers.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::answer::Answer;
use super::errors;
use super::frame::{BadRequest, Request};
use super::session::Session;
use super::transactions;
use crate::replica::ProposeError;
use crate::state_machine::command::{Command, Reply};

/// Serves InitProducerId, here or through the leader: librdkafka asks any node and does not look for another.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: InitProducerIdRequest = request.decode()?;
    let to = request.to;
    if let Some(id) = &body.transactional_id {
        return Ok(transactions::init(session, to, id, &body));
    }
    if !session.leadership().serving {
        let (session, request) = (Arc::clone(session), request.clone());
        return Ok(Answer::later(async move {
            match session.ask_leader(&request).await {
                Some(outcome) => outcome,
                None => {
                    let leader = session.usable_leader().map(|(leader, _)| leader);
                    to.send(&answer(&Err(ProposeError::NotLeader(leader))))
                }
            }
        }));
    }
    let proposal = session.node().propose(&[Command::AllocateProducer]);
    Ok(Answer::later(async move { to.send(&answer(&proposal.await)) }))
}

fn answer(replies: &Result<Vec<Reply>, ProposeError>) -> InitProducerIdResponse {
    match replies.as_ref().map(Vec::as_slice) {
        Ok([Reply::ProducerAllocated(id)]) => {
            InitProducerIdResponse::default().with_producer_id((*id).into()).with_producer_epoch(0)
        }
        Ok(_) => refused(ResponseError::UnknownServerError),
        Err(error) => refused(errors::coordinator(*error)),
    }
}

fn refused(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_error_code(error.code()).with_producer_epoch(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::tests::encodes;
    use kafka_protocol::messages::ApiKey;

    #[test]
    fn a_drawn_id_comes_with_epoch_zero() {
        let answer = answer(&Ok(vec![Reply::ProducerAllocated(7)]));
        encodes(ApiKey::InitProducerId, |_| answer.clone());
        assert_eq!((answer.error_code, answer.producer_id.0, answer.producer_epoch), (0, 7, 0));
    }

    #[test]
    fn a_refusal_carries_no_id() {
        let answer = answer(&Err(ProposeError::NotLeader(None)));
        assert_eq!((answer.error_code, answer.producer_id.0, answer.producer_epoch), (15, -1, -1));
    }
}
