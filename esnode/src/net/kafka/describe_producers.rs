//! DescribeProducers: the idempotent producers that a partition remembers.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, TopicName};

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::leader_epoch;
use super::reading::Source;
use super::session::Session;
use crate::state_machine::{Partition, StateMachine};

/// Bytes that a producer takes at most, and a partition and a topic without them.
const PRODUCER: usize = 40;
const PARTITION: usize = 300;
/// What is not known, or is not there.
const NONE: i64 = -1;

/// Serves DescribeProducers.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeProducersRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let proof = leader_epoch::prove(&session).await.map(drop);
        let size = size(&session.node().state_machine(), &body);
        let of = Arc::clone(&session);
        let make = move || {
            // The state is locked for one partition at a time: raft waits for it meanwhile.
            let of_partition = |topic: &TopicName, index| look(&of.node().state_machine(), topic, index);
            to.send(&answer(&body, |topic, index| proof.and_then(|()| of_partition(topic, index))))
        };
        session.shared.memory.answer(size, make).await
    }))
}

/// Bytes that the answer takes at most.
fn size(state_machine: &StateMachine, body: &DescribeProducersRequest) -> usize {
    let named = body.topics.iter().flat_map(|topic| {
        let known = state_machine.topic(&topic.name);
        let once: HashSet<i32> = topic.partition_indexes.iter().copied().collect();
        once.into_iter().map(move |index| {
            let partition = known.and_then(|known| known.partitions.get(usize::try_from(index).ok()?));
            PARTITION + PRODUCER * partition.map_or(0, |partition| partition.producers().len())
        })
    });
    named.sum::<usize>() + body.topics.len() * PARTITION
}

/// The answer, where `of_partition` knows the producers.
fn answer(
    body: &DescribeProducersRequest,
    of_partition: impl Fn(&TopicName, i32) -> Result<Vec<ProducerState>, ResponseError>,
) -> DescribeProducersResponse {
    // Each once: what is asked for in a few bytes may have a long answer.
    let mut seen = HashSet::new();
    let topics = body.topics.iter().map(|topic| {
        let once = topic.partition_indexes.iter().filter(|index| seen.insert((&topic.name, **index)));
        let partitions = once.map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index).with_error_message(None);
            match of_partition(&topic.name, *index) {
                Ok(producers) => answer.with_active_producers(producers),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn look(
    state_machine: &StateMachine,
    topic: &TopicName,
    index: i32,
) -> Result<Vec<ProducerState>, ResponseError> {
    let source = Source::resolve(state_machine, topic, index);
    let partition = source.and_then(|source| source.find(state_machine));
    partition
        .map(|partition| producers(state_machine, partition))
        .ok_or(ResponseError::UnknownTopicOrPartition)
}

fn producers(state_machine: &StateMachine, partition: &Partition) -> Vec<ProducerState> {
    let producers = partition.producers().map(|(id, producer)| {
        ProducerState::default()
            .with_producer_id(id.into())
            .with_producer_epoch(producer.epoch().into())
            .with_last_sequence(producer.last_sequence().unwrap_or(-1))
            .with_last_timestamp(state_machine.clock().appended_at(producer.last_index()).unwrap_or(NONE))
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(partition.transaction_start(id).unwrap_or(NONE))
    });
    producers.collect()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::describe_producers_request::TopicRequest;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::{encodes, idempotent};
    use crate::state_machine::command::Command;

    fn ask(partitions: &[i32], proof: Result<(), ResponseError>) -> DescribeProducersResponse {
        let mut state_machine = state_machine(&[1]);
        let mut payload = BytesMut::new();
        for (id, sequence) in [(5, 0), (5, 2), (6, 0)] {
            let batch = idempotent(2, id, sequence);
            Command::Append { topic: 1, partition: 0, batch }.encode(&mut payload);
        }
        state_machine.apply(3, 1, &payload.freeze());
        let topic = TopicRequest::default().with_name(TopicName("t".into()));
        let topic = topic.with_partition_indexes(partitions.to_vec());
        let body = DescribeProducersRequest::default().with_topics(vec![topic.clone(), topic]);
        let answer = answer(&body, |topic, index| proof.and_then(|()| look(&state_machine, topic, index)));
        encodes(ApiKey::DescribeProducers, |_| answer.clone());
        assert!(answer.compute_size(0).unwrap() <= size(&state_machine, &body));
        answer
    }

    #[test]
    fn a_partition_tells_its_producers_and_their_last_sequence_numbers() {
        let answer = ask(&[0, 1, 0], Ok(()));
        let codes: Vec<_> =
            answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!((codes, answer.topics[1].partitions.len()), (vec![0, 3], 0), "each once");
        let producers = answer.topics[0].partitions[0].active_producers.iter();
        let told: Vec<_> = producers
            .map(|producer| (producer.producer_id.0, producer.producer_epoch, producer.last_sequence))
            .collect();
        assert_eq!(told, [(5, 0, 3), (6, 0, 1)]);
    }

    #[test]
    fn only_a_leader_knows() {
        let answer = ask(&[0], Err(ResponseError::NotLeaderOrFollower));
        assert_eq!(answer.topics[0].partitions[0].error_code, 6);
    }
}
