//! PURE: what an operation did, and errors, as text.

use std::fmt::Write as _;

use super::paint::Paint;
use crate::exit::Failure;
use crate::printable;
use crate::report::{Outcome, Report, StepOutcome};

/// One line for standard output, and the planner's notes.
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
        Outcome::Refused => format!("{}, nothing was changed", paint.bad("refused")),
        Outcome::Failed => format!("{}, {progress}", paint.bad("failed")),
        Outcome::Partial => format!("{}, {progress}", paint.bad("failed half way")),
        Outcome::TimedOut => format!("{}, {progress}", paint.bad("timed out")),
        Outcome::Interrupted => format!("{}, {progress}", paint.warn("interrupted")),
    };
    let mut text = format!("{name}: {summary}\n");
    for note in &report.notes {
        let _ = writeln!(text, "{} {note}", paint.dim("note:"));
    }
    text
}

/// What happened, the evidence, and what to do next.
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

/// Made printable, and further lines set in, so that none of them looks like one of ours.
fn lines(text: &str) -> String {
    text.lines().map(printable::line).collect::<Vec<_>>().join("\n    ")
}

/// `340 ms`, `1.2 s`, `3 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}
