//! What the admin API's messages look like on the wire.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::example::{groups, status};
use super::*;

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    let text = serde_json::to_string(message).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), message, "{text}");
}

#[test]
fn the_status_has_the_promised_fields_under_the_promised_names() {
    let said = serde_json::to_value(status()).unwrap();
    let promised = json!({"node_id": 1, "state": "leader", "term": 1, "commit_index": 42});
    for (name, value) in promised.as_object().unwrap() {
        assert_eq!(said.get(name), Some(value), "{name}");
    }
    let peer = said["peers"][0].as_object().unwrap();
    let promised = json!({"id": 2, "state": "follower", "match_index": 42});
    for (name, value) in promised.as_object().unwrap() {
        assert_eq!(peer.get(name), Some(value), "peers[].{name}");
    }
}

#[test]
fn states_and_roles_are_words_in_lower_case() {
    let states =
        [(RaftRole::Follower, "follower"), (RaftRole::Candidate, "candidate"), (RaftRole::Leader, "leader")];
    for (state, word) in states {
        assert_eq!(serde_json::to_value(state).unwrap(), word);
    }
    for (part, word) in
        [(Membership::Voter, "voter"), (Membership::Learner, "learner"), (Membership::None, "none")]
    {
        assert_eq!(serde_json::to_value(part).unwrap(), word);
    }
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let mut bare = status();
    (bare.leader, bare.cluster_id) = (None, None);
    let peer = &mut bare.peers[0];
    (peer.match_index, peer.last_contact_ms, peer.lag) = (None, None, None);
    bare.state = None;
    let problems = [DiskProblem::Full, DiskProblem::AlmostFull, DiskProblem::Stalled { seconds: 3 }];
    for disk in problems {
        comes_back(&ClusterStatus { disk: Some(disk), ..status() });
    }
    comes_back(&status());
    comes_back(&bare);
    comes_back(&groups());
    comes_back(&ConsumerGroups::default());
    comes_back(&TransferRequest { to: Some(3) });
    comes_back(&TransferRequest::default());
    comes_back(&TransferResponse { leader: 3, term: 9 });
    comes_back(&Health { ok: false, reasons: vec!["no leader".to_owned()] });
    let (code, message, hint) = ("not_leader".to_owned(), "node 2 leads".to_owned(), "ask node 2".to_owned());
    comes_back(&ErrorBody { code, message, hint });
}

#[test]
fn a_newer_nodes_fields_are_passed_over_and_a_mistyped_order_is_not() {
    let mut newer = serde_json::to_value(status()).unwrap();
    newer["not_yet_known"] = Value::Bool(true);
    assert_eq!(serde_json::from_value::<ClusterStatus>(newer).unwrap(), status());
    assert_eq!(serde_json::from_str::<TransferRequest>("{}").unwrap(), TransferRequest::default());
    assert!(serde_json::from_str::<TransferRequest>(r#"{"too": 3}"#).is_err());
}

#[test]
fn an_error_is_not_taken_for_groups() {
    let refusal =
        r#"{"code": "not_found", "message": "there is nothing at /cluster/groups", "hint": "none"}"#;
    assert!(serde_json::from_str::<ConsumerGroups>(refusal).is_err(), "the previous version answers so");
}
