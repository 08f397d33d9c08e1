//! Everything that is printed. Only this module and `main.rs` write to standard output and standard error.

use crate::engine::event::{Deaf, Listener};
use crate::exit::Failure;
use crate::plan::{Plan, Question};
use crate::report::Report;
use crate::settings::Settings;

/// Prints an error: to standard error for people, as the one document for machines.
pub fn failure(_settings: &Settings, failure: &Failure) {
    eprintln!("escli: {failure}");
}

/// Shows a plan that will not be run (`--dry-run`).
pub fn plan(_settings: &Settings, _plan: &Plan) {}

/// Shows what an operation did, and its error when it has one.
pub fn report(_settings: &Settings, _report: &Report) {}

/// Progress of a running plan, on standard error.
pub fn listener(_settings: &Settings) -> Box<dyn Listener> {
    Box::new(Deaf)
}

/// Asks the operator; called only on a terminal. `true` is a yes.
pub fn ask(_settings: &Settings, _question: &Question) -> bool {
    false
}

/// Lines for people on standard error, after success: what to try next. Silent with `-q` or a machine format.
pub fn next_steps(_settings: &Settings, _lines: &[String]) {}
