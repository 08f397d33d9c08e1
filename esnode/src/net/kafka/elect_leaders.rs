//! ElectLeaders: no election is needed, for Raft holds its own. One node leads every partition, and any voter would lead
//! as well.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};

use super::answer::Answer;
use super::changes::elsewhere;
use super::frame::{BadRequest, Request};
use super::reading::Source;
use super::session::Session;
use super::{errors, leader_epoch};
use crate::state_machine::StateMachine;

/// The first version with an error for the whole answer.
const ERROR_OF_ALL: i16 = 1;

/// Serves ElectLeaders, here or through the leader.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ElectLeadersRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        let leads = leader_epoch::prove(&session).await.is_ok();
        request.to.send(&answer(&session.node().state_machine(), &body, request.to.version, leads))
    }))
}

fn answer(
    state_machine: &StateMachine,
    body: &ElectLeadersRequest,
    version: i16,
    leads: bool,
) -> ElectLeadersResponse {
    let mut seen = HashSet::new();
    // Who asks for all partitions is told of those that got another leader: none.
    let topics = body.topic_partitions.iter().flatten().map(|topic| {
        let once = topic.partitions.iter().filter(|partition| seen.insert((&topic.topic, **partition)));
        let results = once.map(|partition| {
            let error = if leads { result(state_machine, &topic.topic, *partition) } else { NO_LEADER };
            PartitionResult::default()
                .with_partition_id(*partition)
                .with_error_code(error.code())
                .with_error_message(None)
        });
        ReplicaElectionResult::default()
            .with_topic(topic.topic.clone())
            .with_partition_result(results.collect())
    });
    let error = if leads || version < ERROR_OF_ALL { errors::NONE } else { NO_LEADER.code() };
    ElectLeadersResponse::default().with_replica_election_results(topics.collect()).with_error_code(error)
}

/// Said while nobody is known to lead; clients ask again.
const NO_LEADER: ResponseError = ResponseError::NotController;

fn result(state_machine: &StateMachine, topic: &TopicName, partition: i32) -> ResponseError {
    match Source::resolve(state_machine, topic, partition) {
        Some(_) => ResponseError::ElectionNotNeeded,
        None => ResponseError::UnknownTopicOrPartition,
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;

    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::encodes;

    fn ask(topics: Option<&[(&'static str, &[i32])]>, leads: bool) -> (i16, Vec<(i32, i16)>) {
        let topics = topics.map(|topics| {
            let topics = topics.iter().map(|(name, partitions)| {
                TopicPartitions::default()
                    .with_topic(TopicName((*name).into()))
                    .with_partitions(partitions.to_vec())
            });
            topics.collect()
        });
        let body = ElectLeadersRequest::default().with_topic_partitions(topics);
        let ask = |version| answer(&state_machine(&[]), &body, version, leads);
        encodes(ApiKey::ElectLeaders, ask);
        let answer = ask(2);
        let results = answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let results = results.map(|result| (result.partition_id, result.error_code)).collect();
        (answer.error_code, results)
    }

    #[test]
    fn what_has_a_leader_needs_no_election() {
        let topics: [(&str, &[i32]); 3] = [("t", &[0, 1, 0]), ("u", &[0]), ("t", &[0])];
        assert_eq!(ask(Some(&topics), true), (0, vec![(0, 84), (1, 3), (0, 3)]), "each once");
        assert_eq!(ask(None, true), (0, vec![]));
        assert_eq!(ask(Some(&topics[..1]), false), (41, vec![(0, 41), (1, 41)]));
    }
}
