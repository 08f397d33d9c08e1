//! Events of a running plan. Progress bars, plain output and tests all listen to them.

use crate::engine::outcome::StepOutcome;
use crate::plan::{Plan, Step};

/// Something that happened while a plan runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The plan is about to run.
    Began {
        /// The whole plan.
        plan: &'a Plan,
    },
    /// A step is about to run.
    Started {
        /// The step.
        step: &'a Step,
    },
    /// Progress of a step that copies data.
    Progress {
        /// The step.
        step: &'a Step,
        /// Bytes copied.
        done: u64,
        /// Bytes in total.
        total: u64,
    },
    /// A step is over. `Skipped` comes without `Started`.
    Ended {
        /// The step.
        step: &'a Step,
        /// How it ended.
        outcome: StepOutcome,
        /// How long it took, in milliseconds.
        ms: u64,
        /// What was found, e.g. `pid 4711`, or what went wrong.
        note: &'a str,
    },
    /// The operator pressed Ctrl-C: running steps are finished, and no other is started. A second Ctrl-C stops at once.
    Interrupted,
}

/// A receiver of events.
pub trait Listener {
    /// Handles one event.
    fn on_event(&self, event: Event<'_>);
}

/// Ignores every event.
#[derive(Clone, Copy, Debug)]
pub struct NoopListener;

impl Listener for NoopListener {
    fn on_event(&self, _event: Event<'_>) {}
}
