//! Who leads instead (KIP-951): told together with the error, it spares the client a question.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{fetch_response, produce_response};
use kafka_protocol::protocol::StrBytes;

use super::ids::{broker_id, leader_epoch};
use super::metadata::advertised;
use super::session::Session;

/// A leader, and where clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLeader {
    /// Its id.
    pub id: i32,
    /// Its epoch.
    pub epoch: i32,
    /// Where clients reach it.
    pub host: StrBytes,
    /// The port there.
    pub port: i32,
}

impl NewLeader {
    /// Whether clients ask who leads when they are told so.
    pub fn applies_to(error: i16) -> bool {
        let errors = [ResponseError::NotLeaderOrFollower, ResponseError::FencedLeaderEpoch];
        errors.iter().any(|known| known.code() == error)
    }

    /// The leader that this node would name in its Metadata; none while that is in doubt.
    pub fn known(session: &Session) -> Option<Self> {
        let (leader, term) = session.usable_leader().filter(|_| session.is_leader_sure())?;
        let roster = session.node().roster();
        let node = roster.iter().find(|node| node.id == leader)?;
        Some(Self {
            id: broker_id(leader),
            epoch: leader_epoch(term),
            host: StrBytes::from_string(advertised(node).to_owned()),
            port: node.client_port.into(),
        })
    }

    /// Puts it into the answer to a Produce whose client did not know it.
    pub fn add_to_produce(self, answer: &mut produce_response::ProduceResponse) {
        let leader = produce_response::LeaderIdAndEpoch::default()
            .with_leader_id(self.id.into())
            .with_leader_epoch(self.epoch);
        let partitions = answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
        for partition in partitions.filter(|partition| Self::applies_to(partition.error_code)) {
            partition.current_leader = leader.clone();
        }
        let node = produce_response::NodeEndpoint::default()
            .with_node_id(self.id.into())
            .with_host(self.host)
            .with_port(self.port);
        answer.node_endpoints = vec![node];
    }

    /// Puts it into the answer to a Fetch whose client did not know it.
    pub fn add_to_fetch(self, answer: &mut fetch_response::FetchResponse) {
        let leader = fetch_response::LeaderIdAndEpoch::default()
            .with_leader_id(self.id.into())
            .with_leader_epoch(self.epoch);
        let partitions = answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| Self::applies_to(partition.error_code)) {
            partition.current_leader = leader.clone();
        }
        let node = fetch_response::NodeEndpoint::default()
            .with_node_id(self.id.into())
            .with_host(self.host)
            .with_port(self.port);
        answer.node_endpoints = vec![node];
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Node 2, in its epoch 7.
    pub fn other() -> NewLeader {
        NewLeader { id: 2, epoch: 7, host: "b".into(), port: 9002 }
    }
}
