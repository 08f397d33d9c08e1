//! DescribeQuorum: how far the nodes have the log, which Kafka keeps as a topic of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node as Member, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_protocol::protocol::StrBytes;
use shared::ids::{NodeId, StoreId};
use shared::spec::Node;

use super::answer::Answer;
use super::changes::elsewhere;
use super::frame::{BadRequest, Request};
use super::ids::{broker_id, leader_epoch};
use super::session::Session;
use crate::consensus::{Role, Status};
use crate::runtime::read_clocks;

/// Kafka's name of the log.
const LOG: &str = "__cluster_metadata";
/// The first version with messages, data directories and addresses.
const DETAILED: i16 = 2;
/// What is not known.
const UNKNOWN: i64 = -1;

/// Serves DescribeQuorum, here or through the leader.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeQuorumRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        let node = session.node();
        let status = node.raft_status().await.filter(|status| status.role == Role::Leader);
        let contacts = node.peer_stats().into_iter();
        let quorum = status.map(|status| Quorum {
            own: node.node_id(),
            status,
            stores: node.state_machine().members().bindings().clone(),
            contacts: contacts.filter_map(|(id, peer)| Some((id, peer.last_contact?))).collect(),
            now: read_clocks().wall,
        });
        request.to.send(&answer(&body, quorum.as_ref(), &node.roster(), request.to.version))
    }))
}

/// What a leader knows of the nodes.
struct Quorum {
    own: NodeId,
    status: Status,
    stores: BTreeMap<NodeId, StoreId>,
    /// Since each was heard.
    contacts: BTreeMap<NodeId, Duration>,
    /// In ms since 1970.
    now: i64,
}

fn answer(
    body: &DescribeQuorumRequest,
    quorum: Option<&Quorum>,
    nodes: &[Node],
    version: i16,
) -> DescribeQuorumResponse {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let is_log = topic.topic_name.0.as_str() == LOG && wanted.partition_index == 0;
            let data = match quorum {
                _ if !is_log => failed(ResponseError::UnknownTopicOrPartition),
                None => failed(ResponseError::NotLeaderOrFollower),
                Some(quorum) => quorum.describe(version),
            };
            data.with_partition_index(wanted.partition_index).with_error_message(None)
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    });
    let answer = DescribeQuorumResponse::default().with_topics(topics.collect()).with_error_message(None);
    match quorum {
        Some(quorum) if version >= DETAILED => answer.with_nodes(quorum.members(nodes)),
        _ => answer,
    }
}

fn failed(error: ResponseError) -> PartitionData {
    PartitionData::default().with_error_code(error.code()).with_leader_id((-1).into()).with_leader_epoch(-1)
}

impl Quorum {
    fn describe(&self, version: i16) -> PartitionData {
        let replicas = |ids: &[NodeId]| ids.iter().map(|id| self.replica(*id, version)).collect();
        PartitionData::default()
            .with_leader_id(broker_id(self.own).into())
            .with_leader_epoch(leader_epoch(self.status.term))
            .with_high_watermark(end_offset(self.status.commit))
            .with_current_voters(replicas(&self.status.voters))
            .with_observers(replicas(&self.status.learners))
    }

    fn replica(&self, id: NodeId, version: i16) -> ReplicaState {
        let last = self.status.last_index;
        let (end, heard) = if id == self.own {
            (end_offset(last), Some(Duration::ZERO))
        } else {
            let peer = self.status.peers.iter().find(|peer| peer.id == id);
            (peer.map_or(UNKNOWN, |peer| end_offset(peer.matched)), self.contacts.get(&id).copied())
        };
        let heard = heard.map_or(UNKNOWN, |past| self.now - i64::try_from(past.as_millis()).unwrap_or(0));
        let state = ReplicaState::default()
            .with_replica_id(broker_id(id).into())
            .with_log_end_offset(end)
            .with_last_fetch_timestamp(heard)
            // When one that is behind was not is not remembered.
            .with_last_caught_up_timestamp(if end == end_offset(last) { self.now } else { UNKNOWN });
        match self.stores.get(&id) {
            Some(store) if version >= DETAILED => state.with_replica_directory_id(store.0),
            _ => state,
        }
    }

    /// Where the members speak among themselves.
    fn members(&self, nodes: &[Node]) -> Vec<Member> {
        let known =
            |node: &&Node| self.status.voters.contains(&node.id) || self.status.learners.contains(&node.id);
        let members = nodes.iter().filter(known).map(|node| {
            let listener = Listener::default()
                .with_name(StrBytes::from_static_str("CLUSTER"))
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(node.cluster_port);
            Member::default().with_node_id(broker_id(node.id).into()).with_listeners(vec![listener])
        });
        members.collect()
    }
}

/// The offset behind the entry of this index.
fn end_offset(index: u64) -> i64 {
    i64::try_from(index).map_or(i64::MAX, |index| index.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::describe_quorum_request as asked;
    use uuid::Uuid;

    use super::*;
    use crate::consensus::Peer;
    use crate::net::kafka::tests::encodes;

    fn quorum() -> Quorum {
        let peers = vec![Peer { id: 2, matched: 9 }, Peer { id: 3, matched: 7 }, Peer { id: 4, matched: 0 }];
        let status = Status {
            role: Role::Leader,
            term: 5,
            commit: 8,
            last_index: 9,
            voters: vec![1, 2, 3],
            learners: vec![4],
            peers,
            ..Status::default()
        };
        Quorum {
            own: 1,
            status,
            stores: BTreeMap::from([(2, StoreId(Uuid::from_u128(7)))]),
            contacts: BTreeMap::from([(2, Duration::from_millis(10)), (3, Duration::from_secs(2))]),
            now: 10_000,
        }
    }

    fn ask(topic: &'static str, partition: i32, quorum: Option<&Quorum>) -> DescribeQuorumResponse {
        let partition = asked::PartitionData::default().with_partition_index(partition);
        let topic = asked::TopicData::default()
            .with_topic_name(TopicName(topic.into()))
            .with_partitions(vec![partition]);
        let body = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let nodes = [Node::at(1, "a"), Node::at(2, "b"), Node::at(9, "gone")];
        encodes(ApiKey::DescribeQuorum, |version| answer(&body, quorum, &nodes, version));
        answer(&body, quorum, &nodes, DETAILED)
    }

    #[test]
    fn the_leader_tells_how_far_every_node_has_the_log() {
        let answer = ask(LOG, 0, Some(&quorum()));
        let log = &answer.topics[0].partitions[0];
        assert_eq!((log.error_code, log.leader_id.0, log.leader_epoch, log.high_watermark), (0, 1, 5, 9));
        let told = |replicas: &[ReplicaState]| -> Vec<(i32, i64, i64, i64)> {
            let replicas = replicas.iter();
            replicas
                .map(|replica| {
                    let (heard, equal) = (replica.last_fetch_timestamp, replica.last_caught_up_timestamp);
                    (replica.replica_id.0, replica.log_end_offset, heard, equal)
                })
                .collect()
        };
        let voters = [(1, 10, 10_000, 10_000), (2, 10, 9990, 10_000), (3, 8, 8000, -1)];
        assert_eq!(told(&log.current_voters), voters);
        assert_eq!(told(&log.observers), [(4, 1, -1, -1)]);
        assert_eq!(log.current_voters[1].replica_directory_id, Uuid::from_u128(7));
        let members: Vec<_> = answer.nodes.iter().map(|node| node.node_id.0).collect();
        assert_eq!(members, [1, 2]);
    }

    #[test]
    fn only_a_leader_knows_and_only_of_the_log() {
        let code = |answer: DescribeQuorumResponse| answer.topics[0].partitions[0].error_code;
        assert_eq!(code(ask(LOG, 0, None)), ResponseError::NotLeaderOrFollower.code());
        for (topic, partition) in [(LOG, 1), ("t", 0)] {
            let unknown = ResponseError::UnknownTopicOrPartition.code();
            assert_eq!(code(ask(topic, partition, Some(&quorum()))), unknown);
        }
    }
}
