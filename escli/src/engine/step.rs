//! One step: is it already done, do it, prove it. The same look at live state answers the first and the last.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::api::{CatchUp, ClusterStatus, NodeState, Role};
use shared::ids::NodeId;

use super::event::Event;
use super::execute::Engine;
use super::ports::{Cluster, Hosts, PortError};
use crate::exit::{Exit, Failure};
use crate::last_words;
use crate::plan::facts::Process;
use crate::plan::{Action, Step, agreement};

/// Log lines shown of a node that did not come up.
const LOG_LINES: usize = 20;
/// Log lines looked through: a panic's trace may be long.
const LOG_DEPTH: usize = 500;

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It failed.
    Failed(Box<Failure>),
    /// The operation's time was over.
    TimedOut(Box<Failure>),
    /// The operator asked to stop while it waited.
    Interrupted,
}

/// One look while waiting.
pub(super) enum Look {
    There(String),
    NotYet(String),
    Never(Failure),
}

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    /// Live state says that the step has nothing (more) to do; steps that only wait or look are never done before.
    pub(super) async fn is_done(&self, step: &Step) -> Result<bool, Trouble> {
        let done = match (&step.action, step.node) {
            (Action::WriteClusterFile { path }, _) => Ok(self.hosts.has_cluster_file(path).await),
            (Action::RemoveClusterFile { path }, _) => Ok(!self.hosts.has_cluster_file(path).await),
            (Action::StartNode { .. }, Some(id)) => self.hosts.process(id).await.map(Process::runs),
            (Action::StopNode { .. }, Some(id)) => {
                self.hosts.process(id).await.map(|process| process == Process::Stopped)
            }
            (Action::TransferLeader, Some(id)) => Ok(self.leads(id).await),
            (Action::AddMember { nodes, .. }, Some(id)) => {
                Ok(matches!(self.role(id, nodes).await, Some(Role::Voter | Role::Learner)))
            }
            (Action::RemoveMember { nodes }, Some(id)) => Ok(self.is_gone(id, nodes).await),
            (Action::RaiseFormat { to, nodes }, _) => Ok(self.is_raised(*to, nodes).await),
            (action, Some(id)) if action.changes() => self.hosts.has(id, action).await,
            _ => Ok(false),
        };
        done.map_err(|error| failed(step, &error))
    }

    /// Performs the step and proves it; returns what was seen.
    pub(super) async fn perform(&self, step: &Step) -> Result<String, Trouble> {
        match (&step.action, step.node) {
            (Action::AwaitLive, Some(id)) => return self.await_live(id).await,
            (Action::AwaitLeader { nodes }, _) => return self.await_leader(nodes).await,
            (Action::VerifyCluster { nodes }, _) => return self.verify(nodes).await,
            (Action::CheckQuorum { nodes }, Some(id)) => return self.check_quorum(id, nodes).await,
            (Action::AwaitCaughtUp { nodes, config }, Some(id)) => {
                return self.await_caught_up(step, id, nodes, config.as_deref()).await;
            }
            (Action::TransferLeader, Some(id)) => return self.transfer(step, id).await,
            (Action::ProveReach { from }, Some(id)) => return self.prove_reach(id, from).await,
            (Action::Soak { nodes, version, ms }, Some(id)) => {
                return self.soak(id, nodes, version.as_deref(), Duration::from_millis(*ms)).await;
            }
            (Action::AwaitVoter { nodes }, Some(id)) => return self.await_voter(id, nodes).await,
            (Action::RemoveMember { nodes }, Some(id)) => return self.remove(step, id, nodes).await,
            (Action::RaiseFormat { to, nodes }, _) => return self.raise_format(step, *to, nodes).await,
            _ => {}
        }
        let note = self.change(step).await?;
        if self.is_done(step).await? {
            return Ok(note);
        }
        Err(Trouble::Failed(Box::new(match (&step.action, step.node) {
            (Action::StartNode { .. }, Some(id)) => self.died(id).await,
            _ => Failure::failed(format!("{}: done, but live state does not show it", step.id)),
        })))
    }

    async fn change(&self, step: &Step) -> Result<String, Trouble> {
        let hosts = self.hosts;
        let nothing = |()| String::new();
        let result = match (&step.action, step.node) {
            (Action::WriteClusterFile { path }, _) => hosts.write_cluster_file(path).await.map(nothing),
            (Action::RemoveClusterFile { path }, _) => hosts.remove_cluster_file(path).await.map(nothing),
            (Action::EnsureDirs, Some(id)) => hosts.ensure_dirs(id).await.map(nothing),
            (Action::WriteConfig { .. }, Some(id)) => hosts.write_config(id).await.map(nothing),
            (Action::StartNode { binary }, Some(id)) => {
                hosts.start(id, binary).await.map(|pid| format!("pid {pid}"))
            }
            (Action::StopNode { force }, Some(id)) => {
                hosts.stop(id, *force, self.limit(self.limits.stop)).await.map(nothing)
            }
            (Action::Wipe, Some(id)) => hosts.wipe(id).await.map(nothing),
            (Action::AddMember { member, stays_learner, .. }, Some(_)) => {
                self.cluster.add(member, *stays_learner).await.map(nothing)
            }
            (install, Some(id)) if install.installs() => hosts.install(id, install).await.map(nothing),
            _ => Err(PortError::Failed("the step names no node".to_owned())),
        };
        result.map_err(|error| failed(step, &error))
    }

    async fn await_live(&self, id: NodeId) -> Result<String, Trouble> {
        let what = format!("node {id} did not answer on its admin port");
        let hints = [format!("escli logs {id}"), format!("escli status --node {id}")];
        self.wait(&what, &hints, self.limits.live, async || match self.cluster.status(id).await {
            Ok(status) if status.node_id == id => Look::There(format!("v{}", status.version)),
            Ok(status) => Look::Never(Failure::failed(format!(
                "node {} answers on the admin port of node {id}",
                status.node_id
            ))),
            Err(error) => match self.hosts.process(id).await {
                Ok(process) if process.is_gone() => Look::Never(self.died(id).await),
                _ => Look::NotYet(error.to_string()),
            },
        })
        .await
    }

    async fn await_leader(&self, nodes: &[NodeId]) -> Result<String, Trouble> {
        let hints = ["escli status".to_owned(), "escli logs".to_owned()];
        self.wait("no leader was elected", &hints, self.limits.leader, async || {
            self.judge(nodes, nodes, |statuses| {
                agreement::leader(statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    async fn verify(&self, nodes: &[NodeId]) -> Result<String, Trouble> {
        let hints = ["escli status".to_owned(), "escli health".to_owned()];
        self.wait("the nodes do not agree", &hints, self.limits.leader, async || {
            self.judge(nodes, nodes, |statuses| {
                agreement::all(nodes, statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    async fn leads(&self, id: NodeId) -> bool {
        self.cluster.status(id).await.is_ok_and(|status| status.state == NodeState::Leader)
    }

    async fn transfer(&self, step: &Step, id: NodeId) -> Result<String, Trouble> {
        self.cluster.transfer(id).await.map_err(|error| failed(step, &error))?;
        let hints = ["escli status".to_owned()];
        self.wait(&format!("node {id} did not become the leader"), &hints, self.limits.leader, async || {
            match self.cluster.status(id).await {
                Ok(status) if status.state == NodeState::Leader => {
                    Look::There(format!("term {}", status.term))
                }
                Ok(_) => Look::NotYet(format!("n{id} answers and does not lead")),
                Err(error) => Look::NotYet(error.to_string()),
            }
        })
        .await
    }

    async fn check_quorum(&self, id: NodeId, nodes: &[NodeId]) -> Result<String, Trouble> {
        let what = format!("the others could not go on without node {id}; it was not stopped");
        let hints = ["escli health".to_owned()];
        self.wait(&what, &hints, self.limits.leader, async || {
            self.judge(nodes, &[], |statuses| {
                agreement::may_stop(id, statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    async fn await_caught_up(
        &self,
        step: &Step,
        id: NodeId,
        nodes: &[NodeId],
        config: Option<&str>,
    ) -> Result<String, Trouble> {
        let what = format!("node {id} did not catch up");
        let hints = [format!("escli logs {id}"), "escli health".to_owned()];
        self.wait(&what, &hints, self.limits.catch_up, async || {
            self.judge(nodes, &[id], |statuses| {
                let own = statuses.iter().find(|status| status.node_id == id);
                if let Some(CatchUp { received: done, total }) = own.and_then(|own| own.catch_up) {
                    self.listener.hear(Event::Progress { step, done, total });
                }
                if let (Some(own), Some(config)) = (own, config)
                    && own.config_hash != config
                {
                    return Err(format!("n{id} runs with something else than its cluster.yaml"));
                }
                agreement::keeps_up(id, statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    /// What the answers of `nodes` amount to; without it, the end of one of `vital` is final.
    pub(super) async fn judge(
        &self,
        nodes: &[NodeId],
        vital: &[NodeId],
        verdict: impl Fn(&[ClusterStatus]) -> Result<agreement::Agreement, String>,
    ) -> Look {
        let answers = join_all(nodes.iter().map(|id| self.cluster.status(*id))).await;
        let statuses: Vec<ClusterStatus> = answers.iter().flatten().cloned().collect();
        match verdict(&statuses) {
            Ok(agreement) => Look::There(agreement.to_string()),
            Err(reason) => {
                for (id, answer) in nodes.iter().zip(&answers) {
                    if vital.contains(id)
                        && answer.is_err()
                        && self.hosts.process(*id).await.is_ok_and(Process::is_gone)
                    {
                        return Look::Never(self.died(*id).await);
                    }
                }
                Look::NotYet(reason)
            }
        }
    }

    /// Looks again and again until it is there, can never be, or time is over.
    pub(super) async fn wait(
        &self,
        what: &str,
        hints: &[String],
        limit: Duration,
        mut look: impl AsyncFnMut() -> Look,
    ) -> Result<String, Trouble> {
        let end = Instant::now() + self.limit(limit);
        loop {
            let reason = match look().await {
                Look::There(note) => return Ok(note),
                Look::Never(failure) => return Err(Trouble::Failed(Box::new(failure))),
                Look::NotYet(reason) => reason,
            };
            if self.interrupt.asked() {
                return Err(Trouble::Interrupted);
            }
            let now = Instant::now();
            if now >= end {
                let over = now >= self.deadline;
                let exit = if over { Exit::Timeout } else { Exit::Failed };
                let which = if over { "--timeout".to_owned() } else { format!("{limit:?}") };
                let mut failure = Failure::new(exit, format!("{what} within {which}")).detail(reason);
                failure.hints = hints.to_vec();
                let failure = Box::new(failure);
                return Err(if over { Trouble::TimedOut(failure) } else { Trouble::Failed(failure) });
            }
            tokio::time::sleep(self.limits.poll).await;
        }
    }

    /// A node's process is gone: its last words say why.
    async fn died(&self, id: NodeId) -> Failure {
        let (message, details) = match self.hosts.log_tail(id, LOG_DEPTH).await {
            Ok(lines) => last_words(&lines),
            Err(error) => ("its log cannot be read:".to_owned(), vec![error.to_string()]),
        };
        let mut failure = Failure::failed(format!("node {id} ended by itself; {message}"));
        failure.details = details;
        failure.hint(format!("escli logs {id}"))
    }

    /// A step's own limit, cut short by the operation's deadline.
    fn limit(&self, own: Duration) -> Duration {
        own.min(self.deadline.saturating_duration_since(Instant::now()))
    }
}

/// What a log says last: its panic and what comes with it, or the last lines.
fn last_words(lines: &[String]) -> (String, Vec<String>) {
    if let (Some(at), Some(panic)) = (last_words::panic_in(lines), last_words::panic_line(lines)) {
        return (panic, lines[at..].iter().take(LOG_LINES).cloned().collect());
    }
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].to_vec();
    let last = if last.is_empty() { vec!["(it logged nothing)".to_owned()] } else { last };
    ("its last log lines:".to_owned(), last)
}

pub(super) fn failed(step: &Step, error: &PortError) -> Trouble {
    let mut failure = Failure::from(error.clone());
    if let (Action::StopNode { force: false }, Some(id)) = (&step.action, step.node) {
        failure = failure.hint(format!("escli stop {id} --force")).hint(format!("escli logs {id}"));
    }
    Trouble::Failed(Box::new(failure))
}
