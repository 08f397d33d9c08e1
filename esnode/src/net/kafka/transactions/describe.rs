//! ListTransactions and DescribeTransactions: what administrators ask for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    ListTransactionsResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::coordinates;
use crate::net::kafka::answer::Answer;
use crate::net::kafka::coordinator;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::leader_epoch::prove;
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;
use crate::state_machine::transactions::{Phase, TRANSACTIONS_FORMAT, Transaction};

/// Bytes of a listed transactional id without its name, at most.
const LISTED: usize = 64;
/// Bytes of a described transactional id without its partitions, and of one partition with its topic's name, at most.
const DESCRIBED: usize = 128;
const PARTITION: usize = 260;

/// Serves ListTransactions: the leader lists them all, other nodes coordinate none.
pub fn list(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ListTransactionsRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let has_some = coordinator::lists(&session, TRANSACTIONS_FORMAT);
        let (state, now) = (session.node().frozen_state(), session.node().time().now());
        let size = state.transactions().map(|(id, _)| id.len() + LISTED).sum();
        let make = move || to.send(&listed(&state, &body, now, has_some));
        session.shared.memory.answer(size, make).await
    }))
}

fn listed(
    state: &StateMachine,
    body: &ListTransactionsRequest,
    now: i64,
    has_some: Result<bool, ResponseError>,
) -> ListTransactionsResponse {
    let has_some = match has_some {
        Ok(has_some) => has_some,
        Err(error) => return ListTransactionsResponse::default().with_error_code(error.code()),
    };
    let states = [Phase::Empty, Phase::Ongoing, Phase::CompleteCommit, Phase::CompleteAbort];
    let is_known = |filter: &&StrBytes| states.iter().any(|phase| phase.name() == filter.as_str());
    let unknown = body.state_filters.iter().filter(|filter| !is_known(filter)).cloned().collect();
    let found = state.transactions().filter(|(_, transaction)| has_some && is_wanted(transaction, body, now));
    let found = found.map(|(id, transaction)| {
        ListedTransaction::default()
            .with_transactional_id(text(id).into())
            .with_producer_id(transaction.producer().id.into())
            .with_transaction_state(text(transaction.phase().name()))
    });
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown)
        .with_transaction_states(found.collect())
}

fn is_wanted(transaction: &Transaction, body: &ListTransactionsRequest, now: i64) -> bool {
    let (states, producers) = (&body.state_filters, &body.producer_id_filters);
    let in_state =
        states.is_empty() || states.iter().any(|state| state.as_str() == transaction.phase().name());
    let of_producer = producers.is_empty() || producers.iter().any(|id| id.0 == transaction.producer().id);
    let long = body.duration_filter < 0
        || transaction.began().is_some_and(|began| now - began > body.duration_filter);
    in_state && of_producer && long
}

/// Serves DescribeTransactions.
pub fn describe(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeTransactionsRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let proof = match coordinates(&session) {
            Ok(()) => prove(&session).await.map(drop).map_err(|_| ResponseError::NotCoordinator),
            Err(error) => Err(error),
        };
        let mut seen = HashSet::new();
        let ids: Vec<TransactionalId> =
            body.transactional_ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let size = size(&session.node().state_machine(), &ids);
        let of = Arc::clone(&session);
        let make = move || {
            let state = of.node().state_machine();
            let described = ids.iter().map(|id| described(&state, id, proof));
            to.send(&DescribeTransactionsResponse::default().with_transaction_states(described.collect()))
        };
        session.shared.memory.answer(size, make).await
    }))
}

/// Bytes that the answer takes at most.
fn size(state: &StateMachine, ids: &[TransactionalId]) -> usize {
    let each = ids.iter().map(|id| {
        let partitions = state.transaction(id).map_or(0, |transaction| transaction.partitions().len());
        DESCRIBED + id.len() + PARTITION * partitions
    });
    each.sum()
}

fn described(
    state: &StateMachine,
    id: &TransactionalId,
    proof: Result<(), ResponseError>,
) -> TransactionState {
    let answer = TransactionState::default().with_transactional_id(id.clone());
    let found = proof.and_then(|()| state.transaction(id).ok_or(ResponseError::TransactionalIdNotFound));
    match found {
        Err(error) => answer.with_error_code(error.code()),
        Ok(transaction) => answer
            .with_transaction_state(text(transaction.phase().name()))
            .with_transaction_timeout_ms(transaction.timeout_ms())
            .with_transaction_start_time_ms(transaction.began().unwrap_or(-1))
            .with_producer_id(transaction.producer().id.into())
            .with_producer_epoch(transaction.producer().epoch)
            .with_topics(topics(state, transaction)),
    }
}

fn topics(state: &StateMachine, transaction: &Transaction) -> Vec<TopicData> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in transaction.partitions() {
        if let Some(topic) = state.topic_by_id(*topic) {
            topics.entry(&topic.name).or_default().push(i32::try_from(*partition).unwrap_or(i32::MAX));
        }
    }
    let topic = |(name, partitions): (&str, _)| {
        TopicData::default().with_topic(TopicName(text(name))).with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
