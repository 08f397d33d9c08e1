//! Heartbeat: a member is there, and hears whether its group rebalances.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{coordinates, errors};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::GroupError;

/// Serves Heartbeat.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: HeartbeatRequest = request.decode()?;
    let renewed = coordinates(session).and_then(|()| renew(session, &body));
    let answer =
        HeartbeatResponse::default().with_error_code(renewed.map_or_else(|error| error.code(), |()| 0));
    Ok(Answer::Now(request.to.send(&answer)))
}

fn renew(session: &Session, body: &HeartbeatRequest) -> Result<(), ResponseError> {
    let state = session.node().state_machine();
    let group = state.group(&body.group_id).ok_or(ResponseError::UnknownMemberId)?;
    let beat = group.heartbeat(body.generation_id, &body.member_id, body.group_instance_id.as_deref());
    if matches!(beat, Ok(()) | Err(GroupError::RebalanceInProgress)) {
        session.shared.groups.sessions.renew(&body.group_id, &body.member_id, Instant::now());
    }
    beat.map_err(errors::code)
}
