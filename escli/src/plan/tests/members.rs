//! `add-node`, `remove-node`, `replace-node`: in which order, what is taken back, and what is refused.

use super::*;
use crate::plan::members::{AddOptions, RemoveOptions, ReplaceOptions, add, remove, replace};

/// A cluster of `count` nodes in cluster.yaml, of which the first `members` are members and run, led by n1.
fn members(count: u8, members: u64) -> World {
    let all: Vec<NodeId> = (1..=members).collect();
    let mut world = world(count, &all, Some(1));
    for id in &all {
        let others = world.spec.cluster.nodes.iter().filter(|node| node.id != *id && all.contains(&node.id));
        let peers: Vec<_> = others.map(voter).collect();
        if let ApiAnswer::Status(status) = &mut world.facts.nodes.get_mut(id).unwrap().api {
            status.peers = peers;
        }
    }
    for id in members + 1..=u64::from(count) {
        let host = world.host(id);
        (host.dirs, host.data_empty, host.config_hash) = (false, true, None);
    }
    world
}

fn adds(world: &World, id: NodeId) -> AddOptions {
    AddOptions {
        member: world.spec.node(id).unwrap().clone(),
        stays_learner: false,
        binary: Some("/bin/esnode".into()),
        remote: None,
        file: Some("/d/cluster.yaml".into()),
        was_empty: Some(true),
    }
}

fn removes(world: &World, id: NodeId) -> RemoveOptions {
    RemoveOptions {
        member: world.spec.node(id).unwrap().clone(),
        purge: false,
        force: false,
        allow_downtime: false,
        agreed: false,
        service: None,
        file: Some("/d/cluster.yaml".into()),
    }
}

#[test]
fn a_node_is_a_learner_before_it_votes_and_what_fails_is_taken_back() {
    let world = members(4, 3);
    let plan = add(&world.spec, &world.wanted, &world.facts, &adds(&world, 4)).unwrap();
    let expected = [
        "n4.dirs",
        "n4.config",
        "n4.start",
        "n4.live",
        "n4.reach",
        "n4.join",
        "n4.caught-up",
        "n4.voter",
        "cluster.file",
        "cluster.verify",
    ];
    assert_eq!(shape(&plan), expected);
    assert!(
        plan.notes[0].starts_with("4 voters tolerate 1 failed, as many as 3 voters do"),
        "{:?}",
        plan.notes
    );
    let rescue = |step: &str| -> Vec<&str> {
        let stage = plan.stages.iter().find(|stage| stage.steps[0].id == step).unwrap();
        stage.rescue.iter().map(|step| step.id.as_str()).collect()
    };
    assert_eq!(rescue("n4.live"), ["n4.undo-stop", "n4.undo-wipe"]);
    assert_eq!(rescue("n4.caught-up"), ["n4.undo-drain", "n4.undo-stop", "n4.undo-wipe"]);
    assert!(rescue("cluster.file").is_empty(), "a voter is not taken out again");
}

#[test]
fn data_that_is_nobodys_and_an_address_elsewhere_are_refused() {
    let mut world = members(4, 3);
    world.host(4).data_empty = false;
    let options = AddOptions { was_empty: Some(false), ..adds(&world, 4) };
    let refused = add(&world.spec, &world.wanted, &world.facts, &options).unwrap_err();
    assert!(refused.message.contains("is not empty"), "{refused:?}");
    assert!(add(&world.spec, &world.wanted, &world.facts, &adds(&world, 4)).is_ok(), "it is our own");
    let mut moved = adds(&world, 3);
    moved.member.cluster_port += 1;
    let refused = add(&world.spec, &world.wanted, &world.facts, &moved).unwrap_err();
    assert!(refused.message.contains("is already a member, at 127.0.0.1:"), "{refused:?}");
}

#[test]
fn a_leader_hands_over_before_it_leaves_and_is_stopped_after() {
    let world = members(4, 4);
    let plan = remove(&world.spec, &world.wanted, &world.facts, &removes(&world, 1)).unwrap();
    assert_eq!(shape(&plan), ["n2.transfer-leader", "n1.drain", "n1.stop", "cluster.file", "cluster.verify"]);
    assert!(matches!(plan.question, Some(Question::Confirm { .. })), "{:?}", plan.question);
    let purge = RemoveOptions { purge: true, ..removes(&world, 1) };
    let plan = remove(&world.spec, &world.wanted, &world.facts, &purge).unwrap();
    assert!(shape(&plan).contains(&"n1.wipe".to_owned()));
    assert!(matches!(plan.question, Some(Question::TypeName { .. })), "{:?}", plan.question);
    let agreed = RemoveOptions { agreed: true, ..purge };
    let plan = remove(&world.spec, &world.wanted, &world.facts, &agreed).unwrap();
    assert_eq!(plan.question, None, "it was asked before it was interrupted");
}

#[test]
fn nobody_goes_whom_the_majority_needs() {
    let mut world = members(3, 3);
    world.facts.nodes.get_mut(&3).unwrap().api = ApiAnswer::silent("gone");
    let refused = remove(&world.spec, &world.wanted, &world.facts, &removes(&world, 2)).unwrap_err();
    assert!(
        refused.reasons[0].contains("the change would leave 1 of 2 voters healthy; 2 are required"),
        "{refused:?}"
    );
    // The dead one may go; it costs the spare.
    let plan = remove(&world.spec, &world.wanted, &world.facts, &removes(&world, 3)).unwrap();
    assert!(matches!(plan.question, Some(Question::Downtime { .. })), "{:?}", plan.question);
    let world = members(1, 1);
    let refused = remove(&world.spec, &world.wanted, &world.facts, &removes(&world, 1)).unwrap_err();
    assert!(refused.message.contains("is the only voter"), "{refused:?}");
}

#[test]
fn the_new_one_votes_before_the_old_one_goes() {
    let world = members(4, 3);
    let options = ReplaceOptions { add: adds(&world, 4), remove: removes(&world, 1) };
    let plan = replace(&world.spec, &world.wanted, &world.facts, &options).unwrap();
    let steps = shape(&plan);
    let at =
        |id: &str| steps.iter().position(|step| step == id).unwrap_or_else(|| panic!("{id} in {steps:?}"));
    assert!(
        at("n4.voter") < at("n2.transfer-leader")
            && at("n2.transfer-leader") < at("n1.drain")
            && at("n1.drain") < at("n1.stop")
    );
    assert_eq!(steps.iter().filter(|step| *step == "cluster.file").count(), 1);
}

#[test]
fn one_that_leaves_and_ends_and_is_started_again_is_stopped_for_good() {
    let mut world = members(4, 4);
    world.host(4).process = Process::Restarting;
    let plan = remove(&world.spec, &world.wanted, &world.facts, &removes(&world, 4)).unwrap();
    assert!(shape(&plan).contains(&"n4.stop".to_owned()), "{:?}", shape(&plan));
}
