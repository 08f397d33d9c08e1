//! A node's checkpoint: its applied state as the real one keeps it, so that a start replays only what came after.

use std::rc::Rc;

use esnode::consensus::ConfState;
use esnode::state_machine::StateMachine;
use serde_json::Value;

use super::bugs::Bug;

/// The state after an entry. It is written beside the log and takes the old one's place at once, so a crash finds
/// the one or the other.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The last entry in it.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The members as of it.
    pub members: ConfState,
    state: Rc<str>,
}

impl Checkpoint {
    /// Of a node's state; `founders` is what a node without a checkpoint starts with.
    pub fn take(
        stream: &StateMachine,
        term: u64,
        members: ConfState,
        founders: &ConfState,
        bug: Option<Bug>,
    ) -> Self {
        let mut state = serde_json::to_value(stream).expect("the state has a serialised form");
        if bug == Some(Bug::LostProducers) {
            forget(&mut state, "producers");
        }
        let index = stream.applied_index();
        let members = if bug == Some(Bug::StaleMembers) { founders.clone() } else { members };
        Self {
            index: index - u64::from(bug == Some(Bug::CheckpointAhead)),
            term,
            members,
            state: state.to_string().into(),
        }
    }

    /// The state in it.
    pub fn state(&self) -> StateMachine {
        serde_json::from_str(&self.state).expect("what was written can be read")
    }
}

/// Puts what an empty one has in place of every field of this name.
fn forget(state: &mut Value, name: &str) {
    match state {
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
