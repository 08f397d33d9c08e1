//! Runs the stages of a plan: skips steps that are done, and journals, performs and verifies the others.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;

use super::Engine;
use super::error::StepError;
use super::event::Event;
use super::journal::Record;
use super::ports::{Cluster, Hosts};
use crate::engine::outcome::{Outcome, StepOutcome, StepReport};
use crate::plan::{Plan, Stage, Step};

/// How long the steps that undo a failed stage may take after `--timeout` has passed.
const RESCUE_LIMIT: Duration = Duration::from_secs(60);

/// The result of running a plan.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// Every step of the plan, in order.
    pub steps: Vec<StepReport>,
    /// Number of steps that changed anything.
    pub changed: usize,
    /// Why it did not succeed; `None` if it did.
    pub error: Option<StepError>,
    /// Whether a failed stage was undone.
    pub rescue: Rescue,
}

/// Whether the steps that undo a failed stage succeeded.
#[derive(Debug, PartialEq, Eq)]
pub enum Rescue {
    /// There were no such steps.
    None,
    /// All of them succeeded.
    Done,
    /// One of them failed.
    Failed {
        /// The id of that step.
        step: String,
        /// Why it failed.
        reason: String,
    },
}

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    /// Runs the plan to its end, to the first failure, to the deadline or to Ctrl-C, and journals the outcome.
    pub async fn execute(&self, plan: &Plan) -> Run {
        self.listener.on_event(Event::Began { plan });
        let mut reports: Vec<StepReport> = Vec::new();
        let (mut error, mut rescue) = (None, Rescue::None);
        for stage in &plan.stages {
            if self.interrupt.asked() {
                error = Some(StepError::Interrupted);
            }
            if error.is_some() {
                reports.extend(stage.steps.iter().map(|step| StepReport::of(step, StepOutcome::NotRun)));
                continue;
            }
            let (ended, failed) = self.run_stage(stage).await;
            reports.extend(ended);
            // An interrupted operation is resumed later, so nothing is undone.
            if failed.as_ref().is_some_and(|error| !matches!(error, StepError::Interrupted)) {
                rescue = self.rescue(stage, &mut reports).await;
            }
            error = failed;
        }
        let run = conclude(plan, reports, error, rescue);
        // Without this record the journal reads as "may be unfinished", which is safe.
        let _ = self.journal.append(&Record::Ended { outcome: run.outcome, at: Timestamp::now() });
        run
    }

    /// Runs the steps that undo the failed `stage`.
    async fn rescue(&self, stage: &Stage, reports: &mut Vec<StepReport>) -> Rescue {
        if stage.rescue.is_empty() {
            return Rescue::None;
        }
        // The operation's time may have run out; a failed stage is undone nevertheless.
        let rescuer = Engine { deadline: self.deadline.max(Instant::now() + RESCUE_LIMIT), ..*self };
        for step in &stage.rescue {
            let (report, error) = rescuer.run_step(step).await;
            reports.push(report);
            if let Some(error) = error {
                return Rescue::Failed { step: step.id.clone(), reason: error.to_string() };
            }
        }
        Rescue::Done
    }

    async fn run_stage(&self, stage: &Stage) -> (Vec<StepReport>, Option<StepError>) {
        let steps = stream::iter(stage.steps.iter().map(|step| self.run_step(step)));
        let mut all = std::pin::pin!(steps.buffered(self.concurrency.max(1)).collect::<Vec<_>>());
        let mut told = self.interrupt.asked();
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut all => break ended,
                () = self.interrupt.reached(2) => {
                    let unknown = stage.steps.iter().map(|step| StepReport::of(step, StepOutcome::NotRun));
                    return (unknown.collect(), Some(StepError::Interrupted));
                }
                () = self.interrupt.reached(1), if !told => {
                    told = true;
                    self.listener.on_event(Event::Interrupted);
                }
            }
        };
        let (mut reports, mut first) = (Vec::new(), None);
        for (report, error) in ended {
            reports.push(report);
            first = first.or(error);
        }
        (reports, first)
    }

    async fn run_step(&self, step: &Step) -> (StepReport, Option<StepError>) {
        let began = Instant::now();
        let result = self.attempt(step).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (outcome, note, error) = match result {
            Ok(None) => (StepOutcome::Skipped, "already done".to_owned(), None),
            Ok(Some(note)) => (StepOutcome::Succeeded, note, None),
            Err(error) => (StepOutcome::Failed, error.to_string(), Some(error)),
        };
        self.listener.on_event(Event::Ended { step, outcome, ms, note: &note });
        (StepReport { ms, ..StepReport::of(step, outcome) }, error)
    }

    /// Performs the step unless it is done; returns what was found, or `None` if it was done already.
    async fn attempt(&self, step: &Step) -> Result<Option<String>, StepError> {
        let id = || step.id.clone();
        if self.is_done(step).await? {
            self.write(&Record::Skipped { step: id(), at: Timestamp::now() })?;
            return Ok(None);
        }
        if Instant::now() >= self.deadline {
            return Err(StepError::DeadlinePassed { step: id() });
        }
        if let Some(lost) = (self.lost)() {
            return Err(StepError::LeaseLost { lost, step: id() });
        }
        self.write(&Record::Started { step: id(), at: Timestamp::now() })?;
        self.listener.on_event(Event::Started { step });
        match self.perform(step).await {
            Ok(note) => {
                self.write(&Record::Succeeded { step: id(), at: Timestamp::now(), note: note.clone() })?;
                Ok(Some(note))
            }
            Err(error) => {
                self.write(&Record::Failed { step: id(), at: Timestamp::now(), error: error.to_string() })?;
                Err(error)
            }
        }
    }

    /// Writes a record; a step that cannot be journalled must not be performed.
    fn write(&self, record: &Record) -> Result<(), StepError> {
        self.journal.append(record).map_err(|error| StepError::Journal {
            path: self.journal.path().to_owned(),
            reason: error.to_string(),
        })
    }
}

fn conclude(plan: &Plan, steps: Vec<StepReport>, error: Option<StepError>, rescue: Rescue) -> Run {
    let undoing = plan.stages.iter().flat_map(|stage| &stage.rescue);
    let changing: HashSet<_> =
        plan.steps().chain(undoing).filter(|step| step.action.changes()).map(|step| &step.id).collect();
    let ran = steps.iter().filter(|report| report.outcome == StepOutcome::Succeeded);
    let changed = ran.filter(|report| changing.contains(&report.id)).count();
    let outcome = match &error {
        None => Outcome::Succeeded,
        Some(StepError::Interrupted) => Outcome::Interrupted,
        Some(error) if error.is_deadline() => Outcome::TimedOut,
        Some(_) if changed > 0 => Outcome::Partial,
        Some(error) if error.is_refusal() => Outcome::Refused,
        Some(_) => Outcome::Failed,
    };
    Run { outcome, steps, changed, error, rescue }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
