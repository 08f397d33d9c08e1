//! DescribeCluster: the nodes, who leads, and what a client may do with the cluster.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use shared::spec::Node;
use uuid::Uuid;

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::ids::broker_id;
use super::metadata::{NOT_ASKED, OF_CLUSTER, advertised};
use super::session::Session;

/// Kafka's kinds of endpoints: where clients are served, and where its controllers speak among themselves.
const SERVES_CLIENTS: i8 = 1;
const OF_CONTROLLERS: i8 = 2;

/// Serves DescribeCluster.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeClusterRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        session.await_leader().await;
        let leader = session.usable_leader().map(|(leader, _)| leader);
        let cluster = session.node().state_machine().cluster_id().map(|id| id.0).unwrap_or_default();
        to.send(&answer(&body, cluster, &session.node().roster(), leader))
    }))
}

fn answer(
    body: &DescribeClusterRequest,
    cluster: Uuid,
    nodes: &[Node],
    leader: Option<NodeId>,
) -> DescribeClusterResponse {
    let refused = |error: ResponseError, why| {
        DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(why)))
    };
    match body.endpoint_type {
        SERVES_CLIENTS => {}
        OF_CONTROLLERS => {
            return refused(ResponseError::MismatchedEndpointType, "nodes serve clients on this port");
        }
        _ => return refused(ResponseError::UnsupportedEndpointType, "no such kind of endpoint"),
    }
    let nodes = nodes.iter().map(|node| {
        DescribeClusterBroker::default()
            .with_broker_id(broker_id(node.id).into())
            .with_host(StrBytes::from_string(advertised(node).to_owned()))
            .with_port(node.client_port.into())
    });
    let may = if body.include_cluster_authorized_operations { OF_CLUSTER } else { NOT_ASKED };
    DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(StrBytes::from_string(cluster.to_string()))
        .with_controller_id(leader.map_or(-1, broker_id).into())
        .with_brokers(nodes.collect())
        .with_cluster_authorized_operations(may)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;
    use crate::net::kafka::tests::encodes;

    fn ask(kind: i8, operations: bool, leader: Option<NodeId>) -> DescribeClusterResponse {
        let body = DescribeClusterRequest::default()
            .with_endpoint_type(kind)
            .with_include_cluster_authorized_operations(operations);
        let mut nodes = [Node::at(1, "a"), Node::at(2, "b")];
        nodes[1].advertised_host = Some("b.example".to_owned());
        let answer = answer(&body, Uuid::from_u128(7), &nodes, leader);
        encodes(ApiKey::DescribeCluster, |_| answer.clone());
        answer
    }

    #[test]
    fn the_nodes_are_told_and_who_leads() {
        let answer = ask(SERVES_CLIENTS, true, Some(2));
        let nodes: Vec<_> = answer
            .brokers
            .iter()
            .map(|node| (node.broker_id.0, node.host.as_str(), node.port, node.is_fenced))
            .collect();
        assert_eq!(nodes, [(1, "a", 9000, false), (2, "b.example", 9000, false)]);
        assert_eq!((answer.error_code, answer.controller_id.0), (0, 2));
        assert_eq!(answer.cluster_id.as_str(), Uuid::from_u128(7).to_string());
        assert_eq!(answer.cluster_authorized_operations, 8096);
        let answer = ask(SERVES_CLIENTS, false, None);
        assert_eq!((answer.controller_id.0, answer.cluster_authorized_operations), (-1, i32::MIN));
    }

    #[test]
    fn there_are_no_endpoints_of_controllers() {
        let code = |kind| ask(kind, false, Some(2)).error_code;
        assert_eq!(code(OF_CONTROLLERS), ResponseError::MismatchedEndpointType.code());
        assert_eq!(code(0), ResponseError::UnsupportedEndpointType.code());
    }
}
