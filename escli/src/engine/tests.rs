//! The engine against a machine made of two maps: what is skipped, proved, journalled and reported.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shared::api::{ClusterStatus, RaftRole, example};
use shared::ids::NodeId;
use shared::spec::Node;

use super::*;
use crate::engine::error::{Awaited, StepError};
use crate::engine::event::{Event, Listener, NoopListener};
use crate::engine::interrupt::Interrupt;
use crate::engine::journal;
use crate::engine::journal::{Journal, Record};
use crate::engine::ports::{ClusterFileStore, LeaseLost, PortError};
use crate::engine::{Engine, Limits, Rescue};
use crate::plan::Action;
use crate::plan::facts::{AdminRoute, HostFacts, Process, Reachability};
use crate::plan::tests::voter;

/// What the machine does wrong.
#[derive(Default)]
struct Faults {
    /// These end right after their start.
    die: BTreeSet<NodeId>,
    /// Starting these takes for ever.
    hang: BTreeSet<NodeId>,
    /// These run and never answer.
    mute: BTreeSet<NodeId>,
    /// These claim to have written a file, and have not.
    forget: BTreeSet<NodeId>,
    /// This one believes in a leader of its own.
    split: Option<NodeId>,
}

#[derive(Default)]
struct Machine {
    running: RefCell<BTreeSet<NodeId>>,
    configs: RefCell<BTreeMap<NodeId, String>>,
    calls: RefCell<Vec<String>>,
    /// No members any more.
    removed: RefCell<BTreeSet<NodeId>>,
    /// Who was made the leader; else the first that runs leads.
    made_leader: RefCell<Option<NodeId>>,
    faults: Faults,
}

impl Machine {
    fn called(&self, what: String) {
        self.calls.borrow_mut().push(what);
    }
}

impl Hosts for Machine {
    async fn inspect(&self, id: NodeId) -> Result<HostFacts, PortError> {
        Ok(HostFacts {
            process: if self.running.borrow().contains(&id) {
                Process::Running { pid: 1 }
            } else {
                Process::Stopped
            },
            config_hash: self.configs.borrow().get(&id).cloned(),
            dirs: true,
            data_empty: false,
            current: None,
            installed: None,
            exe: None,
            taken: Vec::new(),
            claims: crate::plan::claims::Claims::default(),
            machine: None,
        })
    }
    async fn process(&self, id: NodeId) -> Result<Process, PortError> {
        self.inspect(id).await.map(|host| host.process)
    }
    async fn has(&self, id: NodeId, action: &Action) -> Result<bool, PortError> {
        self.inspect(id).await.map(|host| host.has(action))
    }
    async fn peer_reachability(&self, _: NodeId) -> Result<BTreeMap<NodeId, Reachability>, PortError> {
        Ok(BTreeMap::new())
    }
    async fn install(&self, _: NodeId, _: &Action) -> Result<(), PortError> {
        Ok(())
    }
    async fn ensure_dirs(&self, _id: NodeId) -> Result<(), PortError> {
        Ok(())
    }
    async fn write_config(&self, id: NodeId) -> Result<(), PortError> {
        self.called(format!("config {id}"));
        if !self.faults.forget.contains(&id) {
            self.configs.borrow_mut().insert(id, "new".to_owned());
        }
        Ok(())
    }
    async fn start(&self, id: NodeId, _binary: &Path) -> Result<u32, PortError> {
        self.called(format!("start {id}"));
        if self.faults.hang.contains(&id) {
            std::future::pending::<()>().await;
        }
        if !self.faults.die.contains(&id) {
            self.running.borrow_mut().insert(id);
        }
        Ok(1)
    }
    async fn stop(&self, id: NodeId, force: bool, within: Duration) -> Result<(), PortError> {
        self.called(format!("stop {id}"));
        if self.faults.mute.contains(&id) && !force {
            return Err(PortError::failed(format!("node {id} did not stop within {within:?}")));
        }
        self.running.borrow_mut().remove(&id);
        Ok(())
    }
    async fn wipe(&self, _id: NodeId) -> Result<(), PortError> {
        Ok(())
    }
    async fn read_config(&self, id: NodeId) -> Result<Option<String>, PortError> {
        Ok(self.configs.borrow().get(&id).cloned())
    }
    async fn log_tail(&self, _id: NodeId, lines: usize) -> Result<Vec<String>, PortError> {
        Ok((0..lines).map(|line| format!("log line {line}")).collect())
    }
}

/// A cluster.yaml that is as it should be.
struct NoFile;

impl ClusterFileStore for NoFile {
    fn is_current(&self, _path: &Path) -> bool {
        true
    }
    fn write(&self, _path: &Path) -> Result<(), PortError> {
        Ok(())
    }
    fn remove(&self, _path: &Path) -> Result<(), PortError> {
        Ok(())
    }
}

fn lease_lost() -> LeaseLost {
    LeaseLost { node: 2, reason: "the connection was closed".to_owned() }
}

impl Cluster for Machine {
    async fn add(&self, member: &Node, _stays_learner: bool) -> Result<(), PortError> {
        self.called(format!("add {}", member.id));
        Ok(())
    }

    async fn raise_format(&self, wanted: Option<u16>) -> Result<(), PortError> {
        self.called(format!("format {wanted:?}"));
        Ok(())
    }

    async fn remove(&self, id: NodeId) -> Result<(), PortError> {
        self.called(format!("remove {id}"));
        self.removed.borrow_mut().insert(id);
        Ok(())
    }

    async fn route(&self, _: NodeId) -> AdminRoute {
        AdminRoute::Direct
    }

    async fn transfer(&self, id: NodeId) -> Result<(), PortError> {
        self.called(format!("lead {id}"));
        if !self.faults.forget.contains(&id) {
            *self.made_leader.borrow_mut() = Some(id);
        }
        Ok(())
    }

    async fn status(&self, id: NodeId) -> Result<ClusterStatus, PortError> {
        let running = self.running.borrow();
        if !running.contains(&id) || self.faults.mute.contains(&id) {
            return Err(PortError::unreachable("connection refused :8080".to_owned()));
        }
        let made = self.made_leader.borrow().filter(|id| running.contains(id));
        let leader = made.or(running.iter().next().copied());
        let split = self.faults.split == Some(id);
        Ok(ClusterStatus {
            node_id: id,
            state: Some(if leader == Some(id) { RaftRole::Leader } else { RaftRole::Follower }),
            commit_index: 1,
            peers: (1..=3)
                .filter(|other| *other != id && !self.removed.borrow().contains(other))
                .map(|other| voter(&Node::at(other, "")))
                .collect(),
            leader: if split { None } else { leader },
            applied_index: 1,
            last_index: 1,
            config_hash: "new".to_owned(),
            settings_hash: String::new(),
            ..example::status()
        })
    }
}

/// Config and start of each node in a stage of its own, then a leader and agreement.
fn plan(nodes: &[NodeId]) -> Plan {
    let mut plan = Plan::new("up", "local");
    for id in nodes {
        let config = Action::WriteConfig { hash: "new".to_owned() };
        let start = Action::StartNode { binary: PathBuf::from("/bin/esnode") };
        for action in [config, start, Action::AwaitLive] {
            plan.stage(action.verb(), vec![Step::on(*id, action, "test")]);
        }
    }
    plan.stage("elect", vec![Step::cluster(Action::AwaitLeader { nodes: nodes.to_vec() }, "test")]);
    plan.stage("verify", vec![Step::cluster(Action::VerifyCluster { nodes: nodes.to_vec() }, "test")]);
    plan
}

struct Bench {
    machine: Machine,
    folder: tempfile::TempDir,
    asked: tokio::sync::watch::Sender<u32>,
    interrupt: Interrupt,
    lost: RefCell<Option<LeaseLost>>,
    timeout: Duration,
}

impl Bench {
    fn new(faults: Faults) -> Self {
        let (asked, interrupt) = Interrupt::by_hand();
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine { faults, ..Machine::default() };
        Self { machine, folder, asked, interrupt, lost: RefCell::default(), timeout: Duration::from_secs(60) }
    }

    async fn run_with(&self, plan: &Plan, listener: &dyn Listener) -> Run {
        let id = format!("op{}", std::fs::read_dir(self.folder.path()).unwrap().count());
        let journal = Journal::begin(self.folder.path(), &id, "ada@host", plan, None).unwrap();
        let short = Duration::from_millis(60);
        let limits = Limits {
            live: short,
            leader: short,
            catch_up: short,
            stop: short,
            poll: Duration::from_millis(1),
        };
        let engine = Engine {
            hosts: &self.machine,
            cluster: &self.machine,
            cluster_file: &NoFile,
            listener,
            journal: &journal,
            interrupt: &self.interrupt,
            lost: &|| self.lost.borrow().clone(),
            deadline: Instant::now() + self.timeout,
            limits,
            voters: 3,
            concurrency: 4,
        };
        engine.execute(plan).await
    }

    async fn run(&self, plan: &Plan) -> Run {
        self.run_with(plan, &NoopListener).await
    }

    fn journal(&self) -> Vec<Record> {
        journal::read(&self.folder.path().join("op0.jsonl")).unwrap()
    }
}

/// What the last look of a step that timed out has found.
fn last(run: &Run) -> &str {
    match &run.error {
        Some(StepError::TimedOut { last, .. }) => last,
        other => panic!("{other:?}"),
    }
}

fn outcome(run: &Run, id: &str) -> StepOutcome {
    run.steps.iter().find(|step| step.id == id).unwrap().outcome
}

#[tokio::test]
async fn a_plan_runs_to_its_end_and_a_second_time_changes_nothing() {
    let bench = Bench::new(Faults::default());
    let run = bench.run(&plan(&[1, 2, 3])).await;
    assert_eq!((run.outcome, run.changed), (Outcome::Succeeded, 6), "{:?}", run.error);
    let records = bench.journal();
    assert!(journal::unfinished(&records).is_empty());
    assert!(matches!(records.last(), Some(Record::Ended { outcome: Outcome::Succeeded, .. })));
    let mode = std::fs::metadata(bench.folder.path().join("op0.jsonl")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);

    let calls = bench.machine.calls.borrow().len();
    let again = bench.run(&plan(&[1, 2, 3])).await;
    assert_eq!((again.outcome, again.changed), (Outcome::Succeeded, 0));
    assert_eq!(outcome(&again, "n2.start"), StepOutcome::Skipped);
    assert_eq!(bench.machine.calls.borrow().len(), calls, "nothing was touched");
}

#[tokio::test]
async fn a_node_that_dies_stops_everything_after_it_and_shows_its_log() {
    let bench = Bench::new(Faults { die: [2].into(), ..Faults::default() });
    let run = bench.run(&plan(&[1, 2, 3])).await;
    assert_eq!(run.outcome, Outcome::Partial);
    assert_eq!(outcome(&run, "n1.live"), StepOutcome::Succeeded);
    assert_eq!(outcome(&run, "n2.start"), StepOutcome::Failed);
    assert_eq!(outcome(&run, "n3.start"), StepOutcome::NotRun);
    let Some(StepError::Died { node: 2, log, .. }) = &run.error else { panic!("{:?}", run.error) };
    assert_eq!(log.len(), 20);
    assert!(!bench.machine.calls.borrow().contains(&"start 3".to_owned()));
}

#[tokio::test]
async fn what_was_done_but_does_not_show_is_no_success() {
    let bench = Bench::new(Faults { forget: [1].into(), ..Faults::default() });
    let run = bench.run(&plan(&[1])).await;
    assert_eq!((run.outcome, run.changed), (Outcome::Failed, 0));
    assert!(matches!(run.error, Some(StepError::NoEffect { step }) if step == "n1.config"));
}

#[tokio::test]
async fn a_node_that_never_answers_is_given_up() {
    let bench = Bench::new(Faults { mute: [1].into(), ..Faults::default() });
    let run = bench.run(&plan(&[1])).await;
    assert_eq!(outcome(&run, "n1.live"), StepOutcome::Failed);
    assert_eq!(last(&run), "connection refused :8080");
    assert!(matches!(
        &run.error,
        Some(StepError::TimedOut { awaited: Awaited::Live(1), limit: Some(_), .. })
    ));
}

#[tokio::test]
async fn the_operations_own_time_limit_has_its_own_exit_code() {
    let mut bench = Bench::new(Faults { mute: [1].into(), ..Faults::default() });
    bench.timeout = Duration::from_millis(20);
    let run = bench.run(&plan(&[1])).await;
    assert_eq!(run.outcome, Outcome::TimedOut);
}

#[tokio::test]
async fn a_node_that_disagrees_is_found_although_there_is_a_leader() {
    let bench = Bench::new(Faults { split: Some(3), ..Faults::default() });
    let run = bench.run(&plan(&[1, 2, 3])).await;
    assert_eq!(outcome(&run, "cluster.leader"), StepOutcome::Succeeded);
    assert_eq!(outcome(&run, "cluster.verify"), StepOutcome::Failed);
    assert_eq!(last(&run), "n3 follows no leader in term 1, not leader n1, term 1");
}

/// Asks to stop as soon as a certain step has begun.
struct StopAt<'a> {
    id: &'static str,
    times: u32,
    asked: &'a tokio::sync::watch::Sender<u32>,
}

impl Listener for StopAt<'_> {
    fn on_event(&self, event: Event<'_>) {
        if let Event::Started { step } = event
            && step.id == self.id
        {
            self.asked.send_modify(|count| *count += self.times);
        }
    }
}

#[tokio::test]
async fn ctrl_c_finishes_the_step_and_begins_no_other() {
    let bench = Bench::new(Faults::default());
    let listener = StopAt { id: "n2.start", times: 1, asked: &bench.asked };
    let run = bench.run_with(&plan(&[1, 2, 3]), &listener).await;
    assert_eq!(run.outcome, Outcome::Interrupted);
    assert_eq!(outcome(&run, "n2.start"), StepOutcome::Succeeded);
    assert_eq!(outcome(&run, "n2.live"), StepOutcome::NotRun);
    let records = bench.journal();
    assert!(journal::unfinished(&records).is_empty());
    assert!(matches!(records.last(), Some(Record::Ended { outcome: Outcome::Interrupted, .. })));
}

#[tokio::test]
async fn ctrl_c_ends_a_wait_at_once_because_waiting_changes_nothing() {
    let bench = Bench::new(Faults { mute: [1].into(), ..Faults::default() });
    let listener = StopAt { id: "n1.live", times: 1, asked: &bench.asked };
    let run = bench.run_with(&plan(&[1]), &listener).await;
    assert_eq!((run.outcome, run.changed), (Outcome::Interrupted, 2));
    assert!(journal::unfinished(&bench.journal()).is_empty());
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait_and_leaves_the_step_open_in_the_journal() {
    let bench = Bench::new(Faults { hang: [1].into(), ..Faults::default() });
    let listener = StopAt { id: "n1.start", times: 2, asked: &bench.asked };
    let run = bench.run_with(&plan(&[1]), &listener).await;
    assert_eq!(run.outcome, Outcome::Interrupted);
    assert_eq!(journal::unfinished(&bench.journal()), ["n1.start"]);
}

#[tokio::test]
async fn a_node_that_will_not_end_is_killed_only_when_that_was_said() {
    let bench = Bench::new(Faults { mute: [1].into(), ..Faults::default() });
    bench.machine.running.borrow_mut().insert(1);
    let stop = |force| {
        let mut plan = Plan::new("stop", "local");
        plan.stage("stop", vec![Step::on(1, Action::StopNode { force }, "test")]);
        plan
    };
    let error = bench.run(&stop(false)).await.error;
    assert!(matches!(error, Some(StepError::Port { did_not_stop: Some(1), .. })), "{error:?}");
    assert_eq!(bench.run(&stop(true)).await.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn leadership_that_does_not_arrive_is_no_success_and_one_that_leads_is_left_alone() {
    let lead = |id| {
        let mut plan = Plan::new("transfer-leader", "local");
        plan.stage("hand over", vec![Step::on(id, Action::TransferLeader, "test")]);
        plan
    };
    let bench = Bench::new(Faults { forget: [3].into(), ..Faults::default() });
    bench.machine.running.borrow_mut().extend([1, 2, 3]);
    assert_eq!(outcome(&bench.run(&lead(1)).await, "n1.transfer-leader"), StepOutcome::Skipped);
    assert_eq!(bench.run(&lead(2)).await.outcome, Outcome::Succeeded);
    let failed = bench.run(&lead(3)).await;
    assert_eq!(last(&failed), "n3 answers but does not lead");
    assert_eq!(*bench.machine.calls.borrow(), ["lead 2", "lead 3"]);
}

#[tokio::test]
async fn a_gate_is_looked_at_just_before_the_stop_and_keeps_it_from_happening() {
    let mut plan = Plan::new("restart", "local");
    let nodes = vec![1, 2, 3];
    plan.stage("safe", vec![Step::on(2, Action::CheckQuorum { nodes }, "test")]);
    plan.stage("stop", vec![Step::on(2, Action::StopNode { force: false }, "test")]);
    let bench = Bench::new(Faults::default());
    bench.machine.running.borrow_mut().extend([1, 2]);
    let run = bench.run(&plan).await;
    assert_eq!(
        (outcome(&run, "n2.quorum-check"), outcome(&run, "n2.stop")),
        (StepOutcome::Failed, StepOutcome::NotRun)
    );
    assert!(bench.machine.calls.borrow().is_empty());
    let bench = Bench::new(Faults::default());
    bench.machine.running.borrow_mut().extend([1, 2, 3]);
    assert_eq!(bench.run(&plan).await.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_node_that_runs_with_an_older_file_has_not_caught_up() {
    let caught_up = |config: &str| {
        let mut plan = Plan::new("reload", "local");
        let (nodes, config) = (vec![1, 2, 3], Some(config.to_owned()));
        plan.stage("see", vec![Step::on(2, Action::AwaitCaughtUp { nodes, config }, "test")]);
        plan
    };
    let bench = Bench::new(Faults::default());
    bench.machine.running.borrow_mut().extend([1, 2, 3]);
    assert_eq!(bench.run(&caught_up("new")).await.outcome, Outcome::Succeeded);
    let failed = bench.run(&caught_up("newer")).await;
    assert_eq!(last(&failed), "n2 runs with another configuration than its cluster.yaml");
}

/// Loses the lease as soon as a certain step has begun.
struct LoseAt<'a> {
    id: &'static str,
    lost: &'a RefCell<Option<LeaseLost>>,
}

impl Listener for LoseAt<'_> {
    fn on_event(&self, event: Event<'_>) {
        if let Event::Started { step } = event
            && step.id == self.id
        {
            *self.lost.borrow_mut() = Some(lease_lost());
        }
    }
}

#[tokio::test]
async fn an_operation_whose_lease_is_lost_begins_nothing_else_and_takes_nothing_back() {
    let bench = Bench::new(Faults::default());
    let mut plan = plan(&[1, 2, 3]);
    let undo = Step::undo(1, Action::StopNode { force: true }, "test");
    plan.stages.iter_mut().for_each(|stage| stage.rescue = vec![undo.clone()]);
    let run = bench.run_with(&plan, &LoseAt { id: "n2.config", lost: &bench.lost }).await;
    assert_eq!(run.outcome, Outcome::Partial);
    assert_eq!(outcome(&run, "n2.config"), StepOutcome::Succeeded, "what runs is finished");
    assert_eq!(outcome(&run, "n2.start"), StepOutcome::Failed);
    assert_eq!(*bench.machine.calls.borrow(), ["config 1", "start 1", "config 2"]);
    assert!(matches!(&run.error, Some(StepError::LeaseLost { step, .. }) if step == "n2.start"));
    assert!(matches!(run.rescue, Rescue::Failed { .. }), "{:?}", run.rescue);
    assert!(journal::unfinished(&bench.journal()).is_empty());
    // Before anything was changed.
    let bench = Bench::new(Faults::default());
    *bench.lost.borrow_mut() = Some(lease_lost());
    let run = bench.run(&plan).await;
    assert_eq!(run.outcome, Outcome::Failed);
    assert!(matches!(run.error, Some(StepError::LeaseLost { .. })), "{:?}", run.error);
    assert!(bench.machine.calls.borrow().is_empty());
}

#[tokio::test]
async fn the_majority_after_a_removal_is_one_of_those_who_are_left() {
    let bench = Bench::new(Faults::default());
    bench.machine.running.borrow_mut().extend([1, 2, 3]);
    let mut plan = Plan::new("remove-node", "local");
    for (id, stay) in [(3, vec![1, 2]), (2, vec![1])] {
        plan.one("leave", Step::on(id, Action::RemoveMember { nodes: stay }, "test"));
        plan.one("stop", Step::on(id, Action::StopNode { force: false }, "test"));
    }
    plan.one("elect", Step::cluster(Action::AwaitLeader { nodes: vec![1] }, "test"));
    plan.one("verify", Step::cluster(Action::VerifyCluster { nodes: vec![1] }, "test"));
    let run = bench.run(&plan).await;
    assert_eq!((run.outcome, run.changed), (Outcome::Succeeded, 4), "{:?}", run.error);
}
