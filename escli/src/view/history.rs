//! PURE: past operations, as text and as documents.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::paint::Paint;
use crate::engine::outcome::{Outcome, StepOutcome};
use crate::engine::past::{OperationState, PastOperation, PastStep};
use crate::output::SCHEMA_VERSION;

/// The document of `history list`.
#[derive(Debug, Serialize)]
pub struct ListDocument<'a> {
    schema_version: u32,
    operations: Vec<Row<'a>>,
    /// Journals that cannot be read, and why.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    broken: &'a [String],
}

/// The document of `history show`.
#[derive(Debug, Serialize)]
pub struct ShowDocument<'a> {
    schema_version: u32,
    #[serde(flatten)]
    row: Row<'a>,
    escli: &'a str,
    steps: Vec<PastStep>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    id: &'a str,
    at: Timestamp,
    who: &'a str,
    cluster: &'a str,
    operation: &'a str,
    #[serde(flatten)]
    end: &'a OperationState,
    resumable: bool,
}

fn row(past: &PastOperation) -> Row<'_> {
    Row {
        id: &past.id,
        at: past.at,
        who: &past.who,
        cluster: &past.plan.cluster,
        operation: &past.plan.operation,
        end: &past.end,
        resumable: past.end.is_open() && past.origin.is_some(),
    }
}

/// Returns the document of `history list`.
pub fn list_document<'a>(all: &'a [PastOperation], broken: &'a [String]) -> ListDocument<'a> {
    ListDocument { schema_version: SCHEMA_VERSION, operations: all.iter().map(row).collect(), broken }
}

/// Returns the document of `history show`.
pub fn show_document(past: &PastOperation) -> ShowDocument<'_> {
    ShowDocument { schema_version: SCHEMA_VERSION, row: row(past), escli: &past.escli, steps: past.steps() }
}

/// Returns one line for each operation, oldest first.
pub fn list(all: &[PastOperation], broken: &[String], paint: Paint) -> String {
    let mut text = String::new();
    if all.is_empty() {
        text.push_str("no operations yet\n");
    }
    let width =
        |of: fn(&PastOperation) -> usize, least: usize| all.iter().map(of).max().unwrap_or(0).max(least);
    let (ids, whos) = (width(|past| past.id.len(), 2), width(|past| past.who.len(), 3));
    let (names, clusters) =
        (width(|past| past.plan.operation.len(), 9), width(|past| past.plan.cluster.len(), 7));
    if !all.is_empty() {
        let _ = writeln!(
            text,
            "{:<ids$}  {:<20}  {:<whos$}  {:<clusters$}  {:<names$}  OUTCOME",
            "ID", "WHEN", "WHO", "CLUSTER", "OPERATION"
        );
    }
    for past in all {
        let PastOperation { id, who, plan, .. } = past;
        let line = format!("{id:<ids$}  {:<20.0}  {who:<whos$}", past.at);
        let _ = writeln!(
            text,
            "{line}  {:<clusters$}  {:<names$}  {}",
            plan.cluster,
            plan.operation,
            end(&past.end, paint)
        );
    }
    for line in broken {
        let _ = writeln!(text, "{} cannot be read: {line}", paint.warn("!"));
    }
    text
}

/// Returns one operation step by step.
pub fn show(past: &PastOperation, paint: Paint) -> String {
    let PastOperation { id, who, escli, plan, .. } = past;
    let mut text = format!("{}  {} {}\n", paint.bold(id), plan.operation, plan.cluster);
    let _ = writeln!(text, "by {who} at {:.0}, escli {escli}: {}", past.at, end(&past.end, paint));
    let steps = past.steps();
    let width = steps.iter().map(|step| step.id.len()).max().unwrap_or_default();
    for PastStep { id, outcome, note, at } in &steps {
        let at = at.map_or_else(|| format!("{:24}", ""), |at| format!("{at:.3}"));
        let word = match outcome {
            None => paint.warn("started, may have run"),
            Some(StepOutcome::Succeeded) => paint.good("ok"),
            Some(StepOutcome::Skipped) => paint.dim("already done"),
            Some(StepOutcome::Failed) => paint.bad("FAILED"),
            Some(StepOutcome::NotRun | StepOutcome::Planned) => paint.dim("not run"),
        };
        let note = if note.is_empty() { String::new() } else { format!("  {note}") };
        let _ = writeln!(text, "  {at}  {id:<width$}  {word}{note}");
    }
    text
}

fn end(end: &OperationState, paint: Paint) -> String {
    let word = end.word();
    match end {
        OperationState::Ended { outcome: Outcome::Succeeded } | OperationState::Resumed { .. } => {
            paint.good(&word)
        }
        OperationState::Running | OperationState::Aborted => word,
        OperationState::Unfinished | OperationState::Ended { .. } => paint.bad(&word),
    }
}
