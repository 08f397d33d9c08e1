//! How an operation and each of its steps ended.

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;

use crate::plan::Step;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every step succeeded or was already done.
    Succeeded,
    /// `--dry-run`: nothing was run.
    Planned,
    /// A check or the operator refused; nothing was changed.
    Refused,
    /// A step failed, nothing had been changed.
    Failed,
    /// A step failed after others had changed something.
    Partial,
    /// `--timeout` passed.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

impl Outcome {
    /// Returns the words for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Planned => "planned",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Partial => "partial",
            Self::TimedOut => "timed out",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// As in the plan, e.g. `n1.start`.
    pub id: String,
    /// The node it is about; `null` when it is about the whole cluster.
    pub node: Option<NodeId>,
    /// The action's name, e.g. `start_node`.
    pub action: String,
    /// What became of it.
    pub outcome: StepOutcome,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// Would be run.
    Planned,
    /// Was already done.
    Skipped,
    /// Was run, and proved from live state.
    Succeeded,
    /// Was run and failed.
    Failed,
    /// Not reached.
    NotRun,
}

impl StepReport {
    /// A step before anything happened to it.
    pub fn of(step: &Step, outcome: StepOutcome) -> Self {
        Self { id: step.id.clone(), node: step.node, action: step.action.name().to_owned(), outcome, ms: 0 }
    }
}
