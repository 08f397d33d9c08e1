//! JoinGroup: a client becomes a member, or a member joins the next generation. The answer comes when all have joined.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{change, check_name, coordinates, duration, until};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::groups::{Group, GroupChange, GroupReply, Joining, Phase, Protocol};

/// Session timeouts that Kafka allows by default, in ms.
const SESSION_TIMEOUTS: std::ops::RangeInclusive<i32> = 6_000..=1_800_000;
/// From this version on a client joins with the id that it is given, so that none is left over if the answer is lost.
const ID_REQUIRED: i16 = 4;
/// From this version on clients are told which kind of group they have joined.
const NAMES_KIND: i16 = 7;
/// From this version on a static leader that starts again can be told to leave the assignment as it is (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;

/// What a member comes to that has joined a group of the classic protocol.
enum Outcome {
    /// It is in a generation.
    Joined(Box<JoinGroupResponse>),
    /// The group is of the consumer protocol by now, or prepares a rebalance that the member has not joined. It is in it
    /// still, and has to join that.
    Again,
}

/// Serves JoinGroup.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: JoinGroupRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    let client = request.client_id.clone();
    Ok(Answer::later(async move {
        let id = body.member_id.clone();
        let joined = join(&session, body, client, to.version).await;
        to.send(&joined.unwrap_or_else(|error| refused(error, id, to.version)))
    }))
}

async fn join(
    session: &Arc<Session>,
    body: JoinGroupRequest,
    client: StrBytes,
    version: i16,
) -> Result<JoinGroupResponse, ResponseError> {
    coordinates(session)?;
    check_name(&body.group_id)?;
    if !SESSION_TIMEOUTS.contains(&body.session_timeout_ms) {
        return Err(ResponseError::InvalidSessionTimeout);
    }
    let (groups, now) = (&session.shared.groups, Instant::now());
    let fresh = body.member_id.is_empty();
    let id = if fresh { draw_id(&client, &body) } else { body.member_id.to_string() };
    if fresh && version >= ID_REQUIRED && body.group_instance_id.is_none() {
        groups.pending.add(id.clone(), duration(body.session_timeout_ms), now);
        return Ok(refused(ResponseError::MemberIdRequired, StrBytes::from_string(id), version));
    }
    let is_new = fresh || groups.pending.take(&id, now);
    let _waiting = groups.sessions.wait(&body.group_id, &id, now);
    let group = body.group_id.to_string();
    let mut joining = joining(body, id, is_new, &client, session.peer);
    loop {
        let reply = change(session, &group, GroupChange::Join(joining.clone())).await?;
        if let GroupReply::Admitted { epoch } = reply {
            return Ok(admitted(joining, epoch, version));
        }
        match until(session, &group, |group| outcome(group, &joining.member, &reply, version)).await? {
            Outcome::Joined(answer) => return Ok(*answer),
            // Meanwhile the group went over to the consumer protocol, or there and back, or began another rebalance.
            Outcome::Again => joining.is_new = false,
        }
    }
}

/// A new member's id: recognisable, and like no other.
fn draw_id(client: &str, body: &JoinGroupRequest) -> String {
    let begins = body.group_instance_id.as_deref().unwrap_or(client);
    format!("{begins}-{}", Uuid::new_v4())
}

fn joining(body: JoinGroupRequest, member: String, is_new: bool, client: &str, peer: SocketAddr) -> Joining {
    let rebalance = body.rebalance_timeout_ms;
    Joining {
        member,
        is_new,
        instance: body.group_instance_id.map(|instance| instance.to_string()),
        client_id: client.to_owned(),
        client_host: format!("/{}", peer.ip()),
        session_timeout: body.session_timeout_ms,
        // Version 0 has one time for both.
        rebalance_timeout: if rebalance > 0 { rebalance } else { body.session_timeout_ms },
        protocol_type: body.protocol_type.to_string(),
        protocols: body
            .protocols
            .into_iter()
            .map(|protocol| Protocol { name: protocol.name.to_string(), metadata: protocol.metadata })
            .collect(),
    }
}

/// What the member is told as its group stands; `None`: others have to join first.
fn outcome(
    group: Option<&Group>,
    id: &str,
    reply: &GroupReply,
    version: i16,
) -> Option<Result<Outcome, ResponseError>> {
    let consumers = group.and_then(|group| group.consumer());
    if consumers.is_some_and(|consumers| consumers.members().contains_key(id)) {
        return Some(Ok(Outcome::Again));
    }
    let Some((group, member)) = group.and_then(|group| group.members().get(id).map(|member| (group, member)))
    else {
        return Some(Err(ResponseError::UnknownMemberId));
    };
    if matches!(group.phase(), Phase::PreparingRebalance { .. }) && !member.joined {
        return Some(Ok(Outcome::Again));
    }
    match reply {
        GroupReply::Joined { after } if group.generation() == *after => None,
        _ => {
            let answer = answer(group, id, matches!(reply, GroupReply::Unchanged), version);
            Some(Ok(Outcome::Joined(Box::new(answer))))
        }
    }
}

/// The generation that the member is in. Its leader hears what each member says of itself, to assign by it.
fn answer(group: &Group, id: &str, unchanged: bool, version: i16) -> JoinGroupResponse {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let protocol = group.protocol().unwrap_or_default();
    let leads = group.leader() == Some(id);
    // It was assigned already: a leader that does not know better is told that it is none.
    let assigned = leads && unchanged && group.phase() == Phase::Stable;
    let skips = assigned && version >= SKIPS_ASSIGNMENT;
    let acts = leads && (skips || !assigned);
    let members = group.members().iter().filter(|_| acts).map(|(id, member)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(member.instance.as_deref().map(text))
            .with_metadata(member.metadata(protocol).cloned().unwrap_or_default())
    });
    JoinGroupResponse::default()
        .with_generation_id(group.generation())
        .with_protocol_type((version >= NAMES_KIND).then(|| text(group.protocol_type())))
        .with_protocol_name(Some(text(protocol)))
        .with_leader(if leads && !acts {
            StrBytes::default()
        } else {
            text(group.leader().unwrap_or_default())
        })
        .with_skip_assignment(skips)
        .with_member_id(text(id))
        .with_members(members.collect())
}

/// To a member of the classic protocol, in a group to which the cluster assigns, another one seems to lead.
fn admitted(joining: Joining, epoch: i32, version: i16) -> JoinGroupResponse {
    let protocol = joining.protocols.into_iter().next().map(|protocol| protocol.name).unwrap_or_default();
    JoinGroupResponse::default()
        .with_generation_id(epoch)
        .with_protocol_type((version >= NAMES_KIND).then(|| StrBytes::from_string(joining.protocol_type)))
        .with_protocol_name(Some(StrBytes::from_string(protocol)))
        .with_member_id(StrBytes::from_string(joining.member))
}

fn refused(error: ResponseError, member: StrBytes, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        // Only from version 7 on may it be absent.
        .with_protocol_name((version < NAMES_KIND).then(StrBytes::default))
        .with_member_id(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::groups::lab::Lab;

    #[test]
    fn a_member_that_waits_joins_again_whenever_its_group_goes_over_to_another_protocol() {
        let mut lab = Lab::joined();
        // The generation that it is answered for; -1 if it has to join again.
        let heard = |lab: &Lab, reply: &GroupReply| {
            let outcome = outcome(Some(lab.group()), "c", reply, NAMES_KIND)?;
            Some(outcome.map(|outcome| match outcome {
                Outcome::Joined(answer) => answer.generation_id,
                Outcome::Again => -1,
            }))
        };
        let joined = lab.join("c", true);
        assert_eq!(heard(&lab, &joined), None, "it waits for a and b");
        lab.join_consumer("x");
        assert_eq!(heard(&lab, &joined), Some(Ok(-1)));
        lab.leave("x");
        assert_eq!(heard(&lab, &joined), Some(Ok(-1)), "nobody has joined the next generation yet");
        let joined = lab.join("c", false);
        assert_eq!(heard(&lab, &joined), None);
        ["a", "b"].iter().for_each(|member| drop(lab.join(member, false)));
        assert_eq!(heard(&lab, &joined), Some(Ok(lab.group().generation())));
    }
}
