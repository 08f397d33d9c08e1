//! Whose node is it: every way in which a place can be somebody else's, and every way in which it only looks so.

use shared::ids::ClusterId;
use uuid::Uuid;

use super::*;
use crate::plan::claims::{Claims, Deployed, Store, Stranger};
use crate::plan::identity::{Intent, mismatches, named, refuse};

const OURS: ClusterId = ClusterId(Uuid::from_u128(7));
const THEIRS: ClusterId = ClusterId(Uuid::from_u128(8));

/// Three hosts, on which the cluster `prod` was deployed and is stopped.
fn settled() -> (ClusterFile, Facts) {
    let spec = remote_spec(3);
    let mut facts = remote_facts(&spec);
    for id in 1..=3 {
        let host = host_of(&mut facts, id);
        host.data_empty = false;
        host.claims = Claims {
            place: None,
            data: "/var/lib/eventstream/raft".to_owned(),
            file: Some(Deployed {
                path: "/opt/eventstream/config/cluster.yaml".to_owned(),
                cluster: Some("prod".to_owned()),
                node: Some(id),
                elsewhere: None,
            }),
            store: Some(Store { node: id, cluster: Some(OURS) }),
        };
    }
    (spec, facts)
}

fn claims(facts: &mut Facts, id: NodeId) -> &mut Claims {
    &mut host_of(facts, id).claims
}

fn deployed(facts: &mut Facts, id: NodeId) -> &mut Deployed {
    claims(facts, id).file.as_mut().unwrap()
}

/// What is found once something was changed; every mismatch says what to do.
fn found(change: impl Fn(&mut ClusterFile, &mut Facts)) -> Vec<String> {
    let (mut spec, mut facts) = settled();
    change(&mut spec, &mut facts);
    let found = mismatches(&spec, &facts, &Intent::default());
    assert!(found.iter().all(|mismatch| !mismatch.hints.is_empty()), "{found:?}");
    found.into_iter().map(|mismatch| mismatch.text).collect()
}

#[test]
fn what_is_as_it_says_is_let_through() {
    assert_eq!(found(|_, _| ()), [""; 0]);
    // Bare hosts say nothing, hosts that cannot be asked neither, nor does a file of a time without names.
    assert_eq!(found(|spec, facts| *facts = remote_facts(spec)), [""; 0]);
    let gone =
        || HostInspection::Unreachable { reason: "no route".to_owned(), details: vec![], hints: vec![] };
    assert_eq!(found(|_, facts| facts.nodes.get_mut(&2).unwrap().host = gone()), [""; 0]);
    assert_eq!(
        found(|_, facts| (deployed(facts, 2).cluster, deployed(facts, 2).node) = (None, None)),
        [""; 0]
    );
    // A node that has not taken part in anything yet, and one that was wiped.
    assert_eq!(found(|_, facts| claims(facts, 2).store.as_mut().unwrap().cluster = None), [""; 0]);
    assert_eq!(found(|_, facts| *claims(facts, 2) = Claims::default()), [""; 0]);
    assert_eq!(found(|_, facts| facts.remembered = vec![OURS]), [""; 0]);
}

#[test]
fn hosts_of_another_cluster_are_told_by_their_own_file() {
    let all = found(|spec, _| spec.cluster.name = "staging".to_owned());
    assert_eq!(all.len(), 3);
    let path = "/opt/eventstream/config/cluster.yaml";
    assert_eq!(all[0], format!("10.0.0.1 is node 1 of prod, not of staging (by {path} there)"));
    let one = found(|_, facts| deployed(facts, 2).cluster = Some("orders".to_owned()));
    assert_eq!(one, [format!("10.0.0.2 is node 2 of orders, not of prod (by {path} there)")]);
    let nameless = found(|_, facts| {
        (deployed(facts, 2).cluster, deployed(facts, 2).node) = (Some("orders".to_owned()), None);
    });
    assert!(nameless[0].starts_with("10.0.0.2 is a node of orders, not of prod"), "{nameless:?}");
}

#[test]
fn ids_that_were_swapped_are_told_by_file_data_or_answer() {
    let swap = |spec: &mut ClusterFile| {
        (spec.cluster.nodes[0].id, spec.cluster.nodes[1].id) = (2, 1);
    };
    // The hosts stay where they were; what they are asked as is another node.
    let exchange = |facts: &mut Facts| {
        let (one, two) = (facts.nodes.remove(&1).unwrap(), facts.nodes.remove(&2).unwrap());
        facts.nodes.extend([(2, one), (1, two)]);
    };
    let all = found(|spec, facts| (swap(spec), exchange(facts)).0);
    assert_eq!(all.len(), 2);
    assert!(all[0].starts_with("10.0.0.1 is node 1 of prod, not node 2"), "{all:?}");
    let by_data = found(|spec, facts| {
        swap(spec);
        exchange(facts);
        (1..=2).for_each(|id| claims(facts, id).file = None);
    });
    assert_eq!(by_data[0], "/var/lib/eventstream/raft on 10.0.0.1 holds the data of node 1, not of node 2");
    let answers = |cluster: &str, node| ApiAnswer::Silent {
        reason: String::new(),
        stranger: Some(Stranger { cluster: cluster.to_owned(), node }),
    };
    let by_answer = found(|_, facts| facts.nodes.get_mut(&2).unwrap().api = answers("prod", 1));
    assert_eq!(by_answer, ["10.0.0.2:8080 answers as node 1 of prod, not as node 2"]);
    let other = found(|_, facts| facts.nodes.get_mut(&2).unwrap().api = answers("orders", 2));
    assert_eq!(other, ["10.0.0.2:8080 answers as node 2 of orders, not of prod"]);
}

#[test]
fn data_that_is_elsewhere_is_named_with_both_places() {
    let moved = found(|_, facts| {
        for id in 1..=3 {
            deployed(facts, id).elsewhere = Some("/old".to_owned());
            let claims = claims(facts, id);
            (claims.data, claims.store) = ("/new".to_owned(), None);
        }
    });
    assert_eq!(moved.len(), 3);
    assert!(moved[0].starts_with("10.0.0.1 has its data in /old, not in /new"), "{moved:?}");
    // Also where somebody has copied it: which of the two is right is not ours to say.
    assert_eq!(found(|_, facts| deployed(facts, 2).elsewhere = Some("/old".to_owned())).len(), 1);
}

#[test]
fn a_cluster_of_the_same_name_is_told_by_its_id() {
    let others = found(|_, facts| claims(facts, 3).store.as_mut().unwrap().cluster = Some(THEIRS));
    assert_eq!(
        others,
        [format!("10.0.0.3 belongs to cluster {THEIRS}; prod is {OURS}, as are the other nodes")]
    );
    let all = found(|_, facts| facts.remembered = vec![THEIRS]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].ends_with(&format!("prod is {THEIRS}, as it was brought up from here")), "{all:?}");
    let running = found(|_, facts| {
        let says = ClusterStatus { cluster_id: Some(THEIRS), ..status(2, None, "") };
        facts.nodes.get_mut(&2).unwrap().api = ApiAnswer::Status(Box::new(says));
    });
    let answers =
        format!("10.0.0.2:8080 answers for cluster {THEIRS}; prod is {OURS}, as are the other nodes");
    assert_eq!(running, [answers]);
}

#[test]
fn what_is_stopped_goes_by_its_host_whoever_has_its_ports() {
    let (spec, mut facts) = settled();
    let stranger = Some(Stranger { cluster: "orders".to_owned(), node: 1 });
    facts.nodes.get_mut(&1).unwrap().api = ApiAnswer::Silent { reason: String::new(), stranger };
    let says = ClusterStatus { cluster_id: Some(THEIRS), ..status(2, None, "") };
    facts.nodes.get_mut(&2).unwrap().api = ApiAnswer::Status(Box::new(says));
    assert_eq!(mismatches(&spec, &facts, &Intent::default()).len(), 2);
    let stops = Intent { by_hosts: true, ..Intent::default() };
    assert_eq!(refuse(&spec, &facts, &stops), Ok(()));
    deployed(&mut facts, 3).cluster = Some("orders".to_owned());
    assert!(refuse(&spec, &facts, &stops).is_err(), "a host is believed all the same");
}

#[test]
fn an_operation_that_begins_a_cluster_meets_its_own() {
    let (spec, mut facts) = settled();
    facts.remembered = vec![OURS];
    claims(&mut facts, 2).store.as_mut().unwrap().cluster = Some(THEIRS);
    assert!(refuse(&spec, &facts, &Intent::default()).is_err());
    // Interrupted after it was begun, it is no stranger either.
    facts.remembered = vec![OURS, THEIRS];
    assert_eq!(refuse(&spec, &facts, &Intent::default()), Ok(()));
    facts.remembered = vec![OURS];
    let new_cluster = Intent { new_cluster: Some(THEIRS), ..Intent::default() };
    assert_eq!(refuse(&spec, &facts, &new_cluster), Ok(()));
    facts.remembered = Vec::new();
    assert_eq!(refuse(&spec, &facts, &new_cluster), Ok(()));
}

#[test]
fn a_node_that_goes_may_leave_its_host_to_others() {
    let (spec, mut facts) = settled();
    deployed(&mut facts, 3).cluster = Some("orders".to_owned());
    let refusal = |leaving: &[NodeId]| {
        refuse(&spec, &facts, &Intent { leaving: leaving.to_vec(), ..Intent::default() }).unwrap_err()
    };
    let says =
        |refusal: &super::super::Refusal| refusal.hints.iter().any(|hint| hint.contains("if node 3 is gone"));
    assert!(says(&refusal(&[3])) && !says(&refusal(&[])) && !says(&refusal(&[2])));
}

#[test]
fn what_was_bootstrapped_once_is_not_bootstrapped_again_on_empty_disks() {
    let (spec, mut facts) = settled();
    let bootstraps = Intent { bootstraps: true, ..Intent::default() };
    for id in 1..=3 {
        host_of(&mut facts, id).data_empty = true;
        claims(&mut facts, id).store = None;
    }
    assert_eq!(refuse(&spec, &facts, &bootstraps), Ok(()), "nobody knows that there was anything");
    facts.remembered = vec![OURS];
    let refusal = refuse(&spec, &facts, &bootstraps).unwrap_err();
    assert_eq!(refusal.reasons.len(), 4, "{refusal:?}");
    assert!(refusal.reasons[0].contains(&OURS.to_string()), "{refusal:?}");
    assert_eq!(refuse(&spec, &facts, &Intent::default()), Ok(()), "what is down is taken down");
    host_of(&mut facts, 2).data_empty = false;
    assert_eq!(
        refuse(&spec, &facts, &bootstraps),
        Ok(()),
        "one disk that was lost is the cluster's to repair"
    );
}

#[test]
fn what_must_be_typed_is_what_the_hosts_say() {
    let (mut spec, mut facts) = settled();
    spec.cluster.name = "staging".to_owned();
    assert_eq!(named(&spec, &facts), "prod");
    let purge = DownOptions { purge: true, ..DownOptions::default() };
    host_of(&mut facts, 1).dirs = true;
    let plan = down(&spec, &facts, &purge).unwrap();
    assert!(matches!(plan.question, Some(Question::TypeName { word, .. }) if word == "prod"));
    (1..=3).for_each(|id| claims(&mut facts, id).file = None);
    assert_eq!(named(&spec, &facts), OURS.to_string(), "data whose name nobody knows");
    assert_eq!(named(&spec, &remote_facts(&spec)), "staging");
}
