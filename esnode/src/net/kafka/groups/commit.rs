//! OffsetCommit: a group, or whoever uses its name, keeps how far it has come.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::{change, check_name, coordinates};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::{CommittedOffset, GroupChange, OffsetCommit};
use crate::state_machine::{StateMachine, TopicId};

/// Bytes that may be kept with an offset, as Kafka has it.
const MAX_METADATA: usize = 4096;

/// From this version on clients know the errors of the consumer protocol.
const KNOWS_EPOCHS: i16 = 9;

/// Serves OffsetCommit.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: OffsetCommitRequest = request.decode()?;
    let to = request.to;
    let allowed = coordinates(session)
        .and_then(|()| check_name(&body.group_id))
        .and_then(|()| check_version(&session.node().state_machine(), &body, to.version));
    let committed = allowed.map(|()| {
        session.shared.groups.sessions.renew(&body.group_id, &body.member_id, Instant::now());
        let commit = OffsetCommit {
            member: body.member_id.to_string(),
            instance: body.group_instance_id.as_ref().map(ToString::to_string),
            generation: body.generation_id_or_member_epoch,
            offsets: accepted(&session.node().state_machine(), &body),
        };
        change(session, &body.group_id, GroupChange::Commit(commit))
    });
    let session = Arc::clone(session);
    Ok(Answer::later(async move {
        let committed = match committed {
            Ok(committed) => committed.await.map(drop),
            Err(error) => Err(error),
        };
        let answer = answer(&session.node().state_machine(), &body, committed);
        to.send(&answer)
    }))
}

/// A member of the consumer protocol has to understand what it is told about its epoch.
fn check_version(
    state: &StateMachine,
    body: &OffsetCommitRequest,
    version: i16,
) -> Result<(), ResponseError> {
    let group = state.group(&body.group_id).and_then(|group| group.consumer());
    let member = group.and_then(|group| group.members().get(&*body.member_id));
    if member.is_some_and(|member| member.classic.is_none()) && version < KNOWS_EPOCHS {
        Err(ResponseError::UnsupportedVersion)
    } else {
        Ok(())
    }
}

/// The offsets that can be kept.
fn accepted(state: &StateMachine, body: &OffsetCommitRequest) -> Vec<(TopicId, u32, CommittedOffset)> {
    let mut offsets = Vec::new();
    for topic in &body.topics {
        for partition in &topic.partitions {
            let metadata = partition.committed_metadata.as_deref();
            if let Ok((id, number)) = check(state, &topic.name, partition.partition_index, metadata) {
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.unwrap_or_default().to_owned(),
                    committed: 0,
                };
                offsets.push((id, number, offset));
            }
        }
    }
    offsets
}

/// The partition, if an offset with this metadata can be committed in it.
///
/// # Errors
/// `UNKNOWN_TOPIC_OR_PARTITION` and `OFFSET_METADATA_TOO_LARGE`.
pub fn check(
    state: &StateMachine,
    topic: &str,
    partition: i32,
    metadata: Option<&str>,
) -> Result<(TopicId, u32), ResponseError> {
    let found = state.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let number = u32::try_from(partition)
        .ok()
        .filter(|number| (*number as usize) < found.partitions.len())
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if metadata.is_some_and(|metadata| metadata.len() > MAX_METADATA) {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok((found.id, number))
}

fn answer(
    state: &StateMachine,
    body: &OffsetCommitRequest,
    committed: Result<(), ResponseError>,
) -> OffsetCommitResponse {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let (index, metadata) = (partition.partition_index, partition.committed_metadata.as_deref());
            let outcome = committed.and_then(|()| check(state, &topic.name, index, metadata).map(drop));
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(outcome.map_or_else(|error| error.code(), |()| 0))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
