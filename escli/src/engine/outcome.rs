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
    /// A step failed, and nothing had been changed.
    Failed,
    /// A step failed after others had changed something.
    Partial,
    /// `--timeout` passed.
    TimedOut,
    /// The operator pressed Ctrl-C.
    Interrupted,
}

impl Outcome {
    /// Returns the outcome in words.
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

/// The result of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// The step's id in the plan, e.g. `n1.start`.
    pub id: String,
    /// The node that it changes or checks; `null` if it is about the whole cluster.
    pub node: Option<NodeId>,
    /// The action's name, e.g. `start_node`.
    pub action: String,
    /// How it ended.
    pub outcome: StepOutcome,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// How one step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It would be performed, but this is a dry run.
    Planned,
    /// It was done already.
    Skipped,
    /// It was performed, and the live state shows that it took effect.
    Succeeded,
    /// It was performed and failed.
    Failed,
    /// An earlier step ended the operation first.
    NotRun,
}

impl StepReport {
    /// Returns the report of a step that took no time.
    pub fn of(step: &Step, outcome: StepOutcome) -> Self {
        Self { id: step.id.clone(), node: step.node, action: step.action.name().to_owned(), outcome, ms: 0 }
    }
}
