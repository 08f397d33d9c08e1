//! Plans `stop` and `down`: followers stop first and the leader last, so that it can transfer leadership as long as
//! possible.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::Membership;
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::facts::{Facts, NodeFacts, Process};
use super::identity;
use super::quorum::quorum;
use super::up::{hosts, targets};
use super::{Action, Plan, Question, Refusal, Step, agreement};

/// The options of `stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOptions {
    /// The nodes to stop; all if empty.
    pub nodes: Vec<NodeId>,
    /// Kill a node that does not stop in time.
    pub force: bool,
    /// Do not ask, although the nodes that are left cannot accept writes.
    pub allow_downtime: bool,
}

/// The options of `down`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownOptions {
    /// Kill a node that does not stop in time.
    pub force: bool,
    /// Also delete the data.
    pub purge: bool,
    /// The cluster.yaml, if escli wrote it and nobody has changed it: then it is deleted with the data.
    pub own_file: Option<PathBuf>,
}

/// Plans `stop`.
///
/// # Errors
/// Refuses unknown nodes, and hosts that could not be inspected.
pub(super) fn stop(spec: &ClusterFile, facts: &Facts, options: &StopOptions) -> Result<Plan, Refusal> {
    let targets = targets(spec, &options.nodes)?;
    let mut plan = Plan::new("stop", &spec.cluster.name);
    let stopping = stop_stages(&mut plan, facts, &targets, options.force)?;
    // Without names the whole cluster is stopped, and the operator knows that it will be down.
    let named = !options.nodes.is_empty();
    if named && !options.allow_downtime && !stopping.is_empty() {
        plan.question = downtime(spec, facts, &stopping).map(|text| Question::Downtime { text });
    }
    Ok(plan)
}

/// Plans `down`.
///
/// # Errors
/// Refuses hosts that could not be inspected.
pub(super) fn down(spec: &ClusterFile, facts: &Facts, options: &DownOptions) -> Result<Plan, Refusal> {
    let targets = targets(spec, &[])?;
    let mut plan = Plan::new("down", &spec.cluster.name);
    stop_stages(&mut plan, facts, &targets, options.force)?;
    if !options.purge {
        return Ok(plan);
    }
    let with_dirs =
        hosts(facts, &targets)?.into_iter().filter(|(_, host)| host.dirs || host.config_hash.is_some());
    plan.stage("purge", with_dirs.map(|(id, _)| Step::on(id, Action::Wipe, "--purge-data")).collect());
    if let Some(path) = &options.own_file {
        let remove = Action::RemoveClusterFile { path: path.clone() };
        plan.stage("forget", vec![Step::cluster(remove, "unchanged since escli wrote it")]);
    }
    if plan.changes() > 0 {
        // The operator must type the name of the cluster that will be deleted, not the name in cluster.yaml.
        let word = identity::named(spec, facts);
        let text = format!("This permanently deletes all events of {word}.");
        plan.question = Some(Question::TypeName { text, word });
    }
    Ok(plan)
}

/// Adds one stage for each node, so that one has stopped before the next one is asked to. Returns the nodes in that
/// order.
fn stop_stages(plan: &mut Plan, facts: &Facts, ids: &[NodeId], force: bool) -> Result<Vec<NodeId>, Refusal> {
    let leader = facts.leader();
    let mut stopping: Vec<NodeId> =
        hosts(facts, ids)?.into_iter().filter(|(_, host)| !host.is_stopped()).map(|(id, _)| id).collect();
    stopping.sort_by_key(|id| (Some(*id) == leader, *id));
    for id in &stopping {
        let why = match facts.nodes.get(id).and_then(NodeFacts::host).map(|host| host.process) {
            _ if Some(*id) == leader => "running, and the leader",
            Some(Process::Restarting) => "restarting",
            Some(Process::Unknown) => "its state is unknown",
            _ => "running",
        };
        plan.stage(format!("stop n{id}"), vec![Step::on(*id, Action::StopNode { force }, why)]);
    }
    Ok(stopping)
}

/// Returns what it costs to stop these nodes; `None` if the cluster still accepts writes.
fn downtime(spec: &ClusterFile, facts: &Facts, stopping: &[NodeId]) -> Option<String> {
    let statuses: Vec<_> = facts.statuses().map(|(_, status)| status.clone()).collect();
    let voters = agreement::voters(&statuses, spec.cluster.nodes.len());
    let needed = quorum(voters);
    let learns =
        |id: &NodeId| statuses.iter().any(|own| own.node_id == *id && own.membership != Membership::Voter);
    let running: Vec<NodeId> = facts.running().into_iter().filter(|id| !learns(id)).collect();
    let left = running.iter().filter(|id| !stopping.contains(id)).count();
    (running.len() >= needed && left < needed).then(|| {
        format!(
            "this would leave {left} of {voters} voters running; {needed} are required: {} would accept no writes",
            spec.cluster.name
        )
    })
}
