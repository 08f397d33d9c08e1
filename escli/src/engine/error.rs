//! Why a step did not succeed. The commands decide which exit code that is, and what they tell the operator to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use shared::ids::NodeId;

use super::ports::{LeaseLost, PortError, PortErrorKind};

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A port failed.
    #[error("{error}")]
    Port {
        /// The node that did not stop, if the step was to stop it without force.
        did_not_stop: Option<NodeId>,
        /// The port's error.
        error: PortError,
    },
    /// The condition that the step waits for was not met in time.
    #[error("{awaited} {}", within(*limit))]
    TimedOut {
        /// The condition.
        awaited: Awaited,
        /// The step's own limit; `None` if the whole operation's time ran out first.
        limit: Option<Duration>,
        /// What the last poll found.
        last: String,
    },
    /// The whole operation's time had run out before the step was started.
    #[error("the time limit passed before {step}")]
    DeadlinePassed {
        /// The step's id.
        step: String,
    },
    /// A host is no longer reserved for this operation.
    #[error("{lost}")]
    LeaseLost {
        /// The lease that was lost, and why.
        lost: LeaseLost,
        /// The id of the step that was not started.
        step: String,
    },
    /// The node's process has ended.
    #[error("node {node} stopped unexpectedly; {reason}")]
    Died {
        /// The node.
        node: NodeId,
        /// Its panic; otherwise what the lines in `log` are.
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// Another node answers on the node's admin port.
    #[error("node {answers} answers on the admin port of node {node}")]
    WrongNode {
        /// The node that was asked.
        node: NodeId,
        /// The node that answered.
        answers: NodeId,
    },
    /// The node runs another version than it was given.
    #[error("node {node} runs {runs}, not {wanted}")]
    WrongVersion {
        /// The node.
        node: NodeId,
        /// The version it reports.
        runs: String,
        /// The version it should report.
        wanted: String,
    },
    /// The node's process is not the one that was started.
    #[error("node {node} restarted by itself")]
    Restarted {
        /// The node.
        node: NodeId,
    },
    /// The step was performed without an error, and nothing has changed.
    #[error("{step}: performed, but it had no effect")]
    NoEffect {
        /// The step's id.
        step: String,
    },
    /// The journal cannot be written, so no step may be performed.
    #[error("cannot write the journal {}: {reason}", path.display())]
    Journal {
        /// Path of the journal.
        path: PathBuf,
        /// The error of the file system.
        reason: String,
    },
    /// The operator asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl StepError {
    /// Returns whether the whole operation's time limit was the reason.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::DeadlinePassed { .. } | Self::TimedOut { limit: None, .. })
    }

    /// Returns whether the step was refused, and has changed nothing.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Port { error, .. } if error.kind == PortErrorKind::Refused)
    }
}

fn within(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "within the time limit".to_owned(), |limit| format!("within {limit:?}"))
}

/// A condition that a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The node answers on its admin port.
    Live(NodeId),
    /// There is a leader that a majority follows.
    Leader,
    /// All nodes agree on cluster id, leader and term.
    Agreement,
    /// The node leads.
    LeaderIs(NodeId),
    /// The other nodes have a quorum without the node.
    Quorum(NodeId),
    /// The node has caught up.
    CaughtUp(NodeId),
    /// The node votes.
    Voter(NodeId),
    /// A majority knows that the node is no longer a member.
    Removed(NodeId),
    /// Every node writes the wanted on-disk format.
    Format,
    /// Every member reaches the node's `cluster_port`.
    Reachable(NodeId),
    /// The node has served without a break for this long.
    Steady(NodeId, Duration),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(id) => write!(f, "node {id} did not answer on its admin port"),
            Self::Leader => f.write_str("no leader was elected"),
            Self::Agreement => f.write_str("the nodes do not agree"),
            Self::LeaderIs(id) => write!(f, "node {id} did not become the leader"),
            Self::Quorum(id) => {
                write!(f, "the other nodes would lose their quorum without node {id}; it was not stopped")
            }
            Self::CaughtUp(id) => write!(f, "node {id} did not catch up"),
            Self::Voter(id) => write!(f, "node {id} was not promoted to a voter"),
            Self::Removed(id) => write!(f, "node {id} was removed, and a majority does not know it yet"),
            Self::Format => f.write_str("the on-disk format was raised, and not every node writes it yet"),
            Self::Reachable(id) => write!(f, "not every member reaches the cluster_port of node {id}"),
            Self::Steady(id, time) => write!(f, "node {id} did not serve without a break for {time:?}"),
        }
    }
}
