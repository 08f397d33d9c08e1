//! Plans `add-node`, `remove-node` and `replace-node`; has the parts that they share.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::Membership;
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::desired::DesiredFiles;
use super::facts::Facts;
use super::quorum::tolerates;
use super::{Action, Plan, Refusal, Step};

mod context;
mod join;
mod leave;

use context::Context;
use join::join;
use leave::leave;

pub use join::AddOptions;
pub use leave::RemoveOptions;

/// The options of `replace-node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceOptions {
    /// The node that joins.
    pub add: AddOptions,
    /// The node that leaves.
    pub remove: RemoveOptions,
}

/// Plans `add-node`.
///
/// # Errors
/// Those of [`Context::of`] and [`join`].
pub(super) fn add(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &AddOptions,
) -> Result<Plan, Refusal> {
    let context = Context::of(spec, wanted, facts)?;
    let mut plan = Plan::new("add-node", &spec.cluster.name);
    let id = options.member.id;
    join(&mut plan, &context, options)?;
    let voters =
        context.voters + usize::from(!options.stays_learner && context.membership(id) != Membership::Voter);
    if voters.is_multiple_of(2) && context.membership(id) != Membership::Voter && !options.stays_learner {
        plan.notes.push(format!(
            "{voters} voters tolerate {} failed, as many as {} voters do: an even number adds cost and no fault tolerance",
            tolerates(voters),
            voters - 1
        ));
    }
    finish(&mut plan, &context, options.file.as_ref(), None);
    Ok(plan)
}

/// Plans `remove-node`.
///
/// # Errors
/// Those of [`Context::of`] and [`leave`].
pub(super) fn remove(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &RemoveOptions,
) -> Result<Plan, Refusal> {
    let context = Context::of(spec, wanted, facts)?;
    let mut plan = Plan::new("remove-node", &spec.cluster.name);
    leave(&mut plan, &context, options, None)?;
    finish(&mut plan, &context, options.file.as_ref(), Some(options.member.id));
    Ok(plan)
}

/// Plans `replace-node`: the new node becomes a voter before the old one leaves.
///
/// # Errors
/// Those of [`add`] and [`remove`].
pub(super) fn replace(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &ReplaceOptions,
) -> Result<Plan, Refusal> {
    let context = Context::of(spec, wanted, facts)?;
    let mut plan = Plan::new("replace-node", &spec.cluster.name);
    join(&mut plan, &context, &options.add)?;
    let gained =
        (context.membership(options.add.member.id) != Membership::Voter).then_some(options.add.member.id);
    leave(&mut plan, &context, &options.remove, gained)?;
    finish(&mut plan, &context, options.add.file.as_ref(), Some(options.remove.member.id));
    Ok(plan)
}

/// Adds the steps that update cluster.yaml and every node's configuration file. No node is restarted for that.
fn finish(plan: &mut Plan, context: &Context<'_>, file: Option<&PathBuf>, gone: Option<NodeId>) {
    if let Some(path) = file {
        let write =
            Step::cluster(Action::WriteClusterFile { path: path.clone() }, "the members have changed");
        plan.stage("describe", vec![write]);
    }
    let (mut configs, mut asked) = (Vec::new(), Vec::new());
    let configured: Vec<String> = plan
        .steps()
        .filter(|step| matches!(step.action, Action::WriteConfig { .. }))
        .map(|step| step.id.clone())
        .collect();
    for (id, node) in context.facts.nodes.iter().filter(|(id, _)| Some(**id) != gone) {
        let starts = plan.steps().any(|step| step.node == Some(*id) && step.action.name() == "start_node");
        if starts || node.status().is_some() {
            asked.push(*id);
        }
        let Some(host) = node.host() else {
            plan.notes.push(format!(
                "node {id}'s host cannot be inspected: its cluster.yaml is not updated; run escli reload {id} later"
            ));
            continue;
        };
        let Some(hash) = context.wanted.hash(*id) else { continue };
        let step = Step::on(*id, Action::WriteConfig { hash: hash.to_owned() }, "the members have changed");
        if host.config_hash.as_deref() != Some(hash) && !configured.contains(&step.id) {
            configs.push(step);
        }
    }
    plan.stage("configure", configs);
    if !plan.stages.is_empty() {
        let verify = Step::cluster(Action::VerifyCluster { nodes: asked }, "the members have changed");
        plan.stage("verify", vec![verify]);
    }
}
