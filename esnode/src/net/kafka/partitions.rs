//! CreatePartitions: a topic gets more of them. The events that it has stay where they are.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;

use super::answer::Answer;
use super::changes::{Plan, Refused, carry_out, elsewhere, limit, once, refuse};
use super::frame::{BadRequest, Request};
use super::leader_epoch;
use super::session::Session;
use super::topics::{self, check_room};
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;

/// Serves CreatePartitions, here or through the leader.
pub fn create(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: CreatePartitionsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        let members: Vec<NodeId> = session.node().roster().iter().map(|node| node.id).collect();
        let proof = leader_epoch::prove(&session).await;
        let mut plans = plans(&session.node().state_machine(), &body, &members, proof.is_ok());
        if !body.validate_only {
            carry_out(&session, limit(body.timeout_ms), &mut plans).await;
        }
        request.to.send(&answer(plans))
    }))
}

fn plans(
    state_machine: &StateMachine,
    body: &CreatePartitionsRequest,
    members: &[NodeId],
    leads: bool,
) -> Vec<Plan> {
    let mut room = state_machine.remaining_partitions();
    let plans = once(&body.topics, |topic| topic.name.0.clone()).into_iter().map(|(name, topic)| {
        let plan = match topic {
            _ if !leads => Err((ResponseError::NotController, None)),
            None => refuse(ResponseError::InvalidRequest, "the request names the topic more than once"),
            Some(topic) => plan(state_machine, topic, members, &mut room),
        };
        (name, plan)
    });
    plans.collect()
}

fn plan(
    state_machine: &StateMachine,
    wanted: &CreatePartitionsTopic,
    members: &[NodeId],
    room: &mut usize,
) -> Result<Command, Refused> {
    let name = &wanted.name.0;
    let Some(topic) = state_machine.topic(name) else {
        return refuse(ResponseError::UnknownTopicOrPartition, format!("no topic {name:?}"));
    };
    let have = topic.partitions.len();
    let count = usize::try_from(wanted.count).unwrap_or(0);
    if count <= have {
        let why = format!("the topic has {have} partitions; their number can only grow");
        return refuse(ResponseError::InvalidPartitions, why);
    }
    let count = topics::partitions(wanted.count)?;
    if let Some(assignments) = &wanted.assignments {
        let added = count as usize - have;
        if assignments.len() != added {
            let why = format!("{} partitions are assigned and {added} are added", assignments.len());
            return refuse(ResponseError::InvalidReplicaAssignment, why);
        }
        topics::check_assigned(assignments.iter().map(|wish| &wish.broker_ids), members)?;
    }
    check_room(room, count as usize - have)?;
    Ok(Command::CreatePartitions { name: name.to_string(), count })
}

fn answer(plans: Vec<Plan>) -> CreatePartitionsResponse {
    let results = plans.into_iter().map(|(name, plan)| {
        let result = CreatePartitionsTopicResult::default().with_name(TopicName(name));
        match plan {
            Ok(_) => result.with_error_message(None),
            Err((error, why)) => {
                result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string))
            }
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;

    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::encodes;
    use crate::state_machine::MAX_PARTITIONS;

    fn wanted(name: &'static str, count: i32) -> CreatePartitionsTopic {
        CreatePartitionsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_count(count)
            .with_assignments(None)
    }

    fn code(topics: Vec<CreatePartitionsTopic>, leads: bool) -> Vec<(String, i16)> {
        let body = CreatePartitionsRequest::default().with_topics(topics);
        let answer = answer(plans(&state_machine(&[]), &body, &[1, 2, 3], leads));
        encodes(ApiKey::CreatePartitions, |_| answer.clone());
        answer.results.iter().map(|result| (result.name.to_string(), result.error_code)).collect()
    }

    #[test]
    fn a_topic_only_grows_and_within_limits() {
        let one = |count| code(vec![wanted("t", count)], true)[0].1;
        assert_eq!((one(2), one(i32::try_from(MAX_PARTITIONS).unwrap())), (0, 0));
        for count in [1, 0, -1, 1001, i32::MAX] {
            assert_eq!(one(count), ResponseError::InvalidPartitions.code(), "{count}");
        }
        assert_eq!(code(vec![wanted("u", 2)], true)[0].1, ResponseError::UnknownTopicOrPartition.code());
        assert_eq!(code(vec![wanted("t", 2)], false)[0].1, ResponseError::NotController.code());
    }

    #[test]
    fn a_topic_named_twice_is_answered_once_and_stays_as_it_is() {
        let answers = code(vec![wanted("t", 2), wanted("u", 2), wanted("t", 3)], true);
        assert_eq!(answers, [("t".to_owned(), 42), ("u".to_owned(), 3)]);
    }

    #[test]
    fn where_the_new_ones_should_be_may_be_wished() {
        let to = |ids: &[i32]| {
            CreatePartitionsAssignment::default().with_broker_ids(ids.iter().map(|id| (*id).into()).collect())
        };
        let one = |wishes| code(vec![wanted("t", 3).with_assignments(Some(wishes))], true)[0].1;
        assert_eq!(one(vec![to(&[1, 2]), to(&[3, 1])]), 0);
        for wishes in [vec![to(&[1])], vec![to(&[1]), to(&[4])], vec![to(&[1, 1]), to(&[1, 2])]] {
            assert_eq!(one(wishes), ResponseError::InvalidReplicaAssignment.code());
        }
    }
}
