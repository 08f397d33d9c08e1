//! `transfer-leader`, `restart`, `reload`: who is touched, in which order, and what is refused.

use super::*;
use crate::plan::member_set::MemberSet;
use crate::plan::rolling::{RollOptions, reload, restart};
use crate::plan::transfer::{TransferOptions, transfer};
use crate::plan::{Question, Refusal};

impl World {
    pub(super) fn says(&mut self, id: NodeId) -> &mut ClusterStatus {
        match &mut self.facts.nodes.get_mut(&id).unwrap().api {
            ApiAnswer::Status(status) => status,
            ApiAnswer::Silent { .. } => panic!("n{id} is silent"),
        }
    }

    fn transfer(&self, to: Option<NodeId>) -> Result<Plan, Refusal> {
        transfer(&self.spec, &self.facts, &TransferOptions { to })
    }

    fn restart(&self, nodes: &[NodeId]) -> Result<Plan, Refusal> {
        restart(&self.spec, &self.facts, &options(nodes))
    }

    fn reload(&self, options: &RollOptions) -> Result<Plan, Refusal> {
        reload(&self.spec, &self.wanted, &self.facts, options)
    }

    /// cluster.yaml was changed since the nodes got theirs.
    fn edit(&mut self) {
        self.spec.cluster.raft.heartbeat_interval = 40;
        self.wanted = desired::local(&self.spec, |id| PathBuf::from(format!("/d/n{id}/data")));
    }

    /// The node was given the file that is wanted now, and runs with it since `started_at`.
    fn took(&mut self, id: NodeId, started_at: &str) {
        let hash = self.wanted.hash(id).unwrap().to_owned();
        self.host(id).config_hash = Some(hash.clone());
        let status = self.says(id);
        (status.config_hash, status.started_at) = (hash, started_at.to_owned());
    }
}

fn options(nodes: &[NodeId]) -> RollOptions {
    RollOptions {
        nodes: nodes.to_vec(),
        binary: Some(PathBuf::from("/bin/esnode")),
        ..RollOptions::default()
    }
}

/// Without gates and waits.
fn deeds(plan: &Plan) -> Vec<String> {
    plan.steps().filter(|step| step.action.changes()).map(|step| step.id.clone()).collect()
}

#[test]
fn leadership_goes_only_where_it_can_be_taken() {
    let mut world = world(3, &[1, 2, 3], Some(1));
    assert_eq!(shape(&world.transfer(Some(3)).unwrap()), ["n3.transfer-leader", "cluster.verify"]);
    assert_eq!(shape(&world.transfer(None).unwrap())[0], "n2.transfer-leader");
    assert!(shape(&world.transfer(Some(1)).unwrap()).is_empty(), "it leads already");
    assert!(world.transfer(Some(9)).unwrap_err().message.contains("no node 9"));
    world.says(1).commit_index = 500;
    world.says(3).applied_index = 490;
    assert_eq!(world.transfer(Some(2)).unwrap_err().reasons, ["n2 has not yet applied 490 entries"]);
    assert_eq!(shape(&world.transfer(None).unwrap())[0], "n3.transfer-leader", "the one that keeps up");
    world.says(3).membership = Membership::Learner;
    assert!(world.transfer(Some(3)).unwrap_err().reasons[0].contains("learner"));
    assert!(world.transfer(None).unwrap_err().message.contains("no follower"));
}

#[test]
fn leadership_is_not_moved_to_a_silent_node_nor_while_it_is_disputed() {
    let two = world(3, &[1, 2], Some(1));
    let refused = two.transfer(Some(3)).unwrap_err();
    assert_eq!(refused.reasons, ["n3 does not answer: connection refused"]);
    assert!(refused.hints.iter().any(|hint| hint.ends_with("escli start 3")), "{:?}", refused.hints);
    let mut changing = world(3, &[1, 2, 3], Some(1));
    changing.says(1).pending_change = true;
    assert!(changing.transfer(Some(2)).unwrap_err().reasons[0].contains("membership change"));
    assert!(world(3, &[1, 2, 3], None).transfer(Some(2)).is_err());
}

#[test]
fn a_restart_goes_one_by_one_and_the_leader_comes_last_after_handing_over() {
    let plan = world(3, &[1, 2, 3], Some(1)).restart(&[]).unwrap();
    let turn = |id: NodeId| {
        ["quorum-check", "stop", "start", "live", "caught-up"].map(|verb| format!("n{id}.{verb}"))
    };
    let leader = [
        "n1.quorum-check",
        "n2.transfer-leader",
        "n1.stop",
        "n1.start",
        "n1.live",
        "n1.caught-up",
        "cluster.verify",
    ];
    let expected: Vec<String> =
        [turn(2), turn(3)].concat().into_iter().chain(leader.map(str::to_owned)).collect();
    assert_eq!(shape(&plan), expected);
    assert_eq!(plan.question, None);
    let one = world(3, &[1, 2, 3], Some(1)).restart(&[3]).unwrap();
    assert_eq!(deeds(&one), ["n3.stop", "n3.start"]);
    let leader = world(3, &[1, 2, 3], Some(3)).restart(&[3]).unwrap();
    assert_eq!(deeds(&leader), ["n1.transfer-leader", "n3.stop", "n3.start"]);
}

#[test]
fn a_node_that_is_down_goes_first_because_it_costs_nothing() {
    let plan = world(3, &[1, 2], Some(1)).restart(&[]).unwrap();
    assert_eq!(
        deeds(&plan),
        ["n3.start", "n2.stop", "n2.start", "n2.transfer-leader", "n1.stop", "n1.start"]
    );
    assert_eq!(shape(&plan)[..3], ["n3.start", "n3.live", "n3.caught-up"]);
}

#[test]
fn a_restart_that_would_cost_the_majority_is_refused() {
    let refused = world(3, &[1, 2], Some(1)).restart(&[2]).unwrap_err();
    assert!(
        refused.reasons[0]
            .starts_with("the change would leave 1 of 3 voters healthy without n2; 2 are required")
    );
    assert_eq!(refused.reasons[1], "n3 does not answer");
    assert!(refused.hints[0].ends_with("escli start 3"), "{:?}", refused.hints);
    let allowed = RollOptions { allow_downtime: true, ..options(&[2]) };
    let world = world(3, &[1, 2], Some(1));
    let plan = restart(&world.spec, &world.facts, &allowed).unwrap();
    assert_eq!(shape(&plan)[0], "n2.stop", "a gate that cannot hold is not in the plan");
    let mut lagging = super::world(3, &[1, 2, 3], Some(1));
    lagging.says(1).commit_index = 500;
    (lagging.says(1).applied_index, lagging.says(2).applied_index) = (500, 500);
    let refused = lagging.restart(&[2]).unwrap_err();
    assert!(refused.reasons[0].contains("1 of 3 voters healthy"), "n3 lags: {:?}", refused.reasons);
    assert_eq!(deeds(&lagging.restart(&[3]).unwrap()), ["n3.stop", "n3.start"], "what lags costs nothing");
}

#[test]
fn two_voters_or_one_cost_downtime_which_is_asked_about() {
    for count in 1..=2 {
        let all: Vec<NodeId> = (1..=u64::from(count)).collect();
        let mut world = world(count, &all, Some(1));
        let plan = world.restart(&[]).unwrap();
        assert!(matches!(plan.question, Some(Question::Downtime { .. })), "{count}");
        let allowed = RollOptions { allow_downtime: true, ..options(&[]) };
        assert_eq!(restart(&world.spec, &world.facts, &allowed).unwrap().question, None, "{count}");
        // Killed between stop and start: without a majority, and gone on with all the same.
        world = super::world(count, &all[1..], None);
        assert!(world.restart(&[]).is_err(), "{count}: the majority is lost");
        let resumed = restart(&world.spec, &world.facts, &allowed).unwrap();
        assert_eq!(shape(&resumed)[0], "n1.start", "{count}");
    }
}

#[test]
fn a_disputed_cluster_is_not_restarted() {
    let mut world = world(3, &[1, 2, 3], Some(1));
    world.says(1).pending_change = true;
    assert!(world.restart(&[2]).unwrap_err().reasons[0].contains("membership change"));
    world.says(1).pending_change = false;
    (world.says(3).state, world.says(3).term) = (Some(RaftRole::Leader), 2);
    assert!(world.restart(&[2]).unwrap_err().reasons[0].contains("says it leads"));
    let lost = super::world(3, &[2], None).restart(&[]).unwrap_err();
    assert!(lost.hints.iter().any(|hint| hint.ends_with("escli start")), "{:?}", lost.hints);
}

#[test]
fn a_resumed_restart_leaves_alone_what_it_has_restarted_and_starts_what_it_has_stopped() {
    let mut world = world(3, &[1, 2, 3], Some(1));
    let mut options = options(&[]);
    options.record_baseline(&world.facts);
    world.says(2).started_at = "2026-01-01T00:09:00Z".to_owned();
    let node = world.facts.nodes.get_mut(&3).unwrap();
    node.api = ApiAnswer::silent("connection refused");
    world.host(3).process = Process::Stopped;
    options.record_baseline(&world.facts);
    let plan = restart(&world.spec, &world.facts, &options).unwrap();
    assert_eq!(deeds(&plan), ["n3.start", "n2.transfer-leader", "n1.stop", "n1.start"]);
    assert!(shape(&plan).contains(&"n2.caught-up".to_owned()), "it is still waited for");
}

#[test]
fn a_reload_restarts_only_what_runs_with_something_else() {
    let mut world = world(3, &[1, 2, 3], Some(1));
    assert!(shape(&world.reload(&options(&[])).unwrap()).is_empty(), "nothing has changed");
    world.edit();
    world.took(2, "2026-01-01T00:00:00Z");
    let plan = world.reload(&options(&[])).unwrap();
    let expected =
        ["n3.config", "n3.stop", "n3.start", "n1.config", "n3.transfer-leader", "n1.stop", "n1.start"];
    assert_eq!(deeds(&plan), expected);
    let proof = plan.steps().find(|step| step.id == "n3.caught-up").unwrap();
    assert!(
        matches!(&proof.action, Action::AwaitCaughtUp { config, .. } if config.as_deref() == world.wanted.hash(3))
    );
    let mut written = super::world(3, &[1, 2, 3], Some(1));
    written.edit();
    for id in 1..=3 {
        written.took(id, "2026-01-01T00:00:00Z");
    }
    written.host(2).config_hash = None;
    assert_eq!(shape(&written.reload(&options(&[])).unwrap()), ["n2.config"], "a lost file is only written");
}

#[test]
fn a_reload_leaves_down_what_was_down_and_starts_what_it_has_stopped_itself() {
    let mut world = world(3, &[1, 2], Some(1));
    world.edit();
    for id in 1..=2 {
        world.took(id, "2026-01-01T00:00:00Z");
    }
    let plan = world.reload(&options(&[])).unwrap();
    assert_eq!(shape(&plan), ["n3.config"]);
    assert!(plan.notes[0].ends_with("escli start 3"), "{:?}", plan.notes);
    let mut options = options(&[]);
    options.before = [(3, Some("2025-12-31T00:00:00Z".to_owned()))].into();
    assert_eq!(deeds(&world.reload(&options).unwrap()), ["n3.config", "n3.start"]);
}

#[test]
fn members_that_moved_are_told_and_those_nobody_knew_are_not() {
    let members =
        |list: &[(NodeId, Membership)]| MemberSet { cluster: None, members: list.iter().copied().collect() };
    let before = members(&[(1, Membership::Voter), (2, Membership::Voter)]);
    assert_eq!(before.drift(&before), Vec::<String>::new());
    let learner = members(&[(1, Membership::Learner), (2, Membership::Voter)]);
    assert_eq!(before.drift(&learner), ["n1 was a voter, and is now a learner"]);
    let other = members(&[(2, Membership::Voter), (3, Membership::Voter)]);
    assert_eq!(before.drift(&other), ["n1 was a member and no longer is", "n3 has become a member"]);
    assert_eq!(members(&[]).drift(&before), Vec::<String>::new());
    assert_eq!(before.drift(&members(&[])), Vec::<String>::new());
    let world = world(3, &[1, 2, 3], Some(1));
    assert_eq!(MemberSet::seen(&world.facts).members.len(), 3, "the leader, and whom it names");
}
