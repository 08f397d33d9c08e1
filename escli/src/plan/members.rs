//! `add-node`, `remove-node` and `replace-node`: what they have in common, and how they end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::{ClusterStatus, PeerStatus, Role};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::agreement::{self, Agreement};
use super::facts::{Facts, HostSight};
use super::join::{AddOptions, join};
use super::leave::{RemoveOptions, leave};
use super::quorum::tolerates;
use super::wanted::Wanted;
use super::{Action, Plan, Refusal, Step};

/// What `replace-node` is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceOptions {
    /// Who comes.
    pub add: AddOptions,
    /// Who goes.
    pub remove: RemoveOptions,
}

/// The cluster as its members are to be changed.
pub struct Scene<'a> {
    /// cluster.yaml with everybody in it: who stays, who comes, who goes.
    pub spec: &'a ClusterFile,
    /// The file that each node gets.
    pub wanted: &'a Wanted,
    /// What was seen.
    pub facts: &'a Facts,
    /// The answers.
    pub statuses: Vec<ClusterStatus>,
    /// How many vote now.
    pub voters: usize,
    /// Who leads.
    pub now: Agreement,
}

impl<'a> Scene<'a> {
    /// The cluster, if it may be worked on at all.
    ///
    /// # Errors
    /// Refuses while it is not led, disagrees, or changes already.
    pub fn of(spec: &'a ClusterFile, wanted: &'a Wanted, facts: &'a Facts) -> Result<Self, Refusal> {
        let statuses: Vec<ClusterStatus> = facts.statuses().map(|(_, status)| status.clone()).collect();
        let voters = agreement::voters(&statuses, spec.cluster.nodes.len());
        let now = agreement::sound(&statuses, voters).map_err(|reason| {
            Refusal::new("members are changed only while the cluster is led; nothing was changed")
                .because(reason)
                .hint("see what is wrong:          escli health")
                .hint("start whatever is down:     escli start")
                .hint("bring a new cluster up:     escli up")
        })?;
        Ok(Self { spec, wanted, facts, statuses, voters, now })
    }

    /// What the leader says of itself.
    pub fn head(&self) -> Option<&ClusterStatus> {
        self.statuses.iter().find(|status| status.node_id == self.now.leader)
    }

    /// What the leader says of a member other than itself.
    pub fn peer(&self, id: NodeId) -> Option<&PeerStatus> {
        self.head()?.peers.iter().find(|peer| peer.id == id && peer.role != Role::None)
    }

    /// The node's part, by the leader's account.
    pub fn role(&self, id: NodeId) -> Role {
        match (self.head(), self.peer(id)) {
            (Some(head), _) if head.node_id == id => head.role,
            (_, Some(peer)) => peer.role,
            _ => Role::None,
        }
    }

    /// Every node of cluster.yaml except this one.
    pub fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.spec.cluster.nodes.iter().map(|node| node.id).filter(|id| *id != than).collect()
    }

    /// The host can be worked on.
    pub fn host_is_seen(&self, id: NodeId) -> bool {
        self.facts.nodes.get(&id).is_some_and(|node| matches!(node.host, HostSight::Seen(_)))
    }
}

/// Plans `add-node`.
///
/// # Errors
/// Those of [`Scene::of`] and [`join`].
pub(super) fn add(
    spec: &ClusterFile,
    wanted: &Wanted,
    facts: &Facts,
    options: &AddOptions,
) -> Result<Plan, Refusal> {
    let scene = Scene::of(spec, wanted, facts)?;
    let mut plan = Plan::new("add-node", &spec.cluster.name);
    let id = options.member.id;
    join(&mut plan, &scene, options)?;
    let voters = scene.voters + usize::from(!options.stays_learner && scene.role(id) != Role::Voter);
    if voters.is_multiple_of(2) && scene.role(id) != Role::Voter && !options.stays_learner {
        plan.notes.push(format!(
            "{voters} voters tolerate {} failed, as many as {} do: an even number costs more and gains nothing",
            tolerates(voters),
            voters - 1
        ));
    }
    settle(&mut plan, &scene, options.file.as_ref(), None);
    Ok(plan)
}

/// Plans `remove-node`.
///
/// # Errors
/// Those of [`Scene::of`] and [`leave`].
pub(super) fn remove(
    spec: &ClusterFile,
    wanted: &Wanted,
    facts: &Facts,
    options: &RemoveOptions,
) -> Result<Plan, Refusal> {
    let scene = Scene::of(spec, wanted, facts)?;
    let mut plan = Plan::new("remove-node", &spec.cluster.name);
    leave(&mut plan, &scene, options, None)?;
    settle(&mut plan, &scene, options.file.as_ref(), Some(options.member.id));
    Ok(plan)
}

/// Plans `replace-node`: the new one votes before the old one goes.
///
/// # Errors
/// Those of [`add`] and [`remove`].
pub(super) fn replace(
    spec: &ClusterFile,
    wanted: &Wanted,
    facts: &Facts,
    options: &ReplaceOptions,
) -> Result<Plan, Refusal> {
    let scene = Scene::of(spec, wanted, facts)?;
    let mut plan = Plan::new("replace-node", &spec.cluster.name);
    join(&mut plan, &scene, &options.add)?;
    let gained = (scene.role(options.add.member.id) != Role::Voter).then_some(options.add.member.id);
    leave(&mut plan, &scene, &options.remove, gained)?;
    settle(&mut plan, &scene, options.add.file.as_ref(), Some(options.remove.member.id));
    Ok(plan)
}

/// Writes down what is now true: cluster.yaml, and every node's file. Nobody is restarted for it.
fn settle(plan: &mut Plan, scene: &Scene<'_>, file: Option<&PathBuf>, gone: Option<NodeId>) {
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
    for (id, node) in scene.facts.nodes.iter().filter(|(id, _)| Some(**id) != gone) {
        let starts = plan.steps().any(|step| step.node == Some(*id) && step.action.name() == "start_node");
        if starts || node.status().is_some() {
            asked.push(*id);
        }
        let Some(host) = node.host() else {
            plan.notes.push(format!(
                "node {id}'s host cannot be looked at: its cluster.yaml stays as it is until escli reload {id}"
            ));
            continue;
        };
        let Some(hash) = scene.wanted.hash(*id) else { continue };
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
