//! A snapshot as it lies on a simulated disk, encoded as a node encodes it.

use std::rc::Rc;

use esnode::consensus::ConfState;
use esnode::replica::Snapshot;
use serde_json::Value;

use super::bugs::Bug;

/// The state after an entry. It is written beside the log and takes the old one's place at once, so a crash finds
/// the one or the other.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// The last entry in it.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    payload: Rc<[u8]>,
}

impl SnapshotFile {
    /// Encodes a snapshot whose last entry has this term; `initial` are the members that a node without one starts with.
    pub fn encode(mut snapshot: Snapshot, term: u64, initial: &ConfState, bug: Option<Bug>) -> Self {
        let index = snapshot.state.applied_index() - u64::from(bug == Some(Bug::SnapshotAhead));
        if bug == Some(Bug::StaleMembers) {
            snapshot.conf_state = initial.clone();
        }
        let mut payload = snapshot.encode().expect("the state has a serialised form");
        if bug == Some(Bug::LostProducers) {
            let mut content = serde_json::from_slice(&payload).expect("what was written can be read");
            forget(&mut content, "producers");
            payload = content.to_string().into_bytes();
        }
        Self { index, term, payload: payload.into() }
    }

    /// What is in it.
    pub fn decode(&self) -> Snapshot {
        Snapshot::decode(&self.payload).expect("what was written can be read")
    }
}

/// Puts what an empty one has in place of every field of this name.
fn forget(content: &mut Value, name: &str) {
    match content {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == name {
                    *value = serde_json::json!({ "known": {}, "forgetful": true });
                } else {
                    forget(value, name);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| forget(item, name)),
        _ => {}
    }
}
