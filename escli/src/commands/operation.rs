//! What every changing command does around its planner: lock, observe, plan, ask, journal, execute, report.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use shared::ids::NodeId;

use super::target::Target;
use crate::engine::interrupt::Interrupt;
use crate::engine::journal::{self, Journal};
use crate::engine::lock::{Holder, Lock};
use crate::engine::{Engine, execute::Limits};
use crate::exit::{Exit, Failure};
use crate::observe::observe;
use crate::plan::facts::Facts;
use crate::plan::{Plan, Question, Refusal};
use crate::remote::Lease;
use crate::report::{Outcome, Report, SCHEMA_VERSION, StepOutcome};
use crate::settings::Settings;
use crate::{sha256, view};

/// One changing command.
pub struct Operation<'a> {
    /// How it was called.
    pub settings: &'a Settings,
    /// What it is about.
    pub target: &'a Target,
    /// The subcommand, e.g. `up`.
    pub name: &'a str,
    /// The same command again, for hints.
    pub retry: String,
    /// `--confirm`: the name typed in advance.
    pub confirm: Option<&'a str>,
    /// The planner wants to know whether hosts reach each other.
    pub mesh: bool,
}

impl Operation<'_> {
    /// Plans with `planner` and runs the plan, or shows it with `--dry-run`. Returns what it left to be reported;
    /// `None` after a dry run.
    ///
    /// # Errors
    /// When another operation holds the lock, or the journal cannot be written.
    pub async fn run(
        &self,
        planner: impl FnOnce(&Facts) -> Result<Plan, Refusal>,
    ) -> Result<Option<Report>, Failure> {
        let began = Instant::now();
        let Self { settings, target, .. } = self;
        let _held = if settings.dry_run { None } else { Some((self.lock()?, self.lease().await?)) };
        let (hosts, cluster) = (&target.hosts, &target.cluster);
        let facts = observe(&target.spec, hosts, cluster, settings.concurrency, self.mesh).await;
        let mut report = match planner(&facts) {
            Err(refusal) => self.refused(refusal.into()),
            Ok(plan) if settings.dry_run => {
                view::plan(settings, &plan);
                return Ok(None);
            }
            Ok(plan) => match self.consent(plan.question.as_ref()) {
                Err(refusal) => self.refused(refusal),
                Ok(()) => self.execute(&plan, began).await?,
            },
        };
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Some(report))
    }

    fn refused(&self, failure: Failure) -> Report {
        Report::refused(self.name, self.target.name(), failure)
    }

    /// One lock per cluster.yaml: two local clusters may bear the same name.
    fn lock(&self) -> Result<Lock, Failure> {
        let file = self.target.file.as_deref().unwrap_or(Path::new("-"));
        let digest = sha256::hex(file.as_os_str().as_encoded_bytes());
        let short = digest.get(..8).unwrap_or_default();
        let path = self.settings.env.state_dir.join(self.target.name()).join(format!("{short}.lock"));
        Lock::take(&path, &self.holder())
    }

    fn holder(&self) -> Holder {
        Holder {
            who: self.settings.env.who.clone(),
            operation: self.name.to_owned(),
            since: format!("{:.0}", Timestamp::now()),
            pid: std::process::id(),
        }
    }

    /// Keeps operators at other machines from the hosts. One that cannot be reached is the planner's business.
    async fn lease(&self) -> Result<Vec<Lease>, Failure> {
        let Some(hosts) = self.target.hosts.remote() else { return Ok(Vec::new()) };
        let holder = self.holder();
        let ids = self.target.spec.cluster.nodes.iter().map(|node| node.id);
        let leases = ids.map(|id| hosts.lease(id, &holder));
        let leases: Vec<_> = stream::iter(leases).buffer_unordered(self.settings.concurrency).collect().await;
        let mut held = Vec::new();
        for lease in leases {
            match lease.map_err(Failure::from) {
                Ok(lease) => held.push(lease),
                Err(taken) if taken.exit == Exit::Locked => return Err(taken),
                Err(_) => {}
            }
        }
        Ok(held)
    }

    /// Leaves a line on every host that was worked on. The journal is here; a host that takes no line is no failure.
    async fn note(&self, report: &Report) {
        let Some(hosts) = self.target.hosts.remote() else { return };
        let changed = report.steps.iter().filter(|step| step.outcome == StepOutcome::Succeeded);
        let ids: BTreeSet<NodeId> = changed.filter_map(|step| step.node).collect();
        let line = serde_json::json!({
            "at": format!("{:.0}", Timestamp::now()),
            "who": self.settings.env.who,
            "operation_id": report.operation_id,
            "outcome": report.outcome,
        });
        let line = line.to_string();
        let notes = ids.into_iter().map(|id| hosts.note(id, &line));
        let _: Vec<_> = stream::iter(notes).buffer_unordered(self.settings.concurrency).collect().await;
    }

    /// The operator agrees: in advance by options, or now, on a terminal.
    fn consent(&self, question: Option<&Question>) -> Result<(), Failure> {
        let Some(question) = question else { return Ok(()) };
        let given = match question {
            Question::Downtime { .. } => false,
            Question::TypeName { word, .. } => self.settings.yes && self.confirm == Some(word.as_str()),
        };
        if given {
            return Ok(());
        }
        if let (Question::TypeName { word, .. }, Some(typed)) = (question, self.confirm)
            && typed != word
        {
            return Err(Failure::new(
                Exit::Refused,
                format!("--confirm says {typed}, the cluster is {word}"),
            ));
        }
        if self.settings.env.can_ask && !self.settings.output.is_machine() {
            return if view::ask(self.settings, question) {
                Ok(())
            } else {
                Err(Failure::new(Exit::Refused, "not confirmed; nothing was changed"))
            };
        }
        Err(match question {
            Question::Downtime { text } => Failure::new(Exit::Refused, "refused; nothing was changed")
                .detail(text.clone())
                .hint(format!("if that is meant:  {} --allow-downtime", self.retry)),
            Question::TypeName { text, word } => Failure::new(Exit::Refused, "refused; nothing was changed")
                .detail(text.clone())
                .hint(format!("if that is meant:  {} --yes --confirm {word}", self.retry)),
        })
    }

    async fn execute(&self, plan: &Plan, began: Instant) -> Result<Report, Failure> {
        let Self { settings, target, .. } = self;
        let mut report = Report::unrun(plan, Outcome::Succeeded);
        if plan.stages.is_empty() {
            return Ok(report);
        }
        let id = journal::operation_id(self.name, Timestamp::now());
        let folder = settings.env.state_dir.join(target.name());
        let journal = Journal::begin(&folder, &id, &settings.env.who, plan).map_err(|error| {
            Failure::failed(format!("cannot write a journal in {}: {error}", folder.display()))
        })?;
        let interrupt = Interrupt::listen()
            .map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
        let listener = view::listener(settings);
        let engine = Engine {
            hosts: &target.hosts,
            cluster: &target.cluster,
            listener: listener.as_ref(),
            journal: &journal,
            interrupt: &interrupt,
            deadline: began + settings.timeout,
            limits: Limits::default(),
            voters: target.spec.cluster.nodes.len(),
            concurrency: settings.concurrency,
        };
        let run = engine.execute(plan).await;
        let retry = format!("to go on from here:  {}", self.retry);
        report = Report {
            schema_version: SCHEMA_VERSION,
            operation_id: Some(id),
            outcome: run.outcome,
            changed: run.changed,
            steps: run.steps,
            error: run.error.map(|failure| failure.hint(retry)),
            ..report
        };
        self.note(&report).await;
        Ok(report)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { exit: Exit::Refused, message: refusal.message, details: refusal.reasons, hints: refusal.hints }
    }
}

/// Shows what an operation did; the exit code says the same.
pub fn finish(settings: &Settings, report: Option<&Report>) -> Exit {
    report.map_or(Exit::Ok, |report| {
        view::report(settings, report);
        report.exit()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::settings::Environment;
    use crate::starter;

    /// Consent without a terminal.
    fn consent(arguments: &[&str], confirm: Option<&str>, question: &Question) -> Result<(), Failure> {
        let cli = Cli::parse_from([&["escli", "stop"], arguments].concat());
        let settings = Settings::new(&cli.global, Environment::default());
        let spec = starter::local_spec("local", 3, None);
        let target = Target::new(&settings, spec, String::new(), Path::new("/nowhere")).unwrap();
        let retry = "escli stop 1 2".to_owned();
        Operation { settings: &settings, target: &target, name: "stop", retry, confirm, mesh: false }
            .consent(Some(question))
    }

    #[test]
    fn yes_alone_never_overrides_a_safety_check() {
        let downtime = Question::Downtime { text: "no quorum".to_owned() };
        let refused = consent(&["--yes"], None, &downtime).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert!(refused.hints[0].ends_with("escli stop 1 2 --allow-downtime"), "{:?}", refused.hints);
    }

    #[test]
    fn purging_without_a_terminal_takes_yes_and_the_right_name() {
        let purge = Question::TypeName { text: "for good".to_owned(), word: "local".to_owned() };
        assert!(consent(&[], None, &purge).is_err());
        assert!(consent(&["--yes"], None, &purge).is_err());
        assert!(consent(&[], Some("local"), &purge).is_err());
        assert!(consent(&["--yes"], Some("prod"), &purge).is_err());
        assert_eq!(consent(&["--yes"], Some("local"), &purge), Ok(()));
    }
}
