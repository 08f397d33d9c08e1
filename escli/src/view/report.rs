//! PURE: the document that an operation prints at its end, and errors as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::paint::Paint;
use crate::engine::outcome::{Outcome, StepOutcome, StepReport};
use crate::failure::Failure;
use crate::output::{SCHEMA_VERSION, printable};
use crate::plan::Plan;

/// The result of an operation.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this document: [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The subcommand, e.g. `up`.
    pub operation: String,
    /// Id of the operation and name of its journal, e.g. `20260131T101530.123Z-up`; absent if nothing was to be run.
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
    /// Why it did not succeed; absent if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Time from the first inspection to the last step, in milliseconds.
    pub duration_ms: u64,
}

impl Report {
    /// Returns the report of a plan that was not run: shown by `--dry-run`, or empty.
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

    /// Returns the report of an operation that a check, or the operator, refused before any step.
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
}

/// Returns one line for standard output, and the planner's notes.
pub fn text(report: &Report, paint: Paint) -> String {
    let name = paint.bold(&format!("{} {}", report.operation, report.cluster));
    let total = report.steps.len();
    let ended = |outcome| report.steps.iter().filter(|step| step.outcome == outcome).count();
    let done = ended(StepOutcome::Succeeded) + ended(StepOutcome::Skipped);
    let time = duration(report.duration_ms);
    let plural = if report.changed == 1 { "" } else { "s" };
    let changed = format!("{} change{plural}", report.changed);
    let progress = format!("{done} of {total} steps done, {changed}, {time}");
    let summary = match report.outcome {
        Outcome::Succeeded if report.changed == 0 => format!("{}, {time}", paint.good("nothing to change")),
        Outcome::Succeeded => format!("{}, {changed}, {time}", paint.good("done")),
        Outcome::Planned => "planned".to_owned(),
        Outcome::Refused => format!("{}, no changes were made", paint.bad("refused")),
        Outcome::Failed => format!("{}, {progress}", paint.bad("failed")),
        Outcome::Partial => format!("{}, {progress}", paint.bad("partially failed")),
        Outcome::TimedOut => format!("{}, {progress}", paint.bad("timed out")),
        Outcome::Interrupted => format!("{}, {progress}", paint.warn("interrupted")),
    };
    let mut text = format!("{name}: {summary}\n");
    for note in &report.notes {
        let _ = writeln!(text, "{} {note}", paint.dim("note:"));
    }
    text
}

/// Returns an error as text: what happened, the evidence, and what to do next.
pub fn failure(failure: &Failure, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.bad("escli:"), lines(&failure.message));
    for line in &failure.details {
        let _ = writeln!(text, "  {}", lines(line));
    }
    for line in &failure.hints {
        let _ = writeln!(text, "  {} {}", paint.good("→"), lines(line));
    }
    text
}

/// Makes a text printable and indents its further lines, so that none of them looks like one of escli's own.
fn lines(text: &str) -> String {
    text.lines().map(printable::line).collect::<Vec<_>>().join("\n    ")
}

/// Returns a duration for people: `340 ms`, `1.2 s`, `3 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}
