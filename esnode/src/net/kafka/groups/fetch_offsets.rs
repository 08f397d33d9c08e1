//! OffsetFetch: where a group goes on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
use crate::net::kafka::errors;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::leader_epoch::prove;
use crate::net::kafka::session::Session;
use crate::state_machine::groups::{CommittedOffset, Group};
use crate::state_machine::{StateMachine, TopicId};

/// From this version on many groups are asked for in one request.
const BATCHED: i16 = 8;

/// Partitions asked for, by topic; `None` for all that have an offset.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;
/// What a group has, by topic and partition.
type Found = Vec<(TopicName, Vec<(i32, Offset)>)>;

/// What is answered of one partition.
#[derive(Clone)]
struct Offset {
    offset: i64,
    epoch: i32,
    metadata: StrBytes,
    error: i16,
}

impl Offset {
    /// Of a partition without a committed offset, or which is not told.
    fn none(error: i16) -> Self {
        Self { offset: -1, epoch: -1, metadata: StrBytes::default(), error }
    }

    fn of(committed: &CommittedOffset) -> Self {
        Self {
            offset: committed.offset,
            epoch: committed.leader_epoch,
            metadata: StrBytes::from_string(committed.metadata.clone()),
            error: errors::NONE,
        }
    }
}

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
        let stable = body.require_stable;
        let groups = body.groups.into_iter().map(|group| one_of_many(state, group, stable, proven));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted = body.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect::<Vec<_>>()
    });
    match proven.and_then(|()| check_name(&body.group_id)) {
        Err(error) => OffsetFetchResponse::default()
            .with_error_code(error.code())
            // Version 1 has no error for all.
            .with_topics(topics(refused(wanted, error.code()))),
        Ok(()) => {
            let group = Looked { group: state.group(&body.group_id), stable: body.require_stable };
            OffsetFetchResponse::default().with_topics(topics(group.found(state, wanted)))
        }
    }
}

fn one_of_many(
    state: &StateMachine,
    group: OffsetFetchRequestGroup,
    stable: bool,
    proven: Result<(), ResponseError>,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    let allowed =
        proven.and_then(|()| check_name(&group.group_id)).and_then(|()| check_member(state, &group));
    if let Err(error) = allowed {
        return response.with_error_code(error.code());
    }
    let wanted = group
        .topics
        .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
    let looked = Looked { group: state.group(&group.group_id), stable };
    let topics = looked.found(state, wanted).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, of)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(of.offset)
                .with_committed_leader_epoch(of.epoch)
                .with_metadata(Some(of.metadata))
                .with_error_code(of.error)
        });
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

/// A member of the consumer protocol asks in its epoch; whoever is none gives no epoch.
fn check_member(state: &StateMachine, asks: &OffsetFetchRequestGroup) -> Result<(), ResponseError> {
    let is_outside = asks.member_id.is_none() && asks.member_epoch < 0;
    match state.group(&asks.group_id).and_then(|group| group.consumer()).filter(|_| !is_outside) {
        Some(consumer) => {
            let member = asks.member_id.as_deref().unwrap_or_default();
            consumer.check_epoch(asks.member_epoch, member, None).map_err(super::errors::code)
        }
        None => Ok(()),
    }
}

fn topics(found: Found) -> Vec<OffsetFetchResponseTopic> {
    let topics = found.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, of)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(of.offset)
                .with_committed_leader_epoch(of.epoch)
                .with_metadata(Some(of.metadata))
                .with_error_code(of.error)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    topics.collect()
}

fn refused(wanted: Wanted, error: i16) -> Found {
    let refused = |number| (number, Offset::none(error));
    let topics = wanted.unwrap_or_default().into_iter();
    topics.map(|(name, partitions)| (name, partitions.into_iter().map(refused).collect())).collect()
}

/// A group, as somebody looks at it.
struct Looked<'a> {
    group: Option<&'a Group>,
    /// Whether an offset is not told while a transaction under way may change it.
    stable: bool,
}

impl Looked<'_> {
    fn found(&self, state: &StateMachine, wanted: Wanted) -> Found {
        let Some(group) = self.group else { return refused(wanted, errors::NONE) };
        let pending: HashSet<_> = if self.stable { group.pending().collect() } else { HashSet::new() };
        let Some(wanted) = wanted else { return all(state, group, &pending) };
        let look = |name: &TopicName, number: i32| {
            let key = (state.topic(name)?.id, u32::try_from(number).ok()?);
            Some(one(group, key, &pending))
        };
        let topics = wanted.into_iter().map(|(name, numbers)| {
            let none = || Offset::none(errors::NONE);
            let partitions =
                numbers.into_iter().map(|number| (number, look(&name, number).unwrap_or_else(none)));
            let partitions = partitions.collect();
            (name, partitions)
        });
        topics.collect()
    }
}

fn one(group: &Group, (topic, partition): (TopicId, u32), pending: &HashSet<(TopicId, u32)>) -> Offset {
    if pending.contains(&(topic, partition)) {
        return Offset::none(ResponseError::UnstableOffsetCommit.code());
    }
    group.offsets().get(topic, partition).map_or_else(|| Offset::none(errors::NONE), Offset::of)
}

fn all(state: &StateMachine, group: &Group, pending: &HashSet<(TopicId, u32)>) -> Found {
    let mut found: BTreeMap<&str, Vec<(i32, Offset)>> = BTreeMap::new();
    let keys: BTreeSet<_> =
        group.offsets().iter().map(|(key, _)| key).chain(pending.iter().copied()).collect();
    for (topic, partition) in keys {
        let Some(known) = state.topic_by_id(topic) else { continue };
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        found.entry(&known.name).or_default().push((number, one(group, (topic, partition), pending)));
    }
    let named =
        |(name, partitions): (&str, _)| (TopicName(StrBytes::from_string(name.to_owned())), partitions);
    found.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics;

    use super::*;
    use crate::net::kafka::tests::encodes;
    use crate::net::kafka::transactions::tests::under_way;

    /// Offset and error of each partition of "t" that is told.
    fn told(is_aborted: bool, stable: bool, wanted: Option<Vec<i32>>) -> Vec<(i32, i64, i16)> {
        let topics = wanted.map(|partitions| {
            let topic = OffsetFetchRequestTopics::default().with_name(TopicName("t".into()));
            vec![topic.with_partition_indexes(partitions)]
        });
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(StrBytes::from_static_str("g").into())
            .with_topics(topics);
        let body = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(stable);
        let answer = answer(&under_way(is_aborted), body, BATCHED, Ok(()));
        let partitions = answer.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|each| (each.partition_index, each.committed_offset, each.error_code)).collect()
    }

    #[test]
    fn an_offset_that_a_transaction_may_change_is_not_told_to_whoever_wants_it_stable() {
        let unstable = ResponseError::UnstableOffsetCommit.code();
        assert_eq!(told(false, true, Some(vec![0, 1])), [(0, -1, unstable), (1, 3, 0)]);
        assert_eq!(told(false, true, None), [(0, -1, unstable), (1, 3, 0)]);
        assert_eq!(told(false, false, Some(vec![0, 1])), [(0, -1, 0), (1, 3, 0)]);
        assert_eq!(told(true, true, None), [(1, 3, 0)]);
    }

    #[test]
    fn what_is_refused_says_why_in_every_version() {
        let topic = kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(TopicName("t".into()))
            .with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default().with_group_id(StrBytes::from_static_str("g").into());
        let body = OffsetFetchRequest::default()
            .with_group_id(StrBytes::from_static_str("g").into())
            .with_topics(Some(vec![topic]));
        let body = body.with_groups(vec![group]);
        let refused = Err(ResponseError::NotCoordinator);
        encodes(ApiKey::OffsetFetch, |version| {
            let answer = answer(&under_way(false), body.clone(), version, refused);
            let code = match version {
                BATCHED.. => answer.groups[0].error_code,
                _ => answer.topics[0].partitions[0].error_code,
            };
            assert_eq!(code, ResponseError::NotCoordinator.code());
            answer
        });
    }
}
