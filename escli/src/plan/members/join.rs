//! A node joins: prepared, started, seen from everywhere, taken in as a learner, caught up, made a voter. Never straight
//! to voter.

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

/// What `add-node` is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOptions {
    /// The node.
    pub member: Node,
    /// It never votes.
    pub stays_learner: bool,
    /// The node's program; `None` when none was found.
    pub binary: Option<PathBuf>,
    /// What nodes on hosts of their own are given; `None` for processes of this machine.
    pub remote: Option<Remote>,
    /// The cluster.yaml that has yet to name it; `None` when it does, or cannot be written.
    pub file: Option<PathBuf>,
    /// Its data directory was empty when the operation was begun: what is in it now is the operation's own.
    #[serde(default)]
    pub was_empty: Option<bool>,
}

impl AddOptions {
    /// Remembers whether there was anything, the first time that it is seen.
    pub fn record_baseline(&mut self, facts: &Facts) {
        let host = facts.nodes.get(&self.member.id).and_then(NodeFacts::host);
        if let (None, Some(host)) = (self.was_empty, host) {
            self.was_empty = Some(host.data_empty);
        }
    }
}

/// Adds the stages after which the node is a member.
///
/// # Errors
/// Refuses an address that is another one's, data that is nobody's, and hosts that are not ready.
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
    // Whatever fails before the node has caught up leaves no member behind that holds the cluster up.
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

/// The id is not that of a member somewhere else.
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

/// There is no data of another cluster, or of a time before.
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

/// Runs, and waits to be taken in by this very cluster.
fn waits(context: &Context<'_>, id: NodeId) -> bool {
    let own = context.statuses.iter().find(|status| status.node_id == id);
    let cluster = context.head().and_then(|head| head.cluster_id);
    own.is_some_and(|own| {
        own.state.is_none()
            && own.cluster_name == context.spec.cluster.name
            && own.cluster_id.is_none_or(|of| Some(of) == cluster)
    })
}

/// The operator's program is not the one that the cluster runs: allowed, and worth knowing.
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
