//! What may happen to a group of the consumer protocol, and what comes of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Partitions;
use super::assignor::Assignor;

/// Bytes of a text besides its letters, about.
const TEXT: usize = 48;

/// A subscription by pattern. The coordinator finds what matches; replicas need not agree on how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// The regular expression, as the client wrote it.
    pub regex: String,
    /// Names of the topics that it matches.
    pub topics: BTreeSet<String>,
}

/// A member's heartbeat: what it tells of itself. What is absent has not changed since its last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The member's id, which it has drawn itself.
    pub member: String,
    /// Its epoch; 0 to join.
    pub epoch: i32,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.rack`.
    pub rack: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give up partitions, in ms.
    pub rebalance_timeout: Option<i32>,
    /// Names of the topics that it subscribes to, whether or not there are such topics.
    pub topics: Option<BTreeSet<String>>,
    /// The pattern of topics that it subscribes to as well, or that there is none.
    pub pattern: Option<Option<Pattern>>,
    /// The assignor that it prefers.
    pub assignor: Option<Assignor>,
    /// The partitions that it has.
    pub owned: Option<Partitions>,
}

/// What a member hears on its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Its epoch from now on.
    pub epoch: i32,
    /// What it may have from now on; absent if that is what it was told before.
    pub assignment: Option<Partitions>,
}

/// One change of a group of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerChange {
    /// A member joins, changes its subscription, has given up partitions, or gets on to what it is to have.
    Heartbeat(Heartbeat),
    /// A pattern of members matches other topics than before, since some have come or gone.
    Match(Pattern),
    /// A static member goes for a while: another process may take its place, and gets what it had.
    ReleaseInstance {
        /// Its id.
        member: String,
        /// Its `group.instance.id`.
        instance: String,
    },
    /// The member is removed if it still has to give up partitions in this epoch: it had time enough.
    Fence {
        /// Its id.
        member: String,
        /// Its epoch.
        epoch: i32,
    },
}

/// Bytes that names take, about.
pub(super) fn bytes_of(names: &BTreeSet<String>) -> usize {
    names.iter().map(|name| name.len() + TEXT).sum()
}

impl Pattern {
    fn bytes(&self) -> usize {
        self.regex.len() + bytes_of(&self.topics)
    }
}

impl Heartbeat {
    /// Whether the member joins, or joins again.
    pub fn joins(&self) -> bool {
        self.epoch == 0
    }

    /// Whether it tells what it subscribes to.
    pub(in crate::state_machine::groups) fn subscribes(&self) -> bool {
        self.topics.is_some() || self.pattern.is_some()
    }

    /// Whether it tells everything, since it is not sure what was heard, or what it was told.
    pub(super) fn is_full(&self) -> bool {
        self.rebalance_timeout.is_some() && self.subscribes() && self.owned.is_some()
    }
}

impl ConsumerChange {
    /// Bytes that it adds at most, about. What comes of it is counted once it is known.
    pub(in crate::state_machine::groups) fn bytes(&self) -> usize {
        match self {
            Self::Heartbeat(heartbeat) => {
                let topics = heartbeat.topics.as_ref().map_or(0, bytes_of);
                let pattern = heartbeat.pattern.iter().flatten().map(Pattern::bytes).sum::<usize>();
                heartbeat.client_id.len() + topics + pattern
            }
            Self::Match(pattern) => pattern.bytes(),
            Self::ReleaseInstance { .. } | Self::Fence { .. } => 0,
        }
    }
}
