//! Runs one step: checks whether it is already done, performs it, and verifies it. The same inspection answers the
//! first and the last question.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::api::{CatchUp, ClusterStatus, Membership, RaftRole};
use shared::ids::NodeId;

use super::error::{Awaited, StepError};
use super::event::Event;
use super::ports::{Cluster, Hosts, PortError};
use super::{Engine, crash_log};
use crate::plan::facts::Process;
use crate::plan::{Action, Step, agreement};

/// Number of log lines shown of a node that did not start.
const LOG_LINES: usize = 20;
/// Number of log lines searched for a panic, whose trace may be long.
const LOG_DEPTH: usize = 500;

/// The result of one poll.
pub(super) enum Poll {
    Done(String),
    NotYet(String),
    Never(StepError),
}

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    /// Returns whether the live state shows that nothing is left to do. A step that only waits or checks is never done
    /// in advance.
    pub(super) async fn is_done(&self, step: &Step) -> Result<bool, StepError> {
        let done = match (&step.action, step.node) {
            (Action::WriteClusterFile { path }, _) => Ok(self.cluster_file.is_current(path)),
            (Action::RemoveClusterFile { path }, _) => Ok(!self.cluster_file.is_current(path)),
            (Action::StartNode { .. }, Some(id)) => self.hosts.process(id).await.map(Process::runs),
            (Action::StopNode { .. }, Some(id)) => {
                self.hosts.process(id).await.map(|process| process == Process::Stopped)
            }
            (Action::TransferLeader, Some(id)) => Ok(self.leads(id).await),
            (Action::AddMember { nodes, .. }, Some(id)) => {
                Ok(matches!(self.membership(id, nodes).await, Some(Membership::Voter | Membership::Learner)))
            }
            (Action::RemoveMember { nodes }, Some(id)) => Ok(self.is_gone(id, nodes).await),
            (Action::RaiseFormat { to, nodes }, _) => Ok(self.is_raised(*to, nodes).await),
            (action, Some(id)) if action.changes() => self.hosts.has(id, action).await,
            _ => Ok(false),
        };
        done.map_err(|error| failed(step, error))
    }

    /// Performs the step and verifies it; returns what was found.
    pub(super) async fn perform(&self, step: &Step) -> Result<String, StepError> {
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
        Err(match (&step.action, step.node) {
            (Action::StartNode { .. }, Some(id)) => self.died(id).await,
            _ => StepError::NoEffect { step: step.id.clone() },
        })
    }

    async fn change(&self, step: &Step) -> Result<String, StepError> {
        let hosts = self.hosts;
        let nothing = |()| String::new();
        let result = match (&step.action, step.node) {
            (Action::WriteClusterFile { path }, _) => self.cluster_file.write(path).map(nothing),
            (Action::RemoveClusterFile { path }, _) => self.cluster_file.remove(path).map(nothing),
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
            _ => Err(PortError::failed("the step names no node")),
        };
        result.map_err(|error| failed(step, error))
    }

    async fn await_live(&self, id: NodeId) -> Result<String, StepError> {
        self.wait(Awaited::Live(id), self.limits.live, async || match self.cluster.status(id).await {
            Ok(status) if status.node_id == id => Poll::Done(format!("v{}", status.version)),
            Ok(status) => Poll::Never(StepError::WrongNode { node: id, answers: status.node_id }),
            Err(error) => match self.hosts.process(id).await {
                Ok(process) if process.is_gone() => Poll::Never(self.died(id).await),
                _ => Poll::NotYet(error.to_string()),
            },
        })
        .await
    }

    async fn await_leader(&self, nodes: &[NodeId]) -> Result<String, StepError> {
        self.wait(Awaited::Leader, self.limits.leader, async || {
            self.evaluate(nodes, nodes, |statuses| {
                agreement::leader(statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    async fn verify(&self, nodes: &[NodeId]) -> Result<String, StepError> {
        self.wait(Awaited::Agreement, self.limits.leader, async || {
            self.evaluate(nodes, nodes, |statuses| {
                agreement::all(nodes, statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    async fn leads(&self, id: NodeId) -> bool {
        self.cluster.status(id).await.is_ok_and(|status| status.state == Some(RaftRole::Leader))
    }

    async fn transfer(&self, step: &Step, id: NodeId) -> Result<String, StepError> {
        self.cluster.transfer(id).await.map_err(|error| failed(step, error))?;
        self.wait(Awaited::LeaderIs(id), self.limits.leader, async || match self.cluster.status(id).await {
            Ok(status) if status.state == Some(RaftRole::Leader) => {
                Poll::Done(format!("term {}", status.term))
            }
            Ok(_) => Poll::NotYet(format!("n{id} answers but does not lead")),
            Err(error) => Poll::NotYet(error.to_string()),
        })
        .await
    }

    async fn check_quorum(&self, id: NodeId, nodes: &[NodeId]) -> Result<String, StepError> {
        self.wait(Awaited::Quorum(id), self.limits.leader, async || {
            self.evaluate(nodes, &[], |statuses| {
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
    ) -> Result<String, StepError> {
        self.wait(Awaited::CaughtUp(id), self.limits.catch_up, async || {
            self.evaluate(nodes, &[id], |statuses| {
                let own = statuses.iter().find(|status| status.node_id == id);
                if let Some(CatchUp { received: done, total }) = own.and_then(|own| own.catch_up) {
                    self.listener.on_event(Event::Progress { step, done, total });
                }
                if let (Some(own), Some(config)) = (own, config)
                    && own.config_hash != config
                {
                    return Err(format!("n{id} runs with another configuration than its cluster.yaml"));
                }
                agreement::keeps_up(id, statuses, agreement::voters(statuses, self.voters))
            })
            .await
        })
        .await
    }

    /// Evaluates the status of `nodes`. If the process of a node in `vital` has ended, waiting is over.
    pub(super) async fn evaluate(
        &self,
        nodes: &[NodeId],
        vital: &[NodeId],
        verdict: impl Fn(&[ClusterStatus]) -> Result<agreement::Agreement, String>,
    ) -> Poll {
        let answers = join_all(nodes.iter().map(|id| self.cluster.status(*id))).await;
        let statuses: Vec<ClusterStatus> = answers.iter().flatten().cloned().collect();
        match verdict(&statuses) {
            Ok(agreement) => Poll::Done(agreement.to_string()),
            Err(reason) => {
                for (id, answer) in nodes.iter().zip(&answers) {
                    if vital.contains(id)
                        && answer.is_err()
                        && self.hosts.process(*id).await.is_ok_and(Process::is_gone)
                    {
                        return Poll::Never(self.died(*id).await);
                    }
                }
                Poll::NotYet(reason)
            }
        }
    }

    /// Polls until the condition is met, can no longer be met, or time has run out.
    pub(super) async fn wait(
        &self,
        awaited: Awaited,
        limit: Duration,
        mut poll: impl AsyncFnMut() -> Poll,
    ) -> Result<String, StepError> {
        let end = Instant::now() + self.limit(limit);
        loop {
            let last = match poll().await {
                Poll::Done(note) => return Ok(note),
                Poll::Never(error) => return Err(error),
                Poll::NotYet(reason) => reason,
            };
            if self.interrupt.asked() {
                return Err(StepError::Interrupted);
            }
            let now = Instant::now();
            if now >= end {
                let limit = Some(limit).filter(|_| now < self.deadline);
                return Err(StepError::TimedOut { awaited, limit, last });
            }
            tokio::time::sleep(self.limits.poll).await;
        }
    }

    /// Returns the error for a process that has ended, with the reason from the end of its log.
    pub(super) async fn died(&self, node: NodeId) -> StepError {
        let (reason, log) = match self.hosts.log_tail(node, LOG_DEPTH).await {
            Ok(lines) => crash_excerpt(&lines),
            Err(error) => ("its log cannot be read:".to_owned(), vec![error.to_string()]),
        };
        StepError::Died { node, reason, log }
    }

    /// Returns the time limit of a step: its own, but not beyond the operation's deadline.
    fn limit(&self, own: Duration) -> Duration {
        own.min(self.deadline.saturating_duration_since(Instant::now()))
    }
}

/// Returns the panic at the end of a log with its lines, or else the last lines.
fn crash_excerpt(lines: &[String]) -> (String, Vec<String>) {
    if let (Some(at), Some(panic)) = (crash_log::panic_in(lines), crash_log::panic_line(lines)) {
        return (panic, lines[at..].iter().take(LOG_LINES).cloned().collect());
    }
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].to_vec();
    let last = if last.is_empty() { vec!["(it logged nothing)".to_owned()] } else { last };
    ("its last log lines:".to_owned(), last)
}

pub(super) fn failed(step: &Step, error: PortError) -> StepError {
    let did_not_stop = match step.action {
        Action::StopNode { force: false } => step.node,
        _ => None,
    };
    StepError::Port { did_not_stop, error }
}
