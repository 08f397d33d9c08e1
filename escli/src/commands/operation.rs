//! The frame around every command that changes something: lock, inspect, plan, ask, journal, execute, report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use shared::ids::NodeId;
use shared::verified::Finding;

use super::again::CommandLine;
use super::confirm::confirm;
use super::failures;
use super::leases::Leases;
use super::target::Target;
use super::verify;
use crate::cluster_file::known_cluster;
use crate::engine::interrupt::Interrupt;
use crate::engine::journal::{self, Journal, Origin, Record};
use crate::engine::lock::{Holder, Lock};
use crate::engine::observe::observe_api;
use crate::engine::outcome::{Outcome, StepOutcome};
use crate::engine::ports::PortError;
use crate::engine::{Engine, Limits};
use crate::failure::{Exit, Failure};
use crate::output::SCHEMA_VERSION;
use crate::plan::facts::{Facts, Log, LogEnd};
use crate::plan::identity;
use crate::plan::member_set::MemberSet;
use crate::plan::request::Request;
use crate::plan::{Plan, Question, Refusal};
use crate::settings::Settings;
use crate::view;
use crate::view::report::Report;

/// Longest wait for a membership change that is under way: a number of elections, and at least this time.
const MEMBERSHIP_CHANGE_TIMEOUT: (u32, Duration) = (4, Duration::from_secs(3));
/// Time between two inspections.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One run of a command that changes something.
pub struct Operation<'a> {
    /// The options of the command line.
    pub settings: &'a Settings,
    /// The cluster to work on.
    pub target: &'a Target,
    /// Name of the subcommand, e.g. `up`.
    pub name: &'a str,
    /// The same command again, for hints.
    pub retry: CommandLine,
    /// Value of `--confirm`: the name that would have to be typed.
    pub confirm: Option<&'a str>,
    /// The request to the planner.
    pub request: Request,
    /// The interrupted operation that this one resumes.
    pub resumes: Option<&'a Interrupted>,
}

/// An operation that stopped before its end.
#[derive(Clone, Debug)]
pub struct Interrupted {
    /// Path of its journal.
    pub path: PathBuf,
    /// The members when it began.
    pub membership: MemberSet,
}

impl Operation<'_> {
    /// Plans the request and runs the plan; shows it with `--dry-run`. Returns what is to be reported, `None` after a
    /// dry run.
    ///
    /// # Errors
    /// [`Exit::Locked`] if another operation runs; if the journal cannot be written.
    pub async fn run(&self) -> Result<Option<Report>, Failure> {
        let began = Instant::now();
        let Self { settings, target, .. } = self;
        let _lock = if settings.dry_run { None } else { Some(self.lock()?) };
        let leases = if settings.dry_run {
            Leases::default()
        } else {
            Leases::take(target, &self.holder(), settings.concurrency).await?
        };
        let mut facts = self.seen().await;
        if self.request.compares_logs() {
            facts.logs = self.logs(&facts).await;
        }
        let mut request = self.request.clone();
        request.record_baseline(&facts);
        let planned = self.same_members(&facts);
        let planned = planned.and_then(|()| request.plan(&target.spec, target.wanted(), &facts));
        let planned = planned.map_err(|refusal| self.with_ports(refusal)).and_then(|mut plan| {
            leases.suffice(&mut plan, &facts)?;
            Ok(plan)
        });
        let mut report = match planned {
            Err(refusal) => self.refused(refusal),
            Ok(plan) if settings.dry_run => {
                view::plan(settings, &plan);
                return Ok(None);
            }
            Ok(plan) => match self.consent(plan.question.as_ref()) {
                Err(refusal) => self.refused(refusal),
                Ok(asked) => {
                    if asked {
                        request.agreed();
                    }
                    self.remember(&facts, None).await?;
                    let report = self.execute(&plan, self.origin(request, &facts), &leases, began).await?;
                    self.remember(&facts, Some(&report)).await?;
                    report
                }
            },
        };
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Some(report))
    }

    /// Inspects the cluster once no membership change is under way. A leader makes a learner a voter by itself, which
    /// takes a moment; a change that lasts longer is left to the planner.
    async fn seen(&self) -> Facts {
        let Self { settings, target, .. } = self;
        let peers = self.request.needs_peers();
        let end = Instant::now()
            + target.spec.cluster.raft.elections(MEMBERSHIP_CHANGE_TIMEOUT.0, MEMBERSHIP_CHANGE_TIMEOUT.1);
        loop {
            let facts = target.inspect(settings, peers).await;
            let changes = facts.statuses().any(|(_, status)| status.pending_change);
            if !changes || Instant::now() > end {
                let remembered = if self.request.is_new() { Vec::new() } else { facts.remembered };
                return Facts { remembered, ..facts };
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Reads how far the logs of stopped nodes reach, of all that can be read: the longest may be on a node that is
    /// down.
    async fn logs(&self, facts: &Facts) -> BTreeMap<NodeId, Log> {
        let at_rest = facts.nodes.iter().filter(|(_, node)| {
            node.status().is_none() && node.host().is_some_and(|host| !host.runs() && !host.data_empty)
        });
        let binary = match &self.request {
            Request::Recover(options) => options.binary.as_deref(),
            _ => None,
        };
        let reads = at_rest.map(|(id, _)| async move {
            let said = self.target.hosts.verify(*id, binary, self.settings.timeout).await;
            (*id, read_log(said))
        });
        stream::iter(reads).buffer_unordered(self.settings.concurrency).collect().await
    }

    /// Checks that the members are still those with which the resumed operation began.
    fn same_members(&self, facts: &Facts) -> Result<(), Refusal> {
        let Some(before) = self.resumes else { return Ok(()) };
        let seen = MemberSet::seen(facts);
        if seen.cluster.is_some() && seen.cluster == self.request.new_cluster() {
            return Ok(());
        }
        // Members that the operation itself adds or removes do not count.
        let joining = self.request.joining().map(|options| options.member.id);
        let own: Vec<NodeId> = self.request.leaving().iter().map(|node| node.id).chain(joining).collect();
        let drift = before.membership.clone().without(&own).drift(&seen.without(&own));
        if drift.is_empty() {
            return Ok(());
        }
        let refusal =
            Refusal::new("the members have changed since the operation started; no changes were made");
        let refusal = drift.into_iter().fold(refusal, Refusal::because);
        Err(refusal
            .hint("see the cluster:         escli status")
            .hint(format!("then start it again:     {}", self.retry)))
    }

    /// Remembers which cluster this cluster.yaml describes. The id of a new cluster is remembered before the first
    /// step, so that after an interruption the cluster is not taken for another one.
    async fn remember(&self, facts: &Facts, report: Option<&Report>) -> Result<(), Failure> {
        let Self { settings, target, request, .. } = self;
        let known = target.known_cluster(settings);
        let succeeded = report.is_some_and(|report| report.outcome == Outcome::Succeeded);
        let kept = match (request.new_cluster(), report) {
            (None, Some(_)) if succeeded && request.purges() => known.forget(),
            (Some(begun), Some(_)) if succeeded => known.keep(&[begun]),
            (Some(begun), None) if matches!(facts.remembered[..], [old] if old != begun) => {
                known.keep(&[&facts.remembered[..], &[begun]].concat())
            }
            (None, Some(_)) if facts.remembered.len() != 1 => {
                let now = observe_api(&target.spec, &target.cluster, settings.concurrency).await;
                let id = identity::majority_cluster(&now, None)
                    .or_else(|| identity::majority_cluster(facts, None));
                id.map_or(Ok(()), |id| known.keep(&[id]))
            }
            _ => Ok(()),
        };
        kept.map_err(|error| {
            let folder = settings.env.state_dir.display();
            Failure::failed(format!("cannot record in {folder} which cluster this is: {error}"))
        })
    }

    fn origin(&self, request: Request, facts: &Facts) -> Origin {
        let file = self.target.file.clone().unwrap_or_else(|| PathBuf::from("-"));
        let text = request.is_new().then(|| self.target.edit.after.clone());
        // An operation that is resumed twice is still compared with the members before its first run.
        let membership = self
            .resumes
            .map(|before| before.membership.clone())
            .filter(|before| !before.members.is_empty())
            .unwrap_or_else(|| MemberSet::seen(facts));
        Origin { file, text, request, membership }
    }

    /// If ports are in use, adds a hint: the same command with free ports.
    fn with_ports(&self, refusal: Refusal) -> Failure {
        let free = refusal.free_base_port.map(|base| self.retry.clone().base_port(Some(base)));
        let failure = Failure::from(refusal);
        free.into_iter().fold(failure, |failure, line| failure.hint(format!("use other ports:  {line}")))
    }

    fn refused(&self, failure: Failure) -> Report {
        Report::refused(self.name, self.target.name(), failure)
    }

    /// Takes the lock of the cluster.yaml. Its name is not enough, because two local clusters may have the same name.
    fn lock(&self) -> Result<Lock, Failure> {
        let file = self.target.file.as_deref().unwrap_or(Path::new("-"));
        let path = known_cluster::path_for(&self.settings.env.state_dir, self.target.name(), file, "lock");
        Ok(Lock::take(&path, &self.holder())?)
    }

    fn holder(&self) -> Holder {
        Holder {
            who: self.settings.env.who.clone(),
            operation: self.name.to_owned(),
            since: format!("{:.0}", Timestamp::now()),
            pid: std::process::id(),
        }
    }

    /// Adds a line to the history on every host that was worked on. The journal is on this machine, so it is no failure
    /// if a host cannot take the line.
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

    /// Asks the operator to agree, unless options already do. Returns whether there was a question.
    fn consent(&self, question: Option<&Question>) -> Result<bool, Failure> {
        let Some(question) = question else { return Ok(false) };
        confirm(self.settings, question, self.confirm, &self.retry)?;
        Ok(true)
    }

    /// Begins the journal, and notes in the journal of a resumed operation that this one resumes it.
    fn journal(&self, id: &str, plan: &Plan, origin: Origin) -> Result<Journal, Failure> {
        let folder = self.settings.env.state_dir.join(self.target.name());
        let begun =
            Journal::begin(&folder, id, &self.settings.env.who, plan, Some(origin)).and_then(|journal| {
                if let Some(before) = self.resumes {
                    Journal::reopen(&before.path)?
                        .append(&Record::Resumed { by: id.to_owned(), at: Timestamp::now() })?;
                }
                Ok(journal)
            });
        begun.map_err(|error| {
            Failure::failed(format!("cannot write a journal in {}: {error}", folder.display()))
        })
    }

    /// Notes in the journal of a resumed operation that nothing was left to do.
    fn close(&self) -> Result<(), Failure> {
        let Some(before) = self.resumes else { return Ok(()) };
        let ended = Record::Ended { outcome: Outcome::Succeeded, at: Timestamp::now() };
        Journal::reopen(&before.path).and_then(|journal| journal.append(&ended)).map_err(|error| {
            Failure::failed(format!("cannot write the journal {}: {error}", before.path.display()))
        })
    }

    async fn execute(
        &self,
        plan: &Plan,
        origin: Origin,
        leases: &Leases,
        began: Instant,
    ) -> Result<Report, Failure> {
        let Self { settings, target, .. } = self;
        let mut report = Report::unrun(plan, Outcome::Succeeded);
        if plan.stages.is_empty() {
            self.close()?;
            return Ok(report);
        }
        let id = journal::operation_id(self.name, Timestamp::now());
        let needs_resume = origin.request.needs_resume();
        let journal = self.journal(&id, plan, origin)?;
        let interrupt = Interrupt::listen()
            .map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
        let listener = view::listener(settings);
        let engine = Engine {
            hosts: &target.hosts,
            cluster: &target.cluster,
            cluster_file: &target.edit,
            listener: listener.as_ref(),
            journal: &journal,
            interrupt: &interrupt,
            lost: &|| leases.lost(),
            deadline: began + settings.timeout,
            limits: Limits::of(&target.spec.cluster.raft),
            voters: self.request.voters().unwrap_or(target.spec.cluster.nodes.len()),
            concurrency: settings.concurrency,
        };
        let mut run = engine.execute(plan).await;
        let retry = if needs_resume { format!("escli history resume {id}") } else { self.retry.to_string() };
        let retry = format!("to continue from here:  {retry}");
        let error = failures::of_run(&mut run);
        report = Report {
            schema_version: SCHEMA_VERSION,
            operation_id: Some(id),
            outcome: run.outcome,
            changed: run.changed,
            steps: run.steps,
            error: error.map(|failure| failure.hint(retry)),
            ..report
        };
        self.note(&report).await;
        Ok(report)
    }
}

/// Returns what a node's program reports about the log on its disk.
fn read_log(said: Result<String, PortError>) -> Log {
    let verified = match verify::understood(said) {
        Ok(verified) => verified,
        Err(reason) => return Log::Unread { reason },
    };
    match (verified.findings.iter().find(|finding| !finding.harmless), verified.last_term) {
        (Some(Finding { file, reason, .. }), _) => Log::Damaged { reason: format!("{file}: {reason}") },
        (None, Some(term)) => Log::Whole(LogEnd { term, index: verified.last_index }),
        (None, None) => {
            Log::Unread { reason: "its esnode does not report the term of the last entry".to_owned() }
        }
    }
}

/// Prints the report of an operation, and returns the exit code that goes with it.
pub fn finish(settings: &Settings, report: Option<&Report>) -> Exit {
    report.map_or(Exit::Ok, |report| {
        view::report(settings, report);
        failures::exit_of(report)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::cluster_file::template;
    use crate::plan::down::StopOptions;
    use crate::settings::Environment;

    /// Consent without a terminal.
    fn consent(arguments: &[&str], confirm: Option<&str>, question: &Question) -> Result<bool, Failure> {
        let cli = Cli::parse_from([&["escli", "stop"], arguments].concat());
        let settings = cli.global.settings(Environment::default());
        let spec = template::local_spec("local", 3, None);
        let target = Target::new(&settings, spec, String::new(), Path::new("/nowhere")).unwrap();
        let retry = CommandLine::new(&settings, "stop").nodes(&[1, 2]);
        let request = Request::Stop(StopOptions::default());
        let (settings, target) = (&settings, &target);
        Operation { settings, target, name: "stop", retry, confirm, request, resumes: None }
            .consent(Some(question))
    }

    #[test]
    fn yes_alone_never_overrides_a_safety_check() {
        let downtime = Question::Downtime { text: "no quorum".to_owned() };
        let refused = consent(&["--yes"], None, &downtime).unwrap_err();
        assert_eq!(refused.kind, Exit::Refused);
        assert!(refused.hints[0].ends_with("escli stop 1 2 --allow-downtime"), "{:?}", refused.hints);
    }

    #[test]
    fn purging_without_a_terminal_takes_yes_and_the_right_name() {
        let purge = Question::TypeName { text: "for good".to_owned(), word: "local".to_owned() };
        assert!(consent(&[], None, &purge).is_err());
        assert!(consent(&["--yes"], None, &purge).is_err());
        assert!(consent(&[], Some("local"), &purge).is_err());
        assert!(consent(&["--yes"], Some("prod"), &purge).is_err());
        assert_eq!(consent(&["--yes"], Some("local"), &purge), Ok(true));
    }
}
