//! DeleteRecords: a partition forgets its oldest events, as retention would let it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::leader_epoch;
use super::reading::Source;
use super::session::Session;
use super::{changes, errors};
use crate::replica::{MAX_WORK, ProposeError};
use crate::state_machine::StateMachine;
use crate::state_machine::command::{Command, Reply};

/// Stands for everything there is.
const HIGH_WATERMARK: i64 = -1;
/// The least time that is waited for. Clients that say 0 mean not to wait for replicas; a commit takes milliseconds.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// One partition of a request: from where on it is to be kept, or why nothing happens.
type Plan = Result<(Source, i64), ResponseError>;

/// Serves DeleteRecords, here or through the leader.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DeleteRecordsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = changes::elsewhere(&session, &request).await {
            return outcome;
        }
        let proof = leader_epoch::prove(&session).await;
        let mut plans = plan(&session.node().state_machine(), &body, proof.map(drop));
        carry_out(&session, changes::limit(body.timeout_ms).max(LEAST_WAIT), &mut plans).await;
        let answer = answer(&session.node().state_machine(), &body, &plans);
        request.to.send(&answer)
    }))
}

fn plan(
    state_machine: &StateMachine,
    body: &DeleteRecordsRequest,
    proof: Result<(), ResponseError>,
) -> Vec<Plan> {
    let mut seen = HashSet::new();
    let wanted =
        body.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |part| (&topic.name, part)));
    let plans = wanted.map(|(name, wanted)| {
        proof?;
        if !seen.insert((name, wanted.partition_index)) {
            return Err(ResponseError::InvalidRequest);
        }
        one(state_machine, name, wanted)
    });
    plans.collect()
}

fn one(state_machine: &StateMachine, name: &TopicName, wanted: &DeleteRecordsPartition) -> Plan {
    let unknown = ResponseError::UnknownTopicOrPartition;
    let source = Source::resolve(state_machine, name, wanted.partition_index).ok_or(unknown)?;
    let next = source.find(state_machine).ok_or(unknown)?.high_watermark();
    match wanted.offset {
        HIGH_WATERMARK => Ok((source, next)),
        offset if (0..=next).contains(&offset) => Ok((source, offset)),
        _ => Err(ResponseError::OffsetOutOfRange),
    }
}

/// Proposes what is planned; what does not come about becomes an error.
async fn carry_out(session: &Session, limit: Duration, plans: &mut [Plan]) {
    let deadline = Instant::now() + limit;
    let mut open: Vec<&mut Plan> = plans.iter_mut().filter(|plan| plan.is_ok()).collect();
    for plans in open.chunks_mut(MAX_WORK) {
        let planned = plans.iter().filter_map(|plan| plan.as_ref().ok());
        let commands: Vec<_> = planned
            .map(|(Source { topic, partition }, start_offset)| Command::DeleteRecords {
                topic: *topic,
                partition: *partition,
                start_offset: *start_offset,
            })
            .collect();
        let proposal = session.node().propose(&commands);
        let replies = timeout_at(deadline, proposal).await.unwrap_or(Err(ProposeError::Busy));
        for (place, plan) in plans.iter_mut().enumerate() {
            match replies.as_ref().map(|replies| replies.get(place)) {
                Ok(Some(Reply::Refused(why))) => **plan = Err(errors::refusal(*why)),
                Ok(_) => {}
                Err(error) => **plan = Err(errors::produce(*error)),
            }
        }
    }
}

fn answer(
    state_machine: &StateMachine,
    body: &DeleteRecordsRequest,
    plans: &[Plan],
) -> DeleteRecordsResponse {
    let mut plans = plans.iter();
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(plans.by_ref()).map(|(wanted, plan)| {
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index)
                .with_low_watermark(-1);
            match plan {
                Ok((source, offset)) => {
                    let start =
                        source.find(state_machine).map_or(*offset, |partition| partition.start_offset());
                    result.with_low_watermark(start)
                }
                Err(error) => result.with_error_code(error.code()),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;

    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::encodes;

    fn body(wanted: &[(i32, i64)]) -> DeleteRecordsRequest {
        let partitions = wanted.iter().map(|(index, offset)| {
            DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
        });
        let topic = DeleteRecordsTopic::default()
            .with_name(TopicName("t".into()))
            .with_partitions(partitions.collect());
        DeleteRecordsRequest::default().with_topics(vec![topic])
    }

    #[test]
    fn only_what_is_there_can_be_deleted() {
        let state_machine = state_machine(&[1, 1]);
        let plan = |partition, offset| {
            let plans = plan(&state_machine, &body(&[(partition, offset)]), Ok(()));
            plans[0].as_ref().map(|(_, start)| *start).map_err(|error| *error)
        };
        assert_eq!((plan(0, -1), plan(0, 0), plan(0, 7), plan(0, 20)), (Ok(20), Ok(0), Ok(7), Ok(20)));
        for offset in [21, -2, i64::MIN, i64::MAX] {
            assert_eq!(plan(0, offset), Err(ResponseError::OffsetOutOfRange), "{offset}");
        }
        assert_eq!(plan(1, 0), Err(ResponseError::UnknownTopicOrPartition));
    }

    #[test]
    fn each_partition_is_answered_for_itself() {
        let state_machine = state_machine(&[1]);
        let body = body(&[(0, 3), (0, 4), (5, 0)]);
        let plans = plan(&state_machine, &body, Ok(()));
        let answer = answer(&state_machine, &body, &plans);
        encodes(ApiKey::DeleteRecords, |_| answer.clone());
        let seen: Vec<_> =
            answer.topics[0].partitions.iter().map(|part| (part.error_code, part.low_watermark)).collect();
        assert_eq!(seen, [(0, 0), (42, -1), (3, -1)], "nothing was trimmed yet, twice is not answered twice");
        let unproven = super::plan(&state_machine, &body, Err(ResponseError::NotLeaderOrFollower));
        assert!(unproven.iter().all(|plan| *plan == Err(ResponseError::NotLeaderOrFollower)));
    }
}
