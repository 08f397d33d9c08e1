//! What the engine tells while it runs. Progress bars, plain lines and tests are readers of the same events.

use crate::engine::outcome::StepOutcome;
use crate::plan::{Plan, Step};

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The plan is about to run.
    Began {
        /// The whole plan.
        plan: &'a Plan,
    },
    /// A step is about to run.
    Started {
        /// Which.
        step: &'a Step,
    },
    /// A step that takes its time has come so far.
    Progress {
        /// Which.
        step: &'a Step,
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A step is over; `Skipped` comes without `Started`.
    Ended {
        /// Which.
        step: &'a Step,
        /// What became of it.
        outcome: StepOutcome,
        /// How long it took, in milliseconds.
        ms: u64,
        /// What was seen, e.g. `pid 4711`, or what went wrong.
        note: &'a str,
    },
    /// Ctrl-C: what runs now is finished, nothing else begins. A second one stops at once.
    Interrupted,
}

/// Someone who is told.
pub trait Listener {
    /// Takes note of an event.
    fn on_event(&self, event: Event<'_>);
}

/// Ignores every event.
#[derive(Clone, Copy, Debug)]
pub struct NoopListener;

impl Listener for NoopListener {
    fn on_event(&self, _event: Event<'_>) {}
}
