//! ListConfigResources: what has a configuration.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;
use shared::spec::Node;

use super::{BROKER, TOPIC};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::ids::broker_id;
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;

/// Kafka's numbers of what nothing is configured of here: loggers, clients' metrics and groups.
const NONE_HERE: [i8; 3] = [8, 16, 32];
/// The first version that says what it asks for; the one before asks for clients' metrics.
const BY_KIND: i16 = 1;
/// Bytes that an element takes at most, besides its name.
const ELEMENT: usize = 8;

/// Serves ListConfigResources.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ListConfigResourcesRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let (state, nodes) = (session.node().frozen_state(), session.node().roster());
        let size = size(&state);
        let make = move || to.send(&answer(&state, &nodes, &body, to.version));
        session.shared.memory.answer(size, make).await
    }))
}

/// Bytes that the answer takes at most.
fn size(state_machine: &StateMachine) -> usize {
    1024 + state_machine.topics().map(|topic| topic.name.len() + ELEMENT).sum::<usize>()
}

fn answer(
    state_machine: &StateMachine,
    nodes: &[Node],
    body: &ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    let answer = ListConfigResourcesResponse::default();
    if version < BY_KIND {
        return answer;
    }
    let kinds = &body.resource_types;
    if kinds.iter().any(|kind| ![TOPIC, BROKER].contains(kind) && !NONE_HERE.contains(kind)) {
        return answer.with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let wants = |kind| kinds.is_empty() || kinds.contains(&kind);
    let resource = |kind, name| {
        ConfigResource::default().with_resource_type(kind).with_resource_name(StrBytes::from_string(name))
    };
    let topics = state_machine.topics().filter(|_| wants(TOPIC));
    let nodes = nodes.iter().filter(|_| wants(BROKER));
    let topics = topics.map(|topic| resource(TOPIC, topic.name.clone()));
    let nodes = nodes.map(|node| resource(BROKER, broker_id(node.id).to_string()));
    answer.with_config_resources(topics.chain(nodes).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::super::tests::state_machine;
    use super::*;
    use crate::net::kafka::tests::encodes;

    fn listed(kinds: &[i8], version: i16) -> (i16, Vec<(i8, String)>) {
        let body = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let nodes = [Node::at(1, "a"), Node::at(2, "b")];
        let ask = |version| answer(&state_machine(Default::default()), &nodes, &body, version);
        encodes(ApiKey::ListConfigResources, ask);
        let answer = ask(version);
        let each = answer.config_resources.iter();
        let listed = each.map(|each| (each.resource_type, each.resource_name.to_string())).collect();
        (answer.error_code, listed)
    }

    #[test]
    fn topics_and_nodes_have_configurations_and_nothing_else() {
        let named = |kind, name: &str| (kind, name.to_owned());
        let (topic, nodes) = (named(TOPIC, "t"), [named(BROKER, "1"), named(BROKER, "2")]);
        let all = [&[topic.clone()][..], &nodes].concat();
        assert_eq!((listed(&[], 1), listed(&[TOPIC], 1)), ((0, all), (0, vec![topic])));
        assert_eq!(listed(&[BROKER, 8, 16, 32], 1), (0, nodes.to_vec()));
        assert_eq!(listed(&[TOPIC, 5], 1), (ResponseError::UnsupportedVersion.code(), vec![]));
        assert_eq!(listed(&[], 0), (0, vec![]), "clients' metrics");
    }
}
