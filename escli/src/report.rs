//! The one document an operation leaves on standard output with `-o json` or `-o yaml`.

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;

use crate::exit::{Exit, Failure};
use crate::plan::{Plan, Step};

/// Version of every document escli prints; it grows when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// What an operation did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The subcommand, e.g. `up`.
    pub operation: String,
    /// Name of its journal, e.g. `20260131T101530.123Z-up`; absent when nothing was to be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// The cluster's name.
    pub cluster: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Number of steps that changed anything.
    pub changed: usize,
    /// Every step of the plan, in order.
    pub steps: Vec<StepReport>,
    /// What the planner wants the operator to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// From observing to the last step, in milliseconds.
    pub duration_ms: u64,
}

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
    /// As in documents.
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

    /// The exit code that says the same.
    pub fn exit(self) -> Exit {
        match self {
            Self::Succeeded | Self::Planned => Exit::Ok,
            Self::Refused => Exit::Refused,
            Self::Failed => Exit::Failed,
            Self::Partial => Exit::Partial,
            Self::TimedOut => Exit::Timeout,
            Self::Interrupted => Exit::Interrupted,
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

impl Report {
    /// A plan that was not run: shown by `--dry-run`, or empty.
    pub fn unrun(plan: &Plan, outcome: Outcome) -> Self {
        let step_outcome =
            if outcome == Outcome::Planned { StepOutcome::Planned } else { StepOutcome::NotRun };
        Self {
            schema_version: SCHEMA_VERSION,
            operation: plan.operation.clone(),
            operation_id: None,
            cluster: plan.cluster.clone(),
            outcome,
            changed: 0,
            steps: plan.steps().map(|step| StepReport::of(step, step_outcome)).collect(),
            notes: plan.notes.clone(),
            error: None,
            duration_ms: 0,
        }
    }

    /// An operation that a check, or the operator, refused before anything was run.
    pub fn refused(operation: &str, cluster: &str, error: Failure) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            operation: operation.to_owned(),
            operation_id: None,
            cluster: cluster.to_owned(),
            outcome: Outcome::Refused,
            changed: 0,
            steps: Vec::new(),
            notes: Vec::new(),
            error: Some(error),
            duration_ms: 0,
        }
    }

    /// The exit code: that of the error where there is one, because it is the more precise.
    pub fn exit(&self) -> Exit {
        match (&self.error, self.outcome) {
            (Some(error), Outcome::Refused | Outcome::Failed) => error.exit,
            (_, outcome) => outcome.exit(),
        }
    }
}
