//! FindCoordinator: the leader coordinates all groups and transactions.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use shared::spec::Node;

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::ids::broker_id;
use super::session::Session;

/// From this version on many are asked for in one request.
const BATCHED: i16 = 4;
/// Kinds of what is coordinated.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Whether this node coordinates what needs on-disk format `since`.
///
/// # Errors
/// `NOT_COORDINATOR`, and `COORDINATOR_NOT_AVAILABLE` until the upgrade of the cluster ends with that format.
pub fn coordinates(session: &Session, since: u16) -> Result<(), ResponseError> {
    let now = session.leadership();
    if !now.serving || now.handing_over {
        return Err(ResponseError::NotCoordinator);
    }
    let format = session.node().state_machine().format();
    if format < since {
        if let Some(times) = session.shared.old_format.due() {
            tracing::warn!(
                format,
                needed = since,
                times,
                "Kafka clients want what needs a newer on-disk format: run the upgrade again without --keep-way-back"
            );
        }
        return Err(ResponseError::CoordinatorNotAvailable);
    }
    Ok(())
}

/// Whether this node has something to list of what needs on-disk format `since`: the leader coordinates all of it, others
/// have nothing.
///
/// # Errors
/// `COORDINATOR_LOAD_IN_PROGRESS` while nobody leads, or this node is about to begin or to cease: an empty list would look
/// like a cluster that has none.
pub fn lists(session: &Session, since: u16) -> Result<bool, ResponseError> {
    let leader = session.usable_leader().map(|(leader, _)| leader);
    Ok(is_leader(leader, session.node().node_id())? && session.node().state_machine().format() >= since)
}

fn is_leader(leader: Option<NodeId>, own: NodeId) -> Result<bool, ResponseError> {
    leader.map(|leader| leader == own).ok_or(ResponseError::CoordinatorLoadInProgress)
}

/// Serves FindCoordinator.
pub fn find(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: FindCoordinatorRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        session.await_leader().await;
        let leader = session.usable_leader().map(|(leader, _)| leader);
        let roster = session.node().roster();
        let leader = roster.iter().find(|node| Some(node.id) == leader);
        to.send(&found(&body, to.version, leader))
    }))
}

fn found(body: &FindCoordinatorRequest, version: i16, leader: Option<&Node>) -> FindCoordinatorResponse {
    let is = match body.key_type {
        GROUP | TRANSACTION => leader.ok_or(ResponseError::CoordinatorNotAvailable),
        _ => Err(ResponseError::InvalidRequest),
    };
    let (node_id, host, port, error) = match is {
        Ok(node) => {
            let host = node.advertised_host.as_ref().unwrap_or(&node.host);
            (broker_id(node.id), StrBytes::from_string(host.clone()), i32::from(node.client_port), 0)
        }
        Err(error) => (-1, StrBytes::default(), -1, error.code()),
    };
    if version < BATCHED {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(None)
            .with_node_id(node_id.into())
            .with_host(host)
            .with_port(port);
    }
    let mut seen = HashSet::new();
    let once = body.coordinator_keys.iter().filter(|key| seen.insert(*key));
    let each = once.map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(error)
            .with_error_message(None)
            .with_node_id(node_id.into())
            .with_host(host.clone())
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::tests::encodes;
    use kafka_protocol::messages::ApiKey;
    use serde_json::json;

    fn leader() -> Node {
        let node = json!({"id": 2, "host": "b", "advertised_host": "b.example", "client_port": 9002});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn the_leader_coordinates_whatever_is_asked_for() {
        let one = FindCoordinatorRequest::default().with_key("g".into());
        let many =
            FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into(), "h".into(), "g".into()]);
        for kind in [GROUP, TRANSACTION] {
            let (one, many) = (one.clone().with_key_type(kind), many.clone().with_key_type(kind));
            let ask = |version| found(if version < BATCHED { &one } else { &many }, version, Some(&leader()));
            encodes(ApiKey::FindCoordinator, ask);
        }
        let ask = |version| found(if version < BATCHED { &one } else { &many }, version, Some(&leader()));
        let answer = ask(3);
        assert_eq!((answer.error_code, answer.node_id.0, answer.port), (0, 2, 9002));
        assert_eq!(answer.host.as_str(), "b.example");
        let answer = ask(5);
        let each =
            answer.coordinators.iter().map(|each| (each.key.as_str(), each.node_id.0, each.error_code));
        assert_eq!(each.collect::<Vec<_>>(), [("g", 2, 0), ("h", 2, 0)]);
    }

    #[test]
    fn whoever_cannot_say_who_coordinates_does_not_list_nothing() {
        assert_eq!((is_leader(Some(2), 2), is_leader(Some(1), 2)), (Ok(true), Ok(false)));
        assert_eq!(is_leader(None, 2), Err(ResponseError::CoordinatorLoadInProgress));
    }

    #[test]
    fn in_an_election_clients_ask_again_and_for_what_nobody_coordinates_they_do_not() {
        let group = FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()]);
        let error = |body: &FindCoordinatorRequest, leader: Option<&Node>| {
            let answer = found(body, 4, leader);
            (answer.coordinators[0].error_code, answer.coordinators[0].node_id.0)
        };
        assert_eq!(error(&group, None), (ResponseError::CoordinatorNotAvailable.code(), -1));
        let share = group.with_key_type(2);
        assert_eq!(error(&share, Some(&leader())), (ResponseError::InvalidRequest.code(), -1));
    }
}
