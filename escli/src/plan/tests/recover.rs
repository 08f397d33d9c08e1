//! `recover`: refused as long as there is any other way, and loud where there is none.

use shared::ids::ClusterId;
use uuid::Uuid;

use super::*;
use crate::plan::Refusal;
use crate::plan::facts::{Log, LogEnd};
use crate::plan::recover::{RecoverOptions, recover};

/// From a cluster of `count` nodes.
fn options(world: &World, survivor: NodeId, lost: &[NodeId]) -> RecoverOptions {
    let others = world.spec.cluster.nodes.iter().filter(|node| node.id != survivor).cloned();
    RecoverOptions {
        survivor,
        others: others.collect(),
        lost: lost.to_vec(),
        cluster: ClusterId(Uuid::from_u128(7)),
        binary: Some("/bin/esnode".into()),
        service: None,
        file: Some("/d/cluster.yaml".into()),
        agreed: false,
    }
}

fn planned(world: &World, options: &RecoverOptions) -> Result<Plan, Refusal> {
    recover(&world.spec, &world.wanted, &world.facts, options)
}

fn refused(world: &World, survivor: NodeId, lost: &[NodeId]) -> String {
    let refusal = planned(world, &options(world, survivor, lost)).unwrap_err();
    assert!(refusal.message.contains("no changes were made") && !refusal.hints.is_empty(), "{refusal:?}");
    refusal.reasons.join("; ")
}

#[test]
fn it_is_refused_while_there_is_another_way() {
    assert!(refused(&world(3, &[1, 2], Some(1)), 1, &[3]).contains("the cluster has a majority"));
    let world = world(5, &[1], None);
    assert!(
        refused(&world, 1, &[4, 5]).contains("2 of 5 nodes are said to be lost: the other 3 are a majority")
    );
    assert!(planned(&world, &options(&world, 1, &[3, 4, 5])).is_ok());
}

#[test]
fn what_runs_is_not_lost_and_what_cannot_be_seen_must_be_named() {
    let mut world = world(5, &[1, 3], None);
    assert!(refused(&world, 1, &[3, 4, 5]).contains("node 3 is running, so it is not lost"));
    world.facts.nodes.get_mut(&2).unwrap().host =
        HostInspection::Unreachable { reason: "no route".to_owned(), details: Vec::new(), hints: Vec::new() };
    assert!(refused(&world, 1, &[4, 5]).contains("node 2's host (127.0.0.1) cannot be inspected"));
    let plan = planned(&world, &options(&world, 1, &[2, 4, 5])).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("n2 cannot be reached")), "{:?}", plan.notes);
}

#[test]
fn the_node_that_holds_most_carries_on() {
    let mut world = world(5, &[1, 2], None);
    let mut end = |id, term, index| {
        let status = world.says(id);
        (status.last_term, status.last_index) = (Some(term), index);
    };
    // A longer log of an older term is what a leader had that was cut off.
    end(1, 3, 900);
    end(2, 4, 800);
    let why = "node 2 has a longer log: it ends at entry 800 of term 4, that of node 1 at 900 of 3";
    assert!(refused(&world, 1, &[3, 4, 5]).contains(why));
    assert!(planned(&world, &options(&world, 2, &[3, 4, 5])).is_ok());
}

/// A node that does not run, whose log ends there.
fn at_rest(world: &mut World, id: NodeId, term: u64, index: u64) {
    world.facts.logs.insert(id, Log::Whole(LogEnd { term, index }));
}

#[test]
fn the_longest_log_carries_on_though_its_node_does_not_run() {
    let mut world = world(5, &[1], None);
    (world.says(1).last_term, world.says(1).last_index) = (Some(4), 800);
    at_rest(&mut world, 2, 4, 807);
    at_rest(&mut world, 3, 3, 5000);
    let refusal = planned(&world, &options(&world, 1, &[2, 3, 4])).unwrap_err();
    let why =
        "node 2 has a longer log: it ends at entry 807 of term 4, that of node 1 at 800 of 4; 7 more entries";
    assert_eq!(refusal.reasons, [why]);
    assert!(refusal.hints[0].ends_with("escli recover --survivor 2 --lost 3,4,1"), "{:?}", refusal.hints);
    // A later term counts for more than any number of entries.
    at_rest(&mut world, 2, 5, 12);
    assert!(
        refused(&world, 1, &[2, 3, 4]).contains("node 2 has a longer log: it ends at entry 12 of term 5")
    );
    // Whoever is named may be at rest, too.
    let plan = planned(&world, &options(&world, 2, &[3, 4, 5])).unwrap();
    let Some(Question::TypeName { text, .. }) = &plan.question else { panic!("it asks for nothing") };
    let ends = [
        "n2's log ends at entry 12 of term 5",
        "n1's log ends at entry 800 of term 4",
        "n3's log ends at entry 5000",
    ];
    assert!(ends.iter().all(|end| text.contains(end)), "{text}");
    assert!(refused(&world, 3, &[2, 4, 5]).contains("node 2 has a longer log"));
    // As much is enough.
    at_rest(&mut world, 2, 4, 800);
    assert!(planned(&world, &options(&world, 1, &[2, 3, 4])).is_ok());
}

#[test]
fn what_cannot_be_read_is_said_and_what_is_damaged_does_not_carry_on() {
    let mut world = world(3, &[], None);
    at_rest(&mut world, 1, 4, 800);
    world.facts.logs.insert(2, Log::Damaged { reason: "log/1: bad checksum".to_owned() });
    world.facts.logs.insert(3, Log::Unread { reason: "no esnode there".to_owned() });
    let plan = planned(&world, &options(&world, 1, &[2, 3])).unwrap();
    let Some(Question::TypeName { text, .. }) = &plan.question else { panic!("it asks for nothing") };
    assert!(text.contains("n2's log is damaged (log/1: bad checksum)"), "{text}");
    assert!(text.contains("n3's log could not be read (no esnode there)"), "{text}");
    assert!(refused(&world, 2, &[1, 3]).contains("node 2's log is damaged"));
    let plan = planned(&world, &options(&world, 3, &[1, 2])).unwrap();
    let Some(Question::TypeName { text, .. }) = &plan.question else { panic!("it asks for nothing") };
    assert!(text.contains("where n3's log ends is not known (no esnode there)"), "{text}");
}

#[test]
fn everybody_else_is_stopped_before_the_log_becomes_another_ones() {
    let mut world = world(5, &[1, 2], None);
    let options = options(&world, 1, &[3, 4, 5]);
    let plan = planned(&world, &options).unwrap();
    let ids: Vec<_> = plan.steps().map(|step| step.id.as_str()).collect();
    let all = [
        "n2.stop",
        "n1.stop",
        "n1.recover",
        "n1.config",
        "n1.start",
        "n1.live",
        "cluster.leader",
        "cluster.file",
        "cluster.verify",
    ];
    assert_eq!(ids, all);
    let Some(Question::TypeName { text, word }) = &plan.question else { panic!("it asks for nothing") };
    assert!(
        text.contains("LOST") && text.contains("n5 (127.0.0.1)") && word == "recover-local-from-1",
        "{text}"
    );

    // Begun and agreed to, it is not asked again; once the survivor is the new cluster, only the rest is left.
    let agreed = RecoverOptions { agreed: true, ..options };
    assert_eq!(planned(&world, &agreed).unwrap().question, None);
    world.says(1).cluster_id = Some(agreed.cluster);
    let ids: Vec<_> = planned(&world, &agreed).unwrap().steps().map(|step| step.id.clone()).collect();
    assert_eq!(ids, ["cluster.file", "cluster.verify"]);
    let done = RecoverOptions { file: None, ..agreed };
    assert!(planned(&world, &done).unwrap().stages.is_empty());
}

#[test]
fn a_node_without_data_is_no_survivor() {
    let mut world = world(3, &[1], None);
    world.host(1).data_empty = true;
    assert!(refused(&world, 1, &[2, 3]).contains("node 1 has no data"));
}

#[test]
fn one_that_is_given_up_and_ends_and_is_started_again_does_not_come_back() {
    let mut world = world(5, &[1, 2], None);
    world.host(3).process = Process::Restarting;
    let plan = planned(&world, &options(&world, 1, &[3, 4, 5])).unwrap();
    let stops: Vec<_> = plan.stages[0].steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(stops, ["n2.stop", "n3.stop"]);
    world.host(1).process = Process::Restarting;
    let plan = planned(&world, &options(&world, 1, &[3, 4, 5])).unwrap();
    assert!(plan.steps().any(|step| step.id == "n1.stop"), "nothing works on a log that a node may open");
}
