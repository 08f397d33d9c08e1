//! Configurations. Those of topics are read and changed by clients, here or through the leader; a node's is its
//! cluster.yaml, which clients can read.

mod alter;
mod describe;
mod list;
mod of_node;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

pub use alter::{full as alter, incremental as incremental_alter};
pub use describe::{handle as describe, of_topic};
pub use list::handle as list;

use super::changes::{Refused, refuse};
use crate::state_machine::config::Kind;
use crate::state_machine::{StateMachine, Topic};

/// Kafka's numbers of what has a configuration.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a setting comes from: set for the topic, said in cluster.yaml, or nobody says.
const DYNAMIC_TOPIC: i8 = 1;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

/// Kafka's number of a kind of value.
fn number_of(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
    }
}

/// The topic of this name, if it is a topic.
fn topic<'a>(state_machine: &'a StateMachine, kind: i8, name: &StrBytes) -> Result<&'a Topic, Refused> {
    match kind {
        TOPIC => state_machine
            .topic(name)
            .ok_or_else(|| (ResponseError::UnknownTopicOrPartition, Some(format!("no topic {name:?}")))),
        BROKER => refuse(ResponseError::InvalidRequest, "a node's configuration is its cluster.yaml"),
        _ => refuse(ResponseError::InvalidRequest, "only topics and nodes have a configuration here"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::BytesMut;

    use super::*;
    use crate::state_machine::command::Command;

    /// A topic "t" with these settings of its own.
    pub fn state_machine(configs: BTreeMap<String, String>) -> StateMachine {
        let mut state_machine = StateMachine::default();
        let create = Command::CreateTopic { name: "t".to_owned(), partitions: 1, configs };
        let mut payload = BytesMut::new();
        create.encode(&mut payload);
        state_machine.apply(1, 1, &payload.freeze());
        state_machine
    }
}
