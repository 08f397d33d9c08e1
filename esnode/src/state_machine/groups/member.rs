//! A member of a group.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::change::Joining;
use super::consumer::{Partitions, bytes_of_partitions};
use super::protocol::Protocol;

/// Bytes of a member besides its texts and what it says and gets, about.
const OVERHEAD: usize = 256;

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Time without a sign of it after which it is removed, in ms.
    pub session_timeout: i32,
    /// How long a rebalance waits for it, in ms.
    pub rebalance_timeout: i32,
    /// The assignors that it can do, best first.
    pub protocols: Vec<Protocol>,
    /// What it gets in the group's generation. Opaque here.
    pub assignment: Bytes,
    /// Whether it has joined the generation that is being prepared.
    pub joined: bool,
    /// What it had when the group was last of the consumer protocol, until it joins.
    #[serde(default, skip_serializing_if = "Partitions::is_empty")]
    pub held: Partitions,
    /// The generation that its client knows, if that is not the group's: its epoch when the group was last of the consumer
    /// protocol, until it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<i32>,
}

impl Member {
    pub(super) fn new(joining: Joining) -> Self {
        Self {
            instance: joining.instance,
            client_id: joining.client_id,
            client_host: joining.client_host,
            session_timeout: joining.session_timeout,
            rebalance_timeout: joining.rebalance_timeout,
            protocols: joining.protocols,
            assignment: Bytes::new(),
            joined: true,
            held: Partitions::new(),
            behind: None,
        }
    }

    /// What it says of itself for this protocol.
    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|each| each.name == protocol).map(|each| &each.metadata)
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let protocols: usize = self.protocols.iter().map(Protocol::bytes).sum();
        OVERHEAD
            + self.client_id.len()
            + protocols
            + self.assignment.len()
            + bytes_of_partitions(self.held.len())
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        put(self.instance.as_deref().unwrap_or_default().as_bytes());
        put(self.client_id.as_bytes());
        put(self.client_host.as_bytes());
        put(&self.session_timeout.to_le_bytes());
        put(&self.rebalance_timeout.to_le_bytes());
        for Protocol { name, metadata } in &self.protocols {
            put(name.as_bytes());
            put(metadata);
        }
        put(&self.assignment);
        put(&[self.joined.into()]);
        for (topic, partition) in &self.held {
            put(&topic.to_le_bytes());
            put(&partition.to_le_bytes());
        }
        self.behind.iter().for_each(|generation| put(&generation.to_le_bytes()));
    }
}
