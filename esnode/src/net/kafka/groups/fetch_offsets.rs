//! OffsetFetch: where a group goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{check_name, coordinates};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::leader_epoch::prove;
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;
use crate::state_machine::groups::Group;

/// From this version on many groups are asked for in one request.
const BATCHED: i16 = 8;

/// Partitions asked for, by topic; `None` for all that have an offset.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;
/// What a group has, by topic and partition: offset, leader epoch, metadata.
type Found = Vec<(TopicName, Vec<(i32, Offset)>)>;
/// One offset; that of a partition without one says -1.
type Offset = (i64, i32, StrBytes);

/// Serves OffsetFetch.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: OffsetFetchRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        // Whoever goes on from an offset that another leader has replaced reads events again, or misses some.
        let proven = match coordinates(&session) {
            Ok(()) => prove(&session).await.map(drop).map_err(|_| ResponseError::NotCoordinator),
            Err(error) => Err(error),
        };
        let answer = answer(&session.node().state_machine(), body, to.version, proven);
        to.send(&answer)
    }))
}

fn answer(
    state: &StateMachine,
    body: OffsetFetchRequest,
    version: i16,
    proven: Result<(), ResponseError>,
) -> OffsetFetchResponse {
    if version >= BATCHED {
        let groups = body.groups.into_iter().map(|group| one_of_many(state, group, proven));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted = body.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect::<Vec<_>>()
    });
    match proven.and_then(|()| check_name(&body.group_id)) {
        Err(error) => OffsetFetchResponse::default()
            .with_error_code(error.code())
            // Version 1 has no error for all.
            .with_topics(topics(refused(wanted), error.code())),
        Ok(()) => OffsetFetchResponse::default()
            .with_topics(topics(found(state, state.group(&body.group_id), wanted), 0)),
    }
}

fn one_of_many(
    state: &StateMachine,
    group: OffsetFetchRequestGroup,
    proven: Result<(), ResponseError>,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    if let Err(error) = proven.and_then(|()| check_name(&group.group_id)) {
        return response.with_error_code(error.code());
    }
    let wanted = group
        .topics
        .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
    let topics = found(state, state.group(&group.group_id), wanted).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, (offset, epoch, metadata))| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(metadata))
        });
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

fn topics(found: Found, error: i16) -> Vec<OffsetFetchResponseTopic> {
    let topics = found.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, (offset, epoch, metadata))| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(metadata))
                .with_error_code(error)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    topics.collect()
}

fn none() -> Offset {
    (-1, -1, StrBytes::default())
}

fn refused(wanted: Wanted) -> Found {
    let topics = wanted.unwrap_or_default().into_iter();
    topics
        .map(|(name, partitions)| (name, partitions.into_iter().map(|number| (number, none())).collect()))
        .collect()
}

fn found(state: &StateMachine, group: Option<&Group>, wanted: Wanted) -> Found {
    let Some(wanted) = wanted else { return group.map_or_else(Vec::new, |group| all(state, group)) };
    let look = |name: &TopicName, number: i32| {
        let topic = state.topic(name)?;
        let offset = group?.offsets().get(topic.id, u32::try_from(number).ok()?)?;
        Some((offset.offset, offset.leader_epoch, StrBytes::from_string(offset.metadata.clone())))
    };
    let topics = wanted.into_iter().map(|(name, numbers)| {
        let partitions = numbers.into_iter().map(|number| (number, look(&name, number).unwrap_or_else(none)));
        let partitions = partitions.collect();
        (name, partitions)
    });
    topics.collect()
}

fn all(state: &StateMachine, group: &Group) -> Found {
    let mut found: BTreeMap<&str, Vec<(i32, Offset)>> = BTreeMap::new();
    for ((topic, partition), offset) in group.offsets().iter() {
        let Some(topic) = state.topic_by_id(topic) else { continue };
        let metadata = StrBytes::from_string(offset.metadata.clone());
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        found.entry(&topic.name).or_default().push((number, (offset.offset, offset.leader_epoch, metadata)));
    }
    let named =
        |(name, partitions): (&str, _)| (TopicName(StrBytes::from_string(name.to_owned())), partitions);
    found.into_iter().map(named).collect()
}
