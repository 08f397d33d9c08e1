//! SyncGroup: the group's leader hands in what each member gets, and each member hears its part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::{ConsumerProtocolAssignment, SyncGroupRequest, SyncGroupResponse, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::{change, coordinates, errors, until};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::consumer::{ConsumerGroup, Partitions};
use crate::state_machine::groups::subscription::CONSUMER;
use crate::state_machine::groups::{Group, GroupChange, Phase};
use crate::state_machine::{StateMachine, TopicId};

/// From this version on clients say what kind of group they take it for, and are told.
const NAMES_PROTOCOL: i16 = 5;
/// Of what an assignor writes; all versions are alike.
const ASSIGNMENT_VERSION: i16 = 0;

/// What a member gets, and by which assignor of which kind of group.
struct Assigned {
    kind: String,
    protocol: String,
    assignment: Bytes,
}

/// Serves SyncGroup.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: SyncGroupRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move { to.send(&answer(synced(&session, body).await, to.version)) }))
}

async fn synced(session: &Arc<Session>, body: SyncGroupRequest) -> Result<Assigned, ResponseError> {
    coordinates(session)?;
    let leads = {
        let state = session.node().state_machine();
        let group = state.group(&body.group_id).ok_or(ResponseError::UnknownMemberId)?;
        if let Some(consumers) = group.consumer() {
            let assigned = from_consumers(&state, consumers, &body)?;
            session.shared.groups.sessions.renew(&body.group_id, &body.member_id, Instant::now());
            return Ok(assigned);
        }
        may_sync(group, &body)?;
        group.phase() == Phase::CompletingRebalance && group.leader() == Some(&*body.member_id)
    };
    let _waiting = session.shared.groups.sessions.wait(&body.group_id, &body.member_id, Instant::now());
    if leads {
        let assigned =
            body.assignments.iter().map(|each| (each.member_id.to_string(), each.assignment.clone()));
        let assign = GroupChange::Assign {
            member: body.member_id.to_string(),
            generation: body.generation_id,
            assignments: assigned.collect(),
        };
        change(session, &body.group_id, assign).await?;
    }
    until(session, &body.group_id, |group| outcome(group, &body)).await
}

/// What a member of the classic protocol has of what the cluster assigned.
fn from_consumers(
    state: &StateMachine,
    group: &ConsumerGroup,
    body: &SyncGroupRequest,
) -> Result<Assigned, ResponseError> {
    let instance = body.group_instance_id.as_deref();
    let (member, classic) =
        group.classic_member(body.generation_id, &body.member_id, instance).map_err(errors::code)?;
    // Who has something to give up has to hear of it before it joins the group's epoch.
    if member.epoch != group.epoch() && member.revoking.is_empty() {
        return Err(ResponseError::RebalanceInProgress);
    }
    // Afterwards: a member that has not joined since the group went over knows the protocol of before.
    check_protocol(body, CONSUMER, Some(classic.protocol()))?;
    Ok(Assigned {
        kind: CONSUMER.to_owned(),
        protocol: classic.protocol().to_owned(),
        assignment: assignment(state, &member.assigned)?,
    })
}

/// Partitions as an assignor writes them, without those of topics that are gone.
fn assignment(state: &StateMachine, partitions: &Partitions) -> Result<Bytes, ResponseError> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(i32::try_from(*partition).unwrap_or(i32::MAX));
    }
    let topics = topics.into_iter().filter_map(|(topic, partitions)| {
        let name = StrBytes::from_string(state.topic_by_id(topic)?.name.clone());
        Some(TopicPartition::default().with_topic(TopicName(name)).with_partitions(partitions))
    });
    let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(topics.collect());
    let mut out = BytesMut::new();
    out.put_i16(ASSIGNMENT_VERSION);
    let encoded = assignment.encode(&mut out, ASSIGNMENT_VERSION);
    encoded.map(|()| out.freeze()).map_err(|_| ResponseError::UnknownServerError)
}

/// What the member is told as its group stands; `None`: it has to wait for the group's leader.
fn outcome(group: Option<&Group>, body: &SyncGroupRequest) -> Option<Result<Assigned, ResponseError>> {
    let Some(group) = group else { return Some(Err(ResponseError::UnknownMemberId)) };
    if let Err(error) = may_sync(group, body) {
        return Some(Err(error));
    }
    let member = group.members().get(&*body.member_id).ok_or(ResponseError::UnknownMemberId);
    match group.phase() {
        Phase::Stable => Some(member.map(|member| Assigned {
            kind: group.protocol_type().to_owned(),
            protocol: group.protocol().unwrap_or_default().to_owned(),
            assignment: member.assignment.clone(),
        })),
        _ => None,
    }
}

fn may_sync(group: &Group, body: &SyncGroupRequest) -> Result<(), ResponseError> {
    let instance = body.group_instance_id.as_deref();
    if let Some(consumers) = group.consumer() {
        // The group went over to the consumer protocol while the member waited. It is in it still, and has to join that.
        let member = consumers.classic_member(body.generation_id, &body.member_id, instance);
        return Err(member.map_or_else(errors::code, |_| ResponseError::RebalanceInProgress));
    }
    group.member(&body.member_id, instance).map_err(errors::code)?;
    if matches!(group.phase(), Phase::PreparingRebalance { .. }) {
        return Err(ResponseError::RebalanceInProgress);
    }
    group.member_of(body.generation_id, &body.member_id, instance).map_err(errors::code)?;
    check_protocol(body, group.protocol_type(), group.protocol())
}

fn check_protocol(body: &SyncGroupRequest, kind: &str, protocol: Option<&str>) -> Result<(), ResponseError> {
    let kind_differs = body.protocol_type.as_deref().is_some_and(|said| said != kind);
    let protocol_differs = body.protocol_name.as_deref().is_some_and(|said| Some(said) != protocol);
    if kind_differs || protocol_differs {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    Ok(())
}

fn answer(synced: Result<Assigned, ResponseError>, version: i16) -> SyncGroupResponse {
    match synced {
        Ok(assigned) => {
            let name = |text: String| (version >= NAMES_PROTOCOL).then(|| StrBytes::from_string(text));
            SyncGroupResponse::default()
                .with_protocol_type(name(assigned.kind))
                .with_protocol_name(name(assigned.protocol))
                .with_assignment(assigned.assignment)
        }
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::groups::lab::Lab;

    fn body(member: &'static str, generation: i32) -> SyncGroupRequest {
        SyncGroupRequest::default()
            .with_group_id(StrBytes::from_static_str("g").into())
            .with_member_id(StrBytes::from_static_str(member))
            .with_generation_id(generation)
    }

    #[test]
    fn a_member_that_waits_joins_again_when_its_group_goes_over_to_the_consumer_protocol() {
        let mut lab = Lab::joined();
        let heard = |lab: &Lab, member: &'static str, generation| {
            outcome(Some(lab.group()), &body(member, generation)).map(|outcome| outcome.map(drop))
        };
        assert_eq!(heard(&lab, "b", 1), None, "it waits for a");
        lab.join_consumer("x");
        assert_eq!(heard(&lab, "b", 1), Some(Err(ResponseError::RebalanceInProgress)));
        assert_eq!(heard(&lab, "b", 0), Some(Err(ResponseError::IllegalGeneration)));
        assert_eq!(heard(&lab, "c", 1), Some(Err(ResponseError::UnknownMemberId)));
        lab.leave("x");
        assert_eq!(heard(&lab, "b", 1), Some(Err(ResponseError::RebalanceInProgress)));
    }

    #[test]
    fn a_member_that_knows_the_protocol_of_before_joins_again_first() {
        let mut lab = Lab::joined();
        lab.join_consumer("x");
        let heard = |lab: &Lab, generation| {
            let body = body("b", generation).with_protocol_name(Some(StrBytes::from_static_str("sticky")));
            from_consumers(&lab.state, lab.group().consumer().unwrap(), &body).map(drop)
        };
        assert_eq!(heard(&lab, 1), Err(ResponseError::RebalanceInProgress));
        lab.join("b", false);
        let epoch = lab.group().consumer().unwrap().epoch();
        assert_eq!(heard(&lab, epoch), Err(ResponseError::InconsistentGroupProtocol));
    }
}
