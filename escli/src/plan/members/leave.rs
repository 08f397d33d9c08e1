//! A node leaves: if it leads, it transfers leadership; the cluster removes it; a majority has to know; and only then
//! is it stopped.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::Membership;
use shared::ids::NodeId;
use shared::spec::{Node, Service};

use super::context::Context;
use crate::plan::agreement;
use crate::plan::identity;
use crate::plan::quorum::quorum;
use crate::plan::transfer::successor;
use crate::plan::{Action, Plan, Question, Refusal, Step};

/// The options of `remove-node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveOptions {
    /// The node to remove.
    pub member: Node,
    /// Also delete its data.
    pub purge: bool,
    /// Kill it if it does not stop in time.
    pub force: bool,
    /// Continue although the cluster tolerates no failure afterwards.
    pub allow_downtime: bool,
    /// The operator has agreed already, before the operation was interrupted.
    #[serde(default)]
    pub agreed: bool,
    /// How remote nodes are kept running; `None` for a local cluster.
    pub service: Option<Service>,
    /// The cluster.yaml to remove the node from; `None` if it is not there any more, or the file cannot be written.
    pub file: Option<PathBuf>,
}

/// Adds the stages that remove the node from the members. `gained` is a voter that will have joined before.
///
/// # Errors
/// Refuses if the remaining members would have no healthy majority.
pub fn leave(
    plan: &mut Plan,
    context: &Context<'_>,
    options: &RemoveOptions,
    gained: Option<NodeId>,
) -> Result<(), Refusal> {
    let id = options.member.id;
    let stay = context.others(id);
    let membership = context.membership(id);
    if membership == Membership::Voter {
        majority(plan, context, options, gained)?;
    }
    if context.now.leader == id {
        let preferred: Vec<NodeId> = gained.into_iter().collect();
        let to = successor(&context.statuses, context.voters, context.now, &preferred).ok_or_else(|| {
            Refusal::new(format!("node {id} leads, and no other node can take over; no changes were made"))
                .hint("if it is the only voter, add another node first:  escli add-node ID --host HOST")
                .hint("escli health")
        })?;
        let why = format!("n{id} leads, and is removed next");
        plan.stage(format!("transfer leadership to n{to}"), vec![Step::on(to, Action::TransferLeader, why)]);
    }
    if membership != Membership::None {
        let why = if membership == Membership::Voter { "a voter" } else { "a learner" };
        let leave = Step::on(id, Action::RemoveMember { nodes: stay }, why);
        plan.stage(format!("remove n{id}"), vec![leave]);
    }
    retire(plan, context, options);
    Ok(())
}

/// Checks that the other members have a healthy majority, both of the voters now and of those afterwards.
fn majority(
    plan: &mut Plan,
    context: &Context<'_>,
    options: &RemoveOptions,
    gained: Option<NodeId>,
) -> Result<(), Refusal> {
    let id = options.member.id;
    let joins = usize::from(gained.is_some());
    let (before, after) = (context.voters + joins, context.voters + joins - 1);
    let healthy = agreement::healthy(&context.statuses, context.voters);
    let (now, left) = (healthy.len() + joins, healthy.iter().filter(|other| **other != id).count() + joins);
    if after == 0 {
        return Err(Refusal::new(format!("node {id} is the only voter; no changes were made"))
            .because("no node would be left with the log")
            .hint("add another node first:  escli add-node ID --host HOST")
            .hint("or delete the cluster:   escli down --purge-data"));
    }
    if now < quorum(before) || left < quorum(after) {
        let text = format!(
            "the change would leave {left} of {after} voters healthy; {} are required",
            quorum(after)
        );
        let mut refusal =
            Refusal::new(format!("node {id} cannot be removed now; no changes were made")).because(text);
        for other in
            context.others(id).into_iter().filter(|other| context.membership(*other) == Membership::Voter)
        {
            if let Err(reason) = agreement::keeps_up(other, &context.statuses, context.voters) {
                refusal = refusal.because(reason);
            }
        }
        return Err(refusal.hint("repair or start the other nodes first:  escli health"));
    }
    let text = format!(
        "node {id} ({}) is permanently removed from {}",
        options.member.host, context.spec.cluster.name
    );
    let text = if options.purge { format!("{text}, and its data is deleted") } else { text };
    if options.agreed {
        return Ok(());
    }
    plan.question = Some(if after < 3 && gained.is_none() && !options.allow_downtime {
        Question::Downtime { text: format!("{text}; {after} voters tolerate no failure") }
    } else if options.purge {
        Question::TypeName { text, word: identity::named(context.spec, context.facts) }
    } else {
        Question::Confirm { text }
    });
    Ok(())
}

/// Stops the node, and makes sure that it is not started again.
fn retire(plan: &mut Plan, context: &Context<'_>, options: &RemoveOptions) {
    let id = options.member.id;
    let Some(host) = context.facts.nodes.get(&id).and_then(|node| node.host()) else {
        plan.notes.push(format!(
            "node {id}'s host cannot be inspected: the node is not stopped there; it stops by itself if it comes back"
        ));
        if options.purge {
            plan.notes.push(format!("its data is not deleted: {}", options.member.host));
        }
        return;
    };
    if !host.is_stopped() {
        let stop = Step::on(id, Action::StopNode { force: options.force }, "no longer a member");
        plan.stage(format!("stop n{id}"), vec![stop]);
    }
    let enabled = host.machine.as_ref().is_some_and(|machine| machine.enabled);
    if options.service == Some(Service::Systemd) && enabled {
        let disable = Step::on(id, Action::DisableUnit, "no longer a member");
        plan.stage(format!("disable n{id}"), vec![disable]);
    }
    if options.purge && (host.dirs || host.config_hash.is_some()) {
        plan.stage(format!("wipe n{id}"), vec![Step::on(id, Action::Wipe, "--purge")]);
    }
}
