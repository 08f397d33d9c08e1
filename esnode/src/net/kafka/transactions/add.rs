//! AddPartitionsToTxn and AddOffsetsToTxn: what is to take part in a transaction is named before it does.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
};

use super::{change, code, coordinates_of, identity, outcome};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::groups::check_name;
use crate::net::kafka::reading::Source;
use crate::net::kafka::session::Session;
use crate::state_machine::transactions::TransactionChange;
use crate::state_machine::{StateMachine, TopicId};

/// From this version of both on, fenced producers are told so by an error of their own.
const FENCED_SINCE: i16 = 2;

/// Serves AddPartitionsToTxn.
pub fn partitions(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: AddPartitionsToTxnRequest = request.decode()?;
    let to = request.to;
    let id = &body.v3_and_below_transactional_id;
    let producer = identity(body.v3_and_below_producer_id, body.v3_and_below_producer_epoch);
    let found = found(&session.node().state_machine(), &body);
    // All of them take part, or none.
    let added = found.clone().map(|partitions| {
        let change_it = TransactionChange::AddPartitions { producer, partitions };
        coordinates_of(session, id).map(|()| change(session, id, vec![change_it]))
    });
    let session = Arc::clone(session);
    Ok(Answer::later(async move {
        let added = match added {
            Some(Ok(added)) => added.await.map(drop),
            Some(Err(error)) => Err(error),
            None => Err(ResponseError::OperationNotAttempted),
        };
        let added = outcome(added, to.version, FENCED_SINCE);
        let answer = answer(&session.node().state_machine(), &body, added);
        to.send(&answer)
    }))
}

/// All partitions of the request, each once; `None` if one does not exist.
fn found(state: &StateMachine, body: &AddPartitionsToTxnRequest) -> Option<Vec<(TopicId, u32)>> {
    let all = body.v3_and_below_topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            Source::resolve(state, &topic.name, *partition).map(|source| (source.topic, source.partition))
        })
    });
    let once: BTreeSet<_> = all.collect::<Option<_>>()?;
    Some(once.into_iter().collect())
}

fn answer(
    state: &StateMachine,
    body: &AddPartitionsToTxnRequest,
    added: Result<(), ResponseError>,
) -> AddPartitionsToTxnResponse {
    let topics = body.v3_and_below_topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = match added {
                Err(ResponseError::OperationNotAttempted)
                    if Source::resolve(state, &topic.name, *partition).is_none() =>
                {
                    Err(ResponseError::UnknownTopicOrPartition)
                }
                added => added,
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code(outcome))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

/// Serves AddOffsetsToTxn.
pub fn offsets(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: AddOffsetsToTxnRequest = request.decode()?;
    let to = request.to;
    let id = &body.transactional_id;
    let added = coordinates_of(session, id).and_then(|()| check_name(&body.group_id)).map(|()| {
        let producer = identity(body.producer_id, body.producer_epoch);
        let group = body.group_id.to_string();
        change(session, id, vec![TransactionChange::AddGroup { producer, group }])
    });
    Ok(Answer::later(async move {
        let added = match added {
            Ok(added) => added.await.map(drop),
            Err(error) => Err(error),
        };
        let code = code(outcome(added, to.version, FENCED_SINCE));
        to.send(&AddOffsetsToTxnResponse::default().with_error_code(code))
    }))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;

    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::encodes;

    #[test]
    fn all_partitions_are_added_or_none() {
        let state = state_machine(&[]);
        let topic = |name: &'static str, partitions| {
            AddPartitionsToTxnTopic::default().with_name(TopicName(name.into())).with_partitions(partitions)
        };
        let asked = |topics| AddPartitionsToTxnRequest::default().with_v3_and_below_topics(topics);
        assert_eq!(found(&state, &asked(vec![topic("t", vec![0, 0])])), Some(vec![(1, 0)]));
        let some = asked(vec![topic("t", vec![0, 9]), topic("u", vec![0])]);
        assert_eq!(found(&state, &some), None);
        let answer = answer(&state, &some, Err(ResponseError::OperationNotAttempted));
        encodes(ApiKey::AddPartitionsToTxn, |_| answer.clone());
        let codes = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
        assert_eq!(codes.map(|each| each.partition_error_code).collect::<Vec<_>>(), [55, 3, 3]);
    }
}
