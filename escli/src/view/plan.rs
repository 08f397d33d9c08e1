//! PURE: a plan that is not run, as text and as a document.

use std::fmt::Write as _;

use serde::Serialize;
use shared::ids::NodeId;

use super::paint::Paint;
use crate::engine::outcome::{Outcome, StepOutcome};
use crate::output::SCHEMA_VERSION;
use crate::plan::{Action, Plan, Question};

/// The document of `--dry-run`: that of an operation, with what only a plan has.
#[derive(Debug, Serialize)]
pub struct PlanDocument<'a> {
    schema_version: u32,
    operation: &'a str,
    cluster: &'a str,
    outcome: Outcome,
    changed: usize,
    would_change: usize,
    steps: Vec<StepDocument<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<&'a Question>,
    duration_ms: u64,
}

#[derive(Debug, Serialize)]
struct StepDocument<'a> {
    id: &'a str,
    node: Option<NodeId>,
    action: &'static str,
    outcome: StepOutcome,
    ms: u64,
    stage: usize,
    why: &'a str,
    details: &'a Action,
}

/// Returns the document of a plan.
pub fn document(plan: &Plan) -> PlanDocument<'_> {
    let stages = plan.stages.iter().zip(1..);
    let steps = stages.flat_map(|(stage, number)| stage.steps.iter().map(move |step| (step, number)));
    let steps = steps.map(|(step, stage)| StepDocument {
        id: &step.id,
        node: step.node,
        action: step.action.name(),
        outcome: StepOutcome::Planned,
        ms: 0,
        stage,
        why: &step.why,
        details: &step.action,
    });
    PlanDocument {
        schema_version: SCHEMA_VERSION,
        operation: &plan.operation,
        cluster: &plan.cluster,
        outcome: Outcome::Planned,
        changed: 0,
        would_change: plan.changes(),
        steps: steps.collect(),
        notes: &plan.notes,
        question: plan.question.as_ref(),
        duration_ms: 0,
    }
}

/// Returns the numbered steps, each with its node and its reason.
pub fn text(plan: &Plan, paint: Paint) -> String {
    let name = paint.bold(&format!("{} {}", plan.operation, plan.cluster));
    let steps: Vec<_> = plan.steps().collect();
    if steps.is_empty() {
        return format!("{name}: nothing to do\n") + &notes(plan);
    }
    let (count, changes) = (steps.len(), plan.changes());
    let steps_word = if count == 1 { "step" } else { "steps" };
    let mut text = format!("{name}: {count} {steps_word}, {changes} of them change something\n");
    let rows = steps.iter().zip(1..).map(|(step, number)| {
        let node = step.node.map_or_else(|| "cluster".to_owned(), |id| format!("n{id}"));
        (number, node, step.action.describe(), &step.why)
    });
    let rows: Vec<_> = rows.collect();
    let wide =
        |of: fn(&(usize, String, String, &String)) -> usize| rows.iter().map(of).max().unwrap_or_default();
    let node_width = wide(|row| row.1.len());
    let action_width = wide(|row| row.2.chars().count()).min(60);
    let number_width = count.to_string().len();
    for (number, node, action, why) in &rows {
        let line = format!("  {number:>number_width$}  {node:<node_width$}  {action:<action_width$}");
        let _ = writeln!(text, "{line}  {}", paint.dim(why));
    }
    text.push_str(&notes(plan));
    if let Some(question) = &plan.question {
        let (Question::Confirm { text: cost }
        | Question::Downtime { text: cost }
        | Question::TypeName { text: cost, .. }) = question;
        let _ = writeln!(text, "{} {cost}", paint.warn("asks for confirmation:"));
    }
    let operation = &plan.operation;
    text.push_str(&paint.dim(&format!("No changes were made. escli {operation} runs exactly these steps.")));
    text.push('\n');
    text
}

fn notes(plan: &Plan) -> String {
    plan.notes.iter().map(|note| format!("note: {note}\n")).collect()
}
