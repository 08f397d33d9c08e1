//! A node joins: its host is prepared, the node is started, checked to be reachable by all members, added as a learner,
//! and becomes a voter once it has caught up. It is never added as a voter at once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::Membership;
use shared::ids::NodeId;
use shared::spec::{Node, authority};

use super::context::Context;
use crate::plan::facts::{Facts, NodeFacts};
use crate::plan::provision::Remote;
use crate::plan::up::{UpOptions, hosts, prepare};
use crate::plan::{Action, Plan, Refusal, Step};

/// The options of `add-node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOptions {
    /// The node to add.
    pub member: Node,
    /// It stays a learner.
    pub stays_learner: bool,
    /// Path of the program; `None` if none was found.
    pub binary: Option<PathBuf>,
    /// What remote hosts get; `None` for a local cluster.
    pub remote: Option<Remote>,
    /// The cluster.yaml to add the node to; `None` if it is there already, or the file cannot be written.
    pub file: Option<PathBuf>,
    /// Whether its data directory was empty when the operation began. If so, data in it now comes from this operation.
    #[serde(default)]
    pub was_empty: Option<bool>,
}

impl AddOptions {
    /// Records whether the data directory is empty, when that is first known.
    pub fn record_baseline(&mut self, facts: &Facts) {
        let host = facts.nodes.get(&self.member.id).and_then(NodeFacts::host);
        if let (None, Some(host)) = (self.was_empty, host) {
            self.was_empty = Some(host.data_empty);
        }
    }
}

/// Adds the stages that make the node a member.
///
/// # Errors
/// Refuses an address of another member, data of another cluster, and a host that is not ready.
pub fn join(plan: &mut Plan, context: &Context<'_>, options: &AddOptions) -> Result<(), Refusal> {
    let (id, others) = (options.member.id, context.others(options.member.id));
    elsewhere(context, &options.member)?;
    stranger(context, options)?;
    let up = UpOptions {
        operation: plan.operation.clone(),
        nodes: vec![id],
        binary: options.binary.clone(),
        remote: options.remote.clone(),
        ..UpOptions::default()
    };
    let begun = plan.stages.len();
    prepare(plan, context.spec, context.wanted, context.facts, &up, &[id])?;
    older_or_newer(plan, context, options);
    let membership = context.membership(id);
    // If the node fails before it has caught up, it is removed again, so that it does not count as a member that is
    // down.
    let was_empty = options.was_empty == Some(true) && membership == Membership::None;
    let undo = |joined: bool| {
        let leave = Step::undo(id, Action::RemoveMember { nodes: others.clone() }, "it did not catch up");
        let stop = Step::undo(id, Action::StopNode { force: true }, "it is not a member");
        let wipe = Step::undo(id, Action::Wipe, "it was empty before");
        let all = [joined.then_some(leave), Some(stop), was_empty.then_some(wipe)];
        all.into_iter().flatten().collect::<Vec<_>>()
    };
    if membership == Membership::None {
        for stage in plan.stages.iter_mut().skip(begun).filter(|stage| {
            stage.steps.iter().any(|step| matches!(step.action, Action::StartNode { .. } | Action::AwaitLive))
        }) {
            stage.rescue = undo(false);
        }
        let from: Vec<NodeId> = others.iter().copied().filter(|id| context.host_is_seen(*id)).collect();
        let reach = Step::on(id, Action::ProveReach { from }, "before it becomes a member");
        plan.guarded(format!("check that the members reach n{id}"), vec![reach], undo(false));
        let join = Action::AddMember {
            member: Box::new(Node { ssh: None, ..options.member.clone() }),
            stays_learner: options.stays_learner,
            nodes: others.clone(),
        };
        plan.guarded(format!("add n{id}"), vec![Step::on(id, join, "not a member")], undo(true));
    }
    let settled = if options.stays_learner {
        membership == Membership::Learner
    } else {
        membership == Membership::Voter
    };
    if settled && plan.stages.len() == begun {
        return Ok(());
    }
    let nodes: Vec<NodeId> = others.iter().copied().chain([id]).collect();
    let caught_up = Action::AwaitCaughtUp { nodes: nodes.clone(), config: None };
    let step = Step::on(id, caught_up, "a learner must catch up before it votes");
    plan.guarded(format!("wait until n{id} has caught up"), vec![step], undo(true));
    if !options.stays_learner {
        let voter = Step::on(id, Action::AwaitVoter { nodes }, "promoted by the leader");
        plan.guarded(format!("wait until n{id} votes"), vec![voter], undo(true));
    }
    Ok(())
}

/// Refuses an id that belongs to a member at another address.
fn elsewhere(context: &Context<'_>, member: &Node) -> Result<(), Refusal> {
    let id = member.id;
    let refused = |host: &str, port: u16| {
        let place = authority(host, port);
        Refusal::new(format!("node {id} is already a member, at {place}; no changes were made"))
            .hint(format!("remove it first:  escli remove-node {id}"))
            .hint("or choose another id")
    };
    match context.peer(id) {
        Some(peer) if (&peer.host, peer.cluster_port) != (&member.host, member.cluster_port) => {
            Err(refused(&peer.host, peer.cluster_port))
        }
        _ => Ok(()),
    }
}

/// Refuses data of another cluster, or of an earlier member.
fn stranger(context: &Context<'_>, options: &AddOptions) -> Result<(), Refusal> {
    let id = options.member.id;
    for (_, host) in hosts(context.facts, &[id])? {
        let ours = context.membership(id) != Membership::None
            || options.was_empty == Some(true)
            || waits(context, id);
        if !host.data_empty && !ours {
            return Err(Refusal::new(format!(
                "node {id}'s data directory is not empty; no changes were made"
            ))
            .because("a node that was a member before, or of another cluster, cannot join with its old data")
            .hint(format!(
                "if its data is not needed, delete the contents of cluster.storage.data_dir on {}",
                options.member.host
            ))
            .hint("if it was already being added:  escli history"));
        }
    }
    Ok(())
}

/// Returns whether the node runs, and waits to be added to this cluster.
fn waits(context: &Context<'_>, id: NodeId) -> bool {
    let own = context.statuses.iter().find(|status| status.node_id == id);
    let cluster = context.head().and_then(|head| head.cluster_id);
    own.is_some_and(|own| {
        own.state.is_none()
            && own.cluster_name == context.spec.cluster.name
            && own.cluster_id.is_none_or(|of| Some(of) == cluster)
    })
}

/// Adds a note if the program's version is not the one that the cluster runs, which is allowed.
fn older_or_newer(plan: &mut Plan, context: &Context<'_>, options: &AddOptions) {
    let release = options.remote.as_ref().and_then(|remote| remote.program.as_ref());
    let (Some(program), Some(head)) = (release, context.head()) else { return };
    if !program.release.starts_with(&format!("{}-", head.version)) {
        plan.notes.push(format!(
            "node {} gets esnode {}, the leader runs {}",
            options.member.id, program.release, head.version
        ));
    }
}
