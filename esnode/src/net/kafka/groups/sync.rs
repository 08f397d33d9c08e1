//! SyncGroup: the group's leader hands in what each member gets, and each member hears its part.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::{change, coordinates, errors, until};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::{Group, GroupChange, Phase};

/// From this version on clients say what kind of group they take it for, and are told.
const NAMES_PROTOCOL: i16 = 5;

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
    group.member(&body.member_id, instance).map_err(errors::code)?;
    if matches!(group.phase(), Phase::PreparingRebalance { .. }) {
        return Err(ResponseError::RebalanceInProgress);
    }
    group.member_of(body.generation_id, &body.member_id, instance).map_err(errors::code)?;
    let kind_differs = body.protocol_type.as_deref().is_some_and(|kind| kind != group.protocol_type());
    let protocol_differs = body.protocol_name.as_deref().is_some_and(|name| Some(name) != group.protocol());
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
