//! Everything that is printed. Only this module and `main.rs` write to standard output and standard error.
//!
//! Data goes to standard output; progress, questions and errors go to standard error. Whatever is printed is made
//! printable first ([`crate::output::printable`]).

use std::io::{self, BufRead, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::engine::event::{Listener, NoopListener};
use crate::failure::{Exit, Failure};
use crate::hosts::ssh::{Passphrases, Prompt};
use crate::output::Format;
use crate::output::printable;
use crate::plan::{Plan, Question};
use crate::settings::Settings;

pub mod alerts;
pub mod backup;
pub mod check;
pub mod diff;
pub mod document;
pub mod event;
pub mod explain;
pub mod group;
pub mod history;
pub mod paint;
pub mod plan;
pub mod produce;
pub mod progress;
pub mod report;
pub mod status;
pub mod support_bundle;
pub mod table;
pub mod topic;
pub mod transaction;
pub mod upgrade;
pub mod verified;
pub mod watch;

use paint::Paint;

/// The first error of writing to standard output.
static WRITE_ERROR: OnceLock<String> = OnceLock::new();

/// Writes text to standard output, with control characters escaped. Returns `false` if that fails: then a loop should
/// stop, and [`final_exit`] reports the error at the end of the run.
pub fn put(text: &str) -> bool {
    put_raw(&printable::seal(text))
}

/// Writes text to standard output unchanged, control characters included. Returns `false` if that fails.
pub fn put_raw(text: &str) -> bool {
    put_bytes(text.as_bytes())
}

/// Writes bytes to standard output as they are.
pub fn put_bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    written(&out.write_all(bytes).and_then(|()| out.flush()))
}

/// Remembers a failed write. A closed pipe, as after `head`, is not a failure. Returns `false` if the write failed.
pub fn written(result: &io::Result<()>) -> bool {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        WRITE_ERROR.get_or_init(|| error.to_string());
    }
    result.is_ok()
}

/// Returns the exit code of the run: a failure if its output could not be written.
pub fn final_exit(exit: Exit) -> Exit {
    let Some(error) = WRITE_ERROR.get() else { return exit };
    let failure = Failure::failed(format!("cannot write to standard output: {error}"))
        .hint("the operation itself was performed; only its output is missing");
    tell(&report::failure(&failure, Paint::default()));
    match exit {
        Exit::Ok | Exit::Unhealthy | Exit::Differences => Exit::Failed,
        failed => failed,
    }
}

/// Writes to standard error. If that fails, there is nowhere to report it.
pub fn tell(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(printable::seal(text).as_bytes()).and_then(|()| err.flush());
}

/// Prints one document: `text` for people, the document itself for programs.
pub fn show<T: Serialize>(settings: &Settings, document: &T, text: impl FnOnce(Paint) -> String) {
    let text = if settings.output.is_machine() {
        document::text(settings.output, document)
    } else {
        text(out_paint(settings))
    };
    put(&text);
}

/// Returns the colours for standard output.
pub fn out_paint(settings: &Settings) -> Paint {
    Paint::new(settings, settings.env.stdout_is_terminal)
}

/// Returns the colours for standard error.
pub fn err_paint(settings: &Settings) -> Paint {
    Paint::new(settings, settings.env.stderr_is_terminal)
}

/// Returns whether wide tables were asked for.
pub fn is_wide(settings: &Settings) -> bool {
    settings.output == Format::Wide
}

/// Prints an error: to standard error for people, to standard output as the one document for programs.
pub fn failure(settings: &Settings, failure: &Failure) {
    if settings.output.is_machine() {
        put(&document::failure(settings.output, failure));
    }
    tell(&report::failure(failure, err_paint(settings)));
}

/// Prints a plan that will not be run (`--dry-run`).
pub fn plan(settings: &Settings, plan: &Plan) {
    show(settings, &plan::document(plan), |paint| plan::text(plan, paint));
}

/// Prints the report of an operation, with its error if there is one.
pub fn report(settings: &Settings, report: &report::Report) {
    if let Some(failure) = &report.error {
        tell(&report::failure(failure, err_paint(settings)));
    }
    show(settings, report, |paint| report::text(report, paint));
}

/// Returns a listener that shows the progress of a plan on standard error.
pub fn listener(settings: &Settings) -> Box<dyn Listener> {
    let paint = err_paint(settings);
    if settings.quiet {
        Box::new(NoopListener)
    } else if settings.env.stderr_is_terminal && settings.verbose == 0 {
        Box::new(progress::Bars::new(paint))
    } else {
        Box::new(progress::Plain::new(paint, settings.verbose > 0))
    }
}

/// Returns passphrases that are asked for on the terminal, if there is one. Also reports new host keys that were
/// accepted.
pub fn passphrases(settings: &Settings) -> Passphrases {
    let (can_ask, quiet) = (settings.env.can_ask, settings.quiet);
    Passphrases::new(Terminal { can_ask, quiet, paint: err_paint(settings) })
}

/// The operator's terminal. It does not show what is typed.
struct Terminal {
    can_ask: bool,
    quiet: bool,
    paint: Paint,
}

impl Prompt for Terminal {
    fn secret(&self, question: &str) -> Option<String> {
        let answer = self.can_ask.then(|| rpassword::prompt_password(printable::seal(question)).ok())??;
        Some(answer).filter(|answer| !answer.is_empty())
    }

    fn tell(&self, text: &str) {
        if !self.quiet {
            tell(&format!("{} {text}\n", self.paint.warn("!")));
        }
    }
}

/// Asks the operator a question; only called on a terminal. Returns `true` for yes.
pub fn ask(settings: &Settings, question: &Question) -> bool {
    let paint = err_paint(settings);
    let prompt = match question {
        Question::Downtime { text } | Question::Confirm { text } => {
            format!("{} {text}\nContinue? [y/N] ", paint.warn("!"))
        }
        Question::TypeName { text, word } => {
            format!("{} {text}\nType {} to confirm: ", paint.bad("!"), paint.bold(word))
        }
    };
    tell(&prompt);
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).is_err() {
        return false;
    }
    is_yes(question, line.trim())
}

fn is_yes(question: &Question, answer: &str) -> bool {
    match question {
        Question::Downtime { .. } | Question::Confirm { .. } => {
            matches!(answer.to_lowercase().as_str(), "y" | "yes")
        }
        Question::TypeName { word, .. } => answer == word,
    }
}

/// Prints what to try next on standard error, after a success. Silent with `-q` or a format for programs.
pub fn next_steps(settings: &Settings, lines: &[String]) {
    if settings.quiet || settings.output.is_machine() || lines.is_empty() {
        return;
    }
    let paint = err_paint(settings);
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    tell(&format!("{}\n{lines}", paint.dim("next:")));
}

/// Prints the failure of a part, after which the rest continues.
pub fn warn(settings: &Settings, failure: &Failure) {
    tell(&report::failure(failure, err_paint(settings)));
}

/// Prints a hint for people on standard error. Silent with `-q` or a format for programs.
pub fn remark(settings: &Settings, text: &str) {
    if !settings.quiet && !settings.output.is_machine() {
        tell(&format!("{text}\n"));
    }
}

#[cfg(test)]
mod tests;
