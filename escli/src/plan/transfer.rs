//! Plans `transfer-leader`: only a voter that follows the leader and keeps up can take over.

use serde::{Deserialize, Serialize};
use shared::api::{ClusterStatus, Membership};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::agreement::{self, Agreement};
use super::facts::{ApiAnswer, Facts};
use super::up::targets;
use super::{Action, Plan, Refusal, Step};

/// The options of `transfer-leader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferOptions {
    /// The wanted leader; if `None`, a follower that keeps up.
    pub to: Option<NodeId>,
}

/// Plans `transfer-leader`.
///
/// # Errors
/// Refuses if there is no undisputed leader, or the node cannot take over.
pub(super) fn transfer(
    spec: &ClusterFile,
    facts: &Facts,
    options: &TransferOptions,
) -> Result<Plan, Refusal> {
    if let Some(to) = options.to {
        targets(spec, &[to])?;
    }
    let statuses: Vec<ClusterStatus> = facts.statuses().map(|(_, status)| status.clone()).collect();
    let voters = agreement::voters(&statuses, spec.cluster.nodes.len());
    let now = agreement::sound(&statuses, voters).map_err(|reason| {
        Refusal::new("leadership cannot be transferred now; no changes were made")
            .because(reason)
            .hint("escli health")
    })?;
    let mut plan = Plan::new("transfer-leader", &spec.cluster.name);
    if options.to == Some(now.leader) {
        plan.notes.push(format!("node {} is already the leader", now.leader));
        return Ok(plan);
    }
    let to = match options.to {
        Some(to) => fit(to, facts, &statuses, voters)?,
        None => successor(&statuses, voters, now, &[])
            .ok_or_else(|| Refusal::new("no follower can take over; no changes were made"))?,
    };
    let why = format!("n{} leads", now.leader);
    plan.stage("transfer leadership", vec![Step::on(to, Action::TransferLeader, why)]);
    let nodes: Vec<NodeId> = statuses.iter().map(|status| status.node_id).collect();
    plan.stage("verify", vec![Step::cluster(Action::VerifyCluster { nodes }, "leadership was transferred")]);
    Ok(plan)
}

/// Checks that the node can take over.
fn fit(to: NodeId, facts: &Facts, statuses: &[ClusterStatus], voters: usize) -> Result<NodeId, Refusal> {
    let refused = |why: String| {
        Refusal::new(format!("node {to} cannot lead now; no changes were made"))
            .because(why)
            .hint("let escli choose:  escli transfer-leader")
    };
    if let Some(ApiAnswer::Silent { reason, .. }) = facts.nodes.get(&to).map(|node| &node.api) {
        let hint = format!("start it, if it is down:  escli start {to}");
        return Err(refused(format!("n{to} does not answer: {reason}")).hint(hint));
    }
    match statuses.iter().find(|status| status.node_id == to).map(|status| status.membership) {
        Some(Membership::Voter) => {}
        Some(Membership::Learner) => {
            return Err(refused(format!("n{to} is a learner, not a voter")));
        }
        Some(Membership::None) | None => return Err(refused(format!("n{to} is not a member"))),
    }
    agreement::keeps_up(to, statuses, voters)
        .map(|_| to)
        .map_err(|reason| refused(reason).hint("wait until it has caught up:  escli watch --until caught-up"))
}

/// Returns the voter that should lead next, one of `preferred` if possible. All candidates keep up, so the lowest id
/// decides: two inspections a moment apart then choose the same one.
pub fn successor(
    statuses: &[ClusterStatus],
    voters: usize,
    now: Agreement,
    preferred: &[NodeId],
) -> Option<NodeId> {
    let able = agreement::healthy(statuses, voters).into_iter().filter(|id| *id != now.leader);
    able.min_by_key(|id| (!preferred.contains(id), *id))
}
