//! Progress of a running plan, from the engine's events: plain lines in a file or pipe, bars and spinners on a
//! terminal.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::paint::Paint;
use super::report::duration;
use crate::engine::event::{Event, Listener};
use crate::engine::outcome::StepOutcome;
use crate::output::printable;
use crate::plan::Step;

/// The message after Ctrl-C.
const INTERRUPTED: &str = "Ctrl-C: finishing the current step; press it again to stop at once";

/// PURE: turns events into lines.
#[derive(Debug)]
pub struct Lines {
    paint: Paint,
    total: Cell<usize>,
    ended: Cell<usize>,
}

impl Lines {
    /// Returns a value that has seen no event.
    pub fn new(paint: Paint) -> Self {
        Self { paint, total: Cell::new(0), ended: Cell::new(0) }
    }

    /// Returns the line for an event; the start of a step has none.
    pub fn line(&self, event: &Event<'_>) -> Option<String> {
        match event {
            Event::Began { plan } => {
                self.total.set(plan.steps().count());
                None
            }
            Event::Started { .. } | Event::Progress { .. } => None,
            Event::Ended { step, outcome, ms, note } => {
                self.ended.set(self.ended.get() + 1);
                Some(self.ended_line(step, *outcome, *ms, note))
            }
            Event::Interrupted => Some(self.paint.warn(INTERRUPTED)),
        }
    }

    fn ended_line(&self, step: &Step, outcome: StepOutcome, ms: u64, note: &str) -> String {
        let total = self.total.get().to_string();
        let count = format!("[{:>width$}/{total}]", self.ended.get(), width = total.len());
        let name = name(step);
        let end = match outcome {
            StepOutcome::Succeeded => format!("{} ({})", self.paint.good("ok"), duration(ms)),
            StepOutcome::Skipped => return format!("{count} {name} ... {}", self.paint.dim("already done")),
            StepOutcome::Failed => format!("{} ({})", self.paint.bad("FAILED"), duration(ms)),
            StepOutcome::Planned | StepOutcome::NotRun => "not run".to_owned(),
        };
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("  {}", self.paint.dim(&printable::line(note)))
        };
        format!("{count} {name} ... {end}{note}")
    }
}

/// Returns the name of a step, e.g. `n1 start` or `cluster leader`.
fn name(step: &Step) -> String {
    let who = step.node.map_or_else(|| "cluster".to_owned(), |id| format!("n{id}"));
    format!("{who} {}", step.action.verb())
}

/// Prints one line for each step that has ended.
#[derive(Debug)]
pub struct Plain {
    lines: Lines,
    verbose: bool,
    /// The last tenth of a step's progress that was printed.
    told: Cell<u64>,
}

impl Plain {
    /// With `verbose`, the start of each step is printed too.
    pub fn new(paint: Paint, verbose: bool) -> Self {
        Self { lines: Lines::new(paint), verbose, told: Cell::new(0) }
    }
}

impl Plain {
    /// Prints a line when another tenth of the step is done.
    fn tenth(&self, step: &Step, done: u64, total: u64) {
        let tenth = done.saturating_mul(10) / total.max(1);
        if tenth > self.told.replace(tenth) {
            super::tell(&format!("{}: {} of {} MiB\n", name(step), done >> 20, total >> 20));
        }
    }
}

impl Listener for Plain {
    fn on_event(&self, event: Event<'_>) {
        if let (Event::Started { step }, true) = (&event, self.verbose) {
            super::tell(&format!("{}: {} ({})\n", name(step), step.action.describe(), step.why));
        }
        if let Event::Progress { step, done, total } = &event {
            self.tenth(step, *done, *total);
        }
        if let Some(line) = self.lines.line(&event) {
            super::tell(&format!("{line}\n"));
        }
    }
}

/// Shows a spinner for each running step and a bar for all steps. Lines of finished steps scroll up.
#[derive(Debug)]
pub struct Bars {
    lines: Lines,
    screen: MultiProgress,
    all: ProgressBar,
    running: RefCell<HashMap<String, ProgressBar>>,
}

impl Bars {
    /// Returns bars on standard error.
    pub fn new(paint: Paint) -> Self {
        let screen = MultiProgress::new();
        let all = screen.add(ProgressBar::new(0).with_style(style("{bar:30} {pos}/{len} steps  {elapsed}")));
        Self { lines: Lines::new(paint), screen, all, running: RefCell::default() }
    }
}

impl Listener for Bars {
    fn on_event(&self, event: Event<'_>) {
        let line = self.lines.line(&event);
        match event {
            Event::Began { plan } => {
                self.all.set_length(plan.steps().count() as u64);
                self.all.enable_steady_tick(TICK);
            }
            Event::Started { step } => {
                let bar = ProgressBar::new_spinner().with_style(style("{spinner} {msg}  {elapsed}"));
                let bar = self.screen.insert_before(&self.all, bar);
                bar.set_message(
                    printable::line(&format!("{}: {}", name(step), step.action.describe())).into_owned(),
                );
                bar.enable_steady_tick(TICK);
                self.running.borrow_mut().insert(step.id.clone(), bar);
            }
            Event::Progress { step, done, total } => {
                if let Some(bar) = self.running.borrow().get(&step.id) {
                    if bar.length().is_none() {
                        bar.set_style(style(
                            "{spinner} {msg}  {bar:20} {bytes}/{total_bytes} {bytes_per_sec}  {elapsed}",
                        ));
                    }
                    bar.set_length(total);
                    bar.set_position(done);
                }
            }
            Event::Ended { step, .. } => {
                if let Some(bar) = self.running.borrow_mut().remove(&step.id) {
                    bar.finish_and_clear();
                    self.screen.remove(&bar);
                }
                self.all.inc(1);
            }
            Event::Interrupted => {}
        }
        if let Some(line) = line {
            // If the terminal is closed, the work continues.
            let _ = self.screen.println(printable::seal(&line));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // The next output is then written below the lines that have scrolled up.
        self.all.finish_and_clear();
        let _ = self.screen.clear();
    }
}

const TICK: Duration = Duration::from_millis(100);

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}
