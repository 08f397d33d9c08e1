//! The loop over a plan's stages: skip what is done, journal, perform, prove, tell.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use shared::spec::RaftTiming;

use super::event::{Event, Listener};
use super::interrupt::Interrupt;
use super::journal::{Journal, Record};
use super::ports::{Cluster, Hosts};
use super::step::Trouble;
use crate::exit::Failure;
use crate::plan::{Plan, Stage, Step};
use crate::report::{Outcome, StepOutcome, StepReport};

/// How long taking back may take after `--timeout` has passed.
const RESCUE_LIMIT: Duration = Duration::from_secs(60);

/// How long the steps may take, each on its own.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From a node's start to its first answer; it recovers its log in this time.
    pub live: Duration,
    /// Until there is a leader, and until all follow it.
    pub leader: Duration,
    /// Until a node that was started again has what the leader has.
    pub catch_up: Duration,
    /// From asking a node to end to its end.
    pub stop: Duration,
    /// Between two looks.
    pub poll: Duration,
}

impl Limits {
    /// With Raft's timing as it is configured.
    pub fn of(raft: &RaftTiming) -> Self {
        Self {
            live: Duration::from_secs(60),
            leader: raft.elections(10, Duration::from_secs(30)),
            catch_up: raft.elections(10, Duration::from_secs(300)),
            stop: raft.elections(10, Duration::from_secs(30)),
            poll: Duration::from_millis(10),
        }
    }
}

/// Runs plans through ports.
pub struct Engine<'a, H, C> {
    /// The machines.
    pub hosts: &'a H,
    /// The admin API.
    pub cluster: &'a C,
    /// Who is told.
    pub listener: &'a dyn Listener,
    /// Where it is written down first.
    pub journal: &'a Journal,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// Why nothing may be begun any more: somebody else may be at work on the hosts.
    pub lost: &'a dyn Fn() -> Option<Failure>,
    /// When `--timeout` is over.
    pub deadline: Instant,
    /// How long the steps may take.
    pub limits: Limits,
    /// Members that vote.
    pub voters: usize,
    /// How many steps of a stage run at once.
    pub concurrency: usize,
}

/// How a plan ran.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// Every step of the plan, in order.
    pub steps: Vec<StepReport>,
    /// Number of steps that changed anything.
    pub changed: usize,
    /// Why it did not succeed.
    pub error: Option<Failure>,
}

/// How one stage ended; the worst of its steps counts.
enum StageEnd {
    Done,
    Trouble(Trouble),
}

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    /// Runs the plan to its end, its first failure, the deadline or Ctrl-C, and journals how it ended.
    pub async fn execute(&self, plan: &Plan) -> Run {
        self.listener.hear(Event::Began { plan });
        let mut reports: Vec<StepReport> = Vec::new();
        let mut trouble = None;
        for stage in &plan.stages {
            if self.interrupt.asked() {
                trouble = Some(Trouble::Interrupted);
            }
            if trouble.is_some() {
                reports.extend(stage.steps.iter().map(|step| StepReport::of(step, StepOutcome::NotRun)));
                continue;
            }
            let (ended, end) = self.run_stage(stage).await;
            reports.extend(ended);
            if let StageEnd::Trouble(what) = end {
                trouble = Some(self.rescue(stage, what, &mut reports).await);
            }
        }
        let run = conclude(plan, reports, trouble);
        // The operation is over; a journal that cannot say so reads as "may be unfinished", which is safe.
        let _ = self.journal.append(&Record::Ended { outcome: run.outcome, at: Timestamp::now() });
        run
    }

    /// Takes back what a stage that failed has begun. Whoever interrupts goes on later, and nothing is taken back.
    async fn rescue(&self, stage: &Stage, trouble: Trouble, reports: &mut Vec<StepReport>) -> Trouble {
        let (Trouble::Failed(mut failure), timed_out) = (match trouble {
            Trouble::TimedOut(failure) => (Trouble::Failed(failure), true),
            other => (other, false),
        }) else {
            return Trouble::Interrupted;
        };
        // Time may be over; what was begun is taken back all the same.
        let rescuer = Engine { deadline: self.deadline.max(Instant::now() + RESCUE_LIMIT), ..*self };
        let mut undone = !stage.rescue.is_empty();
        for step in &stage.rescue {
            let (report, trouble) = rescuer.run_step(step).await;
            reports.push(report);
            if let Some(trouble) = trouble {
                *failure = failure.detail(format!("and it could not be taken back: {}: {trouble}", step.id));
                undone = false;
                break;
            }
        }
        if undone {
            *failure = failure.detail("what had been begun was taken back");
        }
        if timed_out { Trouble::TimedOut(failure) } else { Trouble::Failed(failure) }
    }

    async fn run_stage(&self, stage: &Stage) -> (Vec<StepReport>, StageEnd) {
        let steps = stream::iter(stage.steps.iter().map(|step| self.run_step(step)));
        let mut all = std::pin::pin!(steps.buffered(self.concurrency.max(1)).collect::<Vec<_>>());
        let mut told = self.interrupt.asked();
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut all => break ended,
                () = self.interrupt.reached(2) => {
                    let unknown = stage.steps.iter().map(|step| StepReport::of(step, StepOutcome::NotRun));
                    return (unknown.collect(), StageEnd::Trouble(Trouble::Interrupted));
                }
                () = self.interrupt.reached(1), if !told => {
                    told = true;
                    self.listener.hear(Event::Interrupted);
                }
            }
        };
        let mut reports = Vec::new();
        let mut end = StageEnd::Done;
        for (report, trouble) in ended {
            reports.push(report);
            if let (StageEnd::Done, Some(trouble)) = (&end, trouble) {
                end = StageEnd::Trouble(trouble);
            }
        }
        (reports, end)
    }

    async fn run_step(&self, step: &Step) -> (StepReport, Option<Trouble>) {
        let began = Instant::now();
        let result = self.attempt(step).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (outcome, note, trouble) = match result {
            Ok(None) => (StepOutcome::Skipped, "already done".to_owned(), None),
            Ok(Some(note)) => (StepOutcome::Succeeded, note, None),
            Err(trouble) => (StepOutcome::Failed, trouble.to_string(), Some(trouble)),
        };
        self.listener.hear(Event::Ended { step, outcome, ms, note: &note });
        (StepReport { ms, ..StepReport::of(step, outcome) }, trouble)
    }

    /// `None` when it was already done.
    async fn attempt(&self, step: &Step) -> Result<Option<String>, Trouble> {
        let id = || step.id.clone();
        if self.is_done(step).await? {
            self.write(&Record::Skipped { step: id(), at: Timestamp::now() })?;
            return Ok(None);
        }
        if Instant::now() >= self.deadline {
            let failure =
                Failure::new(crate::exit::Exit::Timeout, format!("--timeout passed before {}", step.id));
            return Err(Trouble::TimedOut(Box::new(failure)));
        }
        if let Some(failure) = (self.lost)() {
            return Err(Trouble::Failed(Box::new(failure.detail(format!("before {}", step.id)))));
        }
        self.write(&Record::Started { step: id(), at: Timestamp::now() })?;
        self.listener.hear(Event::Started { step });
        match self.perform(step).await {
            Ok(note) => {
                self.write(&Record::Succeeded { step: id(), at: Timestamp::now(), note: note.clone() })?;
                Ok(Some(note))
            }
            Err(trouble) => {
                self.write(&Record::Failed { step: id(), at: Timestamp::now(), error: trouble.to_string() })?;
                Err(trouble)
            }
        }
    }

    /// What cannot be journalled is not done.
    fn write(&self, record: &Record) -> Result<(), Trouble> {
        self.journal.append(record).map_err(|error| {
            let path = self.journal.path().display();
            Trouble::Failed(Box::new(Failure::failed(format!("cannot write the journal {path}: {error}"))))
        })
    }
}

fn conclude(plan: &Plan, steps: Vec<StepReport>, trouble: Option<Trouble>) -> Run {
    let rescue = plan.stages.iter().flat_map(|stage| &stage.rescue);
    let changing: HashSet<_> =
        plan.steps().chain(rescue).filter(|step| step.action.changes()).map(|step| &step.id).collect();
    let ran = steps.iter().filter(|report| report.outcome == StepOutcome::Succeeded);
    let changed = ran.filter(|report| changing.contains(&report.id)).count();
    let (outcome, error) = match trouble {
        None => (Outcome::Succeeded, None),
        Some(Trouble::Failed(failure)) if changed == 0 && failure.exit == crate::exit::Exit::Refused => {
            (Outcome::Refused, Some(*failure))
        }
        Some(Trouble::Failed(failure)) if changed == 0 => (Outcome::Failed, Some(*failure)),
        Some(Trouble::Failed(failure)) => (Outcome::Partial, Some(*failure)),
        Some(Trouble::TimedOut(failure)) => (Outcome::TimedOut, Some(*failure)),
        Some(Trouble::Interrupted) => {
            (Outcome::Interrupted, Some(Failure::new(crate::exit::Exit::Interrupted, "interrupted")))
        }
    };
    Run { outcome, steps, changed, error }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(failure) | Self::TimedOut(failure) => failure.fmt(f),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
