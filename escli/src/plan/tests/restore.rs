//! `restore`: only where nothing is, the log before any start, and from where it stopped.

use shared::ids::ClusterId;
use uuid::Uuid;

use super::*;
use crate::plan::restore::{RestoreOptions, restore};

fn options() -> RestoreOptions {
    let up = UpOptions {
        operation: "restore".to_owned(),
        binary: Some("/bin/esnode".into()),
        ..UpOptions::default()
    };
    RestoreOptions {
        up,
        source: "/b.tar".into(),
        sum: "ab".repeat(32),
        bytes: 3 << 20,
        cluster: ClusterId(Uuid::from_u128(7)),
        were_empty: false,
    }
}

/// Nodes of which these have no data.
fn empty(running: &[NodeId], ids: &[NodeId]) -> World {
    let mut world = world(3, running, None);
    ids.iter().for_each(|id| world.host(*id).data_empty = true);
    world
}

fn ids(world: &World, options: &RestoreOptions) -> Vec<String> {
    let plan = restore(&world.spec, &world.wanted, &world.facts, options).unwrap();
    plan.steps().map(|step| step.id.clone()).collect()
}

#[test]
fn every_log_is_there_before_any_node_starts() {
    let all = [
        "n1.copy",
        "n2.copy",
        "n3.copy",
        "n1.recover",
        "n2.recover",
        "n3.recover",
        "n1.start",
        "n1.live",
        "n2.start",
        "n2.live",
        "n3.start",
        "n3.live",
        "cluster.leader",
        "cluster.verify",
    ];
    assert_eq!(ids(&empty(&[], &[1, 2, 3]), &options()), all);
}

#[test]
fn data_that_is_there_is_nobodys_to_replace() {
    let world = empty(&[], &[1, 3]);
    let refusal = restore(&world.spec, &world.wanted, &world.facts, &options()).unwrap_err();
    assert_eq!(refusal.reasons, ["node 2 has data"]);
    assert!(refusal.hints.iter().any(|hint| hint.contains("escli down --purge-data")));
}

#[test]
fn what_the_operation_itself_has_put_there_does_not_stop_it() {
    let mut options = options();
    options.record_baseline(&empty(&[], &[1, 2]).facts);
    assert!(!options.were_empty);
    options.record_baseline(&empty(&[], &[1, 2, 3]).facts);
    assert!(options.were_empty);
    let left = ids(&empty(&[1], &[3]), &options);
    assert_eq!(left[..4], ["n2.copy", "n3.copy", "n2.recover", "n3.recover"], "n1 runs already");
}
