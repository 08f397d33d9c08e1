//! Plans `upgrade`. The program is copied to every host before the first node is changed. Then one node at a time is
//! restarted with it: nodes that are down first, then followers, the leader last. Each must serve for a while before
//! the next one's turn, and returns to its previous release if it does not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use semver::Version;
use serde::{Deserialize, Serialize};
use shared::api::ClusterStatus;
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::facts::{Facts, HostFacts, NodeFacts};
use super::program::Program;
use super::provision::Remote;
use super::rolling::{NodeTurn, ReleaseChange, RollOptions, TurnState, roll};
use super::up::{checked, hosts, targets};
use super::{Action, Plan, Refusal, Step};

/// The options of `upgrade`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOptions {
    /// The options that it shares with other rolling changes; `binary` is the program on remote hosts.
    pub roll: RollOptions,
    /// The new program.
    pub program: Program,
    /// How long, in milliseconds, each node must serve before the next one's turn.
    pub soak_ms: u64,
    /// Stop after this many nodes.
    pub pause_after: Option<usize>,
    /// Leave a node that fails as it is.
    pub no_rollback: bool,
    /// Do not raise the on-disk format, so that a downgrade stays possible.
    #[serde(default)]
    pub keep_way_back: bool,
    /// Allow an older version.
    pub allow_downgrade: bool,
    /// Allow skipping a minor version.
    pub allow_skip: bool,
    /// What remote hosts get; `None` for a local cluster.
    pub remote: Option<Remote>,
    /// The directory of a local cluster's releases.
    pub releases: PathBuf,
    /// Programs of local nodes that do not run from a release; they are copied to releases first.
    #[serde(default, with = "super::listed")]
    pub adopted: BTreeMap<NodeId, Program>,
    /// The release of each node when the operation began, to which it returns if it fails.
    #[serde(default, with = "super::listed")]
    pub from: BTreeMap<NodeId, Option<String>>,
}

impl UpgradeOptions {
    /// Records the release that every node runs, when it is first known.
    pub fn record_baseline(&mut self, facts: &Facts) {
        if !self.from.is_empty() {
            return;
        }
        let seen = facts.nodes.iter().filter_map(|(id, node)| Some((*id, node.host()?)));
        self.from = seen.map(|(id, host)| (id, self.release_of(id, host))).collect();
    }

    fn release_of(&self, id: NodeId, host: &HostFacts) -> Option<String> {
        let adopted = || self.adopted.get(&id).map(|program| program.release.clone());
        host.runs_release().map(str::to_owned).or_else(|| host.current.clone()).or_else(adopted)
    }

    /// Returns the path of a release's program on its host.
    fn at(&self, release: &str) -> PathBuf {
        match &self.remote {
            Some(remote) => remote.layout.program().into(),
            None => self.releases.join(release).join("esnode"),
        }
    }
}

/// Plans `upgrade`.
///
/// # Errors
/// Refuses hosts that are not ready, versions that need an option, and a loss of the majority.
pub(super) fn upgrade(spec: &ClusterFile, facts: &Facts, options: &UpgradeOptions) -> Result<Plan, Refusal> {
    let mut plan = Plan::new("upgrade", &spec.cluster.name);
    let targets = targets(spec, &[])?;
    if let Some(remote) = &options.remote {
        plan.notes.extend(checked(spec, remote, facts, &targets)?);
    }
    let hosts = hosts(facts, &targets)?;
    compatible(facts, options)?;
    allowed(facts, options)?;
    let turns: Vec<NodeTurn> =
        hosts.iter().filter_map(|(id, host)| turn(*id, host, facts, options)).collect();
    if turns.is_empty() {
        plan.notes.push(format!("every node already runs {}", options.program.release));
        raise_format(&mut plan, &targets, facts, options);
        return Ok(plan);
    }
    keep(&mut plan, &turns, options);
    let copies = turns.iter().filter(|turn| turn.state != TurnState::Restarted).map(|turn| {
        let Program { path, release, sha256, .. } = options.program.clone();
        Step::on(turn.id, Action::PlaceBinary { source: path, release, sha256 }, "before any node is stopped")
    });
    plan.stage("copy", copies.collect());
    let before = plan.stages.len();
    roll(&mut plan, spec, facts, turns, &options.roll)?;
    if pause(&mut plan, before, options) == 0 {
        raise_format(&mut plan, &targets, facts, options);
    }
    Ok(plan)
}

/// Adds the step that raises the on-disk format after every node was upgraded. Afterwards no downgrade is possible.
fn raise_format(plan: &mut Plan, nodes: &[NodeId], facts: &Facts, options: &UpgradeOptions) {
    let to = options.program.info.as_ref().map(|info| info.format.max);
    let below =
        |to: u16| facts.statuses().any(|(_, status)| status.active_format.is_some_and(|now| now < to));
    if to.is_some_and(|to| !below(to)) {
        return;
    }
    if options.keep_way_back {
        plan.notes.push(
            "the on-disk format was not raised, so a downgrade stays possible; to raise it later, run the same upgrade \
             again without --keep-way-back"
                .to_owned(),
        );
        return;
    }
    let action = Action::RaiseFormat { to, nodes: nodes.to_vec() };
    let why = "every node reads it now; downgrades to a version that does not are no longer possible";
    plan.one("raise the on-disk format", Step::cluster(action, why));
}

/// Returns the node's part of the plan; `None` if it ran the release before, or was already upgraded by this operation.
fn turn(id: NodeId, host: &HostFacts, facts: &Facts, options: &UpgradeOptions) -> Option<NodeTurn> {
    let release = &options.program.release;
    let from = options.from.get(&id).cloned().flatten();
    let now = options.release_of(id, host);
    if from.as_ref() == Some(release) && now.as_ref() == Some(release) {
        return None;
    }
    let state = match (facts.nodes.get(&id).and_then(NodeFacts::pid), host.runs_release()) {
        (None, _) => TurnState::Down,
        (Some(_), Some(runs)) if runs == release => TurnState::Restarted,
        (Some(_), _) => TurnState::Runs,
    };
    let back = from.clone().filter(|from| !options.no_rollback && from != release);
    let switch = ReleaseChange {
        to: release.clone(),
        version: options.program.info.as_ref().map(|info| info.version.clone()),
        soak_ms: options.soak_ms,
        back: back.map(|from| (from.clone(), options.at(&from))),
    };
    let why = match from {
        Some(from) => format!("from {from} to {release}"),
        None => format!("to {release}"),
    };
    let binary = Some(options.at(release));
    Some(NodeTurn { id, why, state, write: None, prove: None, binary, switch: Some(switch) })
}

/// Adds steps that copy programs to releases, because the files that the nodes were started from may be gone.
fn keep(plan: &mut Plan, turns: &[NodeTurn], options: &UpgradeOptions) {
    let kept: Vec<_> =
        turns.iter().filter_map(|turn| Some((turn.id, options.adopted.get(&turn.id)?))).collect();
    let named = |id: NodeId, action: Action, verb: &str| Step {
        id: format!("n{id}.{verb}"),
        ..Step::on(id, action, "to roll back to")
    };
    let copies = kept.iter().map(|(id, program)| {
        let Program { path, release, sha256, .. } = (*program).clone();
        named(*id, Action::PlaceBinary { source: path, release, sha256 }, "keep")
    });
    plan.stage("keep the running release", copies.collect());
    let links = kept.iter().map(|(id, program)| {
        named(*id, Action::SwitchRelease { release: program.release.clone() }, "keep-release")
    });
    plan.stage("keep the running release", links.collect());
}

/// Ends the plan after `pause_after` nodes that were not upgraded before. Returns how many nodes are left.
fn pause(plan: &mut Plan, before: usize, options: &UpgradeOptions) -> usize {
    let Some(most) = options.pause_after else { return 0 };
    let starts = |plan: &Plan, from: usize| {
        let stages = plan.stages[from..].iter().enumerate();
        let starts = stages.filter(|(_, stage)| stage.steps.iter().any(|step| step.action.name() == "soak"));
        starts.map(|(at, _)| from + at).collect::<Vec<_>>()
    };
    let ends = starts(plan, before);
    let (Some(last), Some(verify)) =
        (most.checked_sub(1).and_then(|last| ends.get(last)).copied(), plan.stages.pop())
    else {
        return 0;
    };
    let left = ends.len() - most;
    plan.stages.truncate(last + 1);
    plan.stages.push(verify);
    if left > 0 {
        plan.notes.push(format!("{left} nodes are not upgraded yet; to continue:  escli upgrade resume"));
    }
    left
}

/// Checks that the program can talk to every running node, and can read the data. No option overrides this, since the
/// node would refuse to start.
fn compatible(facts: &Facts, options: &UpgradeOptions) -> Result<(), Refusal> {
    let Some(new) = &options.program.info else { return Ok(()) };
    let what = format!("{} is {}", options.program.path.display(), new.version);
    let why = |(id, status): (NodeId, &ClusterStatus)| {
        let (protocol, active) = (status.protocol, status.active_format);
        if let Some(spoken) = protocol.filter(|spoken| !spoken.overlaps(new.protocol)) {
            let speaks = new.protocol;
            return Some(format!("n{id} speaks peer protocol {spoken}; {what} and speaks {speaks}"));
        }
        let format = active.filter(|active| !new.format.contains(*active))?;
        Some(format!("n{id}'s data is in on-disk format {format}; {what} and reads format {}", new.format))
    };
    let reasons: Vec<_> = facts.statuses().filter_map(why).collect();
    if reasons.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::new("the program is not compatible with this cluster; no changes were made");
    let refusal = reasons.into_iter().fold(refusal, Refusal::because);
    Err(refusal.hint("upgrade to a compatible version"))
}

/// Refuses a downgrade, or a skipped minor version, without its option.
fn allowed(facts: &Facts, options: &UpgradeOptions) -> Result<(), Refusal> {
    let Some(new) = options.program.info.as_ref().and_then(|info| Version::parse(&info.version).ok()) else {
        return Ok(());
    };
    let running =
        facts.statuses().filter_map(|(id, status)| Some((id, Version::parse(&status.version).ok()?)));
    for (id, old) in running {
        let refused = |what: &str, option: &str| {
            Err(Refusal::new(format!("this is {what}; no changes were made"))
                .because(format!("node {id} runs {old}, {} is {new}", options.program.path.display()))
                .hint(format!("to do it anyway:  escli upgrade {option} ...")))
        };
        if new < old && !options.allow_downgrade {
            return refused("a downgrade", "--allow-downgrade");
        }
        if new > old && further(&old, &new) && !options.allow_skip {
            return refused("an upgrade that skips a minor version", "--allow-skip");
        }
    }
    Ok(())
}

/// Returns whether `new` is further from `old` than the next minor version, or the first one of the next major version.
fn further(old: &Version, new: &Version) -> bool {
    match new.major - old.major {
        0 => new.minor > old.minor + 1,
        1 => new.minor > 0,
        _ => true,
    }
}
