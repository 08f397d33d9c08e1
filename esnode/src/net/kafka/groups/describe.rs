//! ListGroups, DescribeGroups and DeleteGroups: what administrators ask for.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{change, check_name, coordinates};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::coordinator;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;
use crate::state_machine::groups::{GROUPS_FORMAT, Group, GroupChange, Phase};

/// From this version on a group that is not there is an error, not a dead group.
const UNKNOWN_IS_ERROR: i16 = 6;
/// What everyone may do with a group while there are no permissions: READ, DELETE and DESCRIBE.
pub(super) const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;
/// Where a client does not ask for them.
pub(super) const NO_OPERATIONS: i32 = i32::MIN;
/// The types of groups, by the protocol that their members speak.
const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

/// Serves ListGroups: each node lists the groups that it coordinates.
pub fn list(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ListGroupsRequest = request.decode()?;
    let has_some = coordinator::lists(session, GROUPS_FORMAT);
    Ok(Answer::Now(request.to.send(&all_listed(&session.node().frozen_state(), &body, has_some))))
}

fn all_listed(
    state: &StateMachine,
    body: &ListGroupsRequest,
    has_some: Result<bool, ResponseError>,
) -> ListGroupsResponse {
    match has_some {
        Err(error) => ListGroupsResponse::default().with_error_code(error.code()),
        Ok(has_some) => {
            let wanted = state.groups().filter(|(_, group)| has_some && is_wanted(group, body));
            ListGroupsResponse::default()
                .with_groups(wanted.map(|(name, group)| listed(name, group)).collect())
        }
    }
}

fn is_wanted(group: &Group, body: &ListGroupsRequest) -> bool {
    let among = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|each| each.eq_ignore_ascii_case(value))
    };
    among(&body.states_filter, group.state()) && among(&body.types_filter, kind(group))
}

fn kind(group: &Group) -> &'static str {
    if group.consumer().is_some() { CONSUMER } else { CLASSIC }
}

fn listed(name: &str, group: &Group) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(text(name)))
        .with_protocol_type(text(if group.consumer().is_some() { CONSUMER } else { group.protocol_type() }))
        .with_group_state(StrBytes::from_static_str(group.state()))
        .with_group_type(StrBytes::from_static_str(kind(group)))
}

/// Serves DescribeGroups, which knows the groups of the classic protocol alone.
pub fn describe(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeGroupsRequest = request.decode()?;
    let allowed = coordinates(session);
    let state = session.node().state_machine();
    let groups = body.groups.iter().map(|name| {
        let found = allowed.and_then(|()| check_name(name)).map(|()| state.group(name));
        let described = match found {
            Ok(Some(group)) if group.consumer().is_none() => described(group),
            Ok(_) => unknown(name, request.to.version),
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        let operations = if body.include_authorized_operations { OPERATIONS } else { NO_OPERATIONS };
        described.with_group_id(name.clone()).with_authorized_operations(operations)
    });
    let answer = DescribeGroupsResponse::default().with_groups(groups.collect());
    drop(state);
    Ok(Answer::Now(request.to.send(&answer)))
}

fn unknown(name: &str, version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    if version < UNKNOWN_IS_ERROR {
        return dead;
    }
    dead.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(
        StrBytes::from_string(format!("there is no group {name:?} of the classic protocol")),
    ))
}

fn described(group: &Group) -> DescribedGroup {
    let protocol = group.protocol().unwrap_or_default();
    let members = group.members().iter().map(|(id, member)| {
        DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(member.instance.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata(protocol).cloned().unwrap_or_default())
            .with_member_assignment(member.assignment.clone())
    });
    let stable = group.phase() == Phase::Stable;
    DescribedGroup::default()
        .with_group_state(text(group.phase().name()))
        .with_protocol_type(text(group.protocol_type()))
        .with_protocol_data(if stable { text(protocol) } else { StrBytes::default() })
        .with_members(members.collect())
}

/// Serves DeleteGroups.
pub fn delete(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DeleteGroupsRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let mut results = Vec::with_capacity(body.groups_names.len());
        for name in body.groups_names {
            let allowed = coordinates(&session).and_then(|()| check_name(&name));
            let deleted = match allowed {
                Ok(()) => change(&session, &name, GroupChange::Delete).await.map(drop),
                Err(error) => Err(error),
            };
            let code = deleted.map_or_else(|error| error.code(), |()| 0);
            results.push(DeletableGroupResult::default().with_group_id(name).with_error_code(code));
        }
        to.send(&DeleteGroupsResponse::default().with_results(results))
    }))
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::groups::lab::Lab;

    #[test]
    fn the_leader_lists_its_groups_others_none_and_whoever_does_not_know_says_so() {
        let (lab, all) = (Lab::joined(), ListGroupsRequest::default());
        let list = |has_some| {
            let answer = all_listed(&lab.state, &all, has_some);
            (answer.groups.len(), answer.error_code)
        };
        let loading = ResponseError::CoordinatorLoadInProgress;
        assert_eq!(
            [list(Ok(true)), list(Ok(false)), list(Err(loading))],
            [(1, 0), (0, 0), (0, loading.code())]
        );
    }
}
