//! ConsumerGroupDescribe: the members of groups of the consumer protocol, what they have and what they are to have.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{by_topic, coordinates};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::groups::check_name;
use crate::net::kafka::groups::describe::{NO_OPERATIONS, OPERATIONS, text};
use crate::net::kafka::ids::topic_numbered;
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;
use crate::state_machine::groups::consumer::{ConsumerGroup, ConsumerMember, Partitions};

/// What members are called, by the protocol that they speak.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

/// Serves ConsumerGroupDescribe.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ConsumerGroupDescribeRequest = request.decode()?;
    let allowed = coordinates(session);
    let state = session.node().state_machine();
    let groups = body.group_ids.iter().map(|name| {
        let described = match allowed.and_then(|()| check_name(name)) {
            Ok(()) => found(&state, name),
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        let operations = if body.include_authorized_operations { OPERATIONS } else { NO_OPERATIONS };
        described.with_group_id(name.clone()).with_authorized_operations(operations)
    });
    let answer = ConsumerGroupDescribeResponse::default().with_groups(groups.collect());
    drop(state);
    Ok(Answer::Now(request.to.send(&answer)))
}

fn found(state: &StateMachine, name: &GroupId) -> DescribedGroup {
    let cluster = state.cluster_id().map(|id| id.0).unwrap_or_default();
    match state.group(name).and_then(|group| group.consumer()) {
        Some(group) => described(state, cluster, group),
        None => DescribedGroup::default()
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(text(&format!(
                "there is no group {:?} of the consumer protocol",
                name.as_str()
            )))),
    }
}

fn described(state: &StateMachine, cluster: Uuid, group: &ConsumerGroup) -> DescribedGroup {
    let members = group.members().iter().map(|(id, member)| described_member(state, cluster, id, member));
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.epoch())
        .with_assignor_name(StrBytes::from_static_str(group.assignor().name()))
        .with_members(members.collect())
}

fn described_member(state: &StateMachine, cluster: Uuid, id: &str, member: &ConsumerMember) -> Member {
    Member::default()
        .with_member_id(text(id))
        .with_instance_id(member.instance.as_deref().map(text))
        .with_rack_id(member.rack.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_subscribed_topic_names(member.topics.iter().map(|topic| TopicName(text(topic))).collect())
        .with_subscribed_topic_regex(member.pattern.as_deref().map(text))
        .with_assignment(assignment(state, cluster, &member.assigned))
        .with_target_assignment(assignment(state, cluster, &member.target))
        .with_member_type(if member.classic.is_some() { CLASSIC } else { CONSUMER })
}

/// The partitions, without those of topics that are gone.
fn assignment(state: &StateMachine, cluster: Uuid, partitions: &Partitions) -> Assignment {
    let topics = by_topic(partitions, cluster).into_iter().filter_map(|(id, partitions)| {
        let topic = topic_numbered(state, cluster, id)?;
        let name = TopicName(text(&topic.name));
        Some(TopicPartitions::default().with_topic_id(id).with_topic_name(name).with_partitions(partitions))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
