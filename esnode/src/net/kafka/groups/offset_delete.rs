//! OffsetDelete: forgets where a group was in partitions that none of its members reads.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::subscription::is_subscribed;
use super::{change, check_name, coordinates};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::GroupChange;
use crate::state_machine::{StateMachine, TopicId};

/// One topic of the request: its id, or why nothing of it is forgotten.
type Plan = Result<TopicId, ResponseError>;

/// Serves OffsetDelete.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: OffsetDeleteRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let answer = deleted(&session, body).await;
        to.send(&answer.unwrap_or_else(|error| OffsetDeleteResponse::default().with_error_code(error.code())))
    }))
}

async fn deleted(
    session: &Arc<Session>,
    body: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, ResponseError> {
    coordinates(session)?;
    check_name(&body.group_id)?;
    let plans = plans(&session.node().state_machine(), &body)?;
    let partitions = plans.iter().zip(&body.topics).filter_map(|(plan, topic)| Some((plan.ok()?, topic)));
    let partitions = partitions.flat_map(|(id, topic)| numbers(topic).map(move |number| (id, number)));
    change(session, &body.group_id, GroupChange::DeleteOffsets(partitions.collect())).await?;
    let topics = body.topics.into_iter().zip(plans).map(|(topic, plan)| {
        let code = plan.map_or_else(|error| error.code(), |_| 0);
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetDeleteResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    Ok(OffsetDeleteResponse::default().with_topics(topics.collect()))
}

fn plans(state: &StateMachine, body: &OffsetDeleteRequest) -> Result<Vec<Plan>, ResponseError> {
    let group = state.group(&body.group_id).ok_or(ResponseError::GroupIdNotFound)?;
    let plan = |topic: &OffsetDeleteRequestTopic| match state.topic(&topic.name) {
        None => Err(ResponseError::UnknownTopicOrPartition),
        Some(_) if is_subscribed(group, &topic.name) => Err(ResponseError::GroupSubscribedToTopic),
        Some(found) => Ok(found.id),
    };
    Ok(body.topics.iter().map(plan).collect())
}

fn numbers(topic: &OffsetDeleteRequestTopic) -> impl Iterator<Item = u32> {
    topic.partitions.iter().filter_map(|partition| u32::try_from(partition.partition_index).ok())
}
