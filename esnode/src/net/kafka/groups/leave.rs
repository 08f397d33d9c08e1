//! LeaveGroup: members leave by themselves, or an administrator removes static ones.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{change, check_name, coordinates, errors};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::{GroupChange, GroupError, GroupReply, Leaving};

/// From this version on many leave in one request.
const BATCHED: i16 = 3;

/// Serves LeaveGroup.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: LeaveGroupRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    let members = match to.version {
        BATCHED.. => body.members,
        _ => vec![MemberIdentity::default().with_member_id(body.member_id)],
    };
    let allowed = coordinates(&session).and_then(|()| check_name(&body.group_id));
    let left = allowed.map(|()| {
        let leaving = members.iter().map(|member| Leaving {
            member: member.member_id.to_string(),
            instance: member.group_instance_id.as_ref().map(ToString::to_string),
        });
        change(&session, &body.group_id, GroupChange::Leave(leaving.collect()))
    });
    Ok(Answer::later(async move {
        let left = match left {
            Ok(left) => left.await,
            Err(error) => Err(error),
        };
        to.send(&answer(left, members, to.version))
    }))
}

fn answer(
    left: Result<GroupReply, ResponseError>,
    members: Vec<MemberIdentity>,
    version: i16,
) -> LeaveGroupResponse {
    let outcomes: Vec<Option<GroupError>> = match left {
        Ok(GroupReply::Left(outcomes)) => outcomes,
        // Without a group nobody is a member.
        Err(ResponseError::UnknownMemberId) => vec![Some(GroupError::UnknownMember); members.len()],
        Ok(_) => Vec::new(),
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    let codes = outcomes.into_iter().map(|outcome| outcome.map_or(0, |error| errors::code(error).code()));
    if version < BATCHED {
        return LeaveGroupResponse::default().with_error_code(codes.max().unwrap_or(0));
    }
    let responses = members.into_iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_members(responses.collect())
}
