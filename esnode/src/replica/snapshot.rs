//! What a snapshot holds, and how it is encoded.

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;

use super::formats::{UnreadableFormat, readable};
use crate::consensus::ConfState;
use crate::process::version::FORMAT as FORMATS;
use crate::state_machine::StateMachine;

/// The newest content of snapshots that this program knows.
const CONTENT_VERSION: u32 = 1;

/// The state after an entry of the log.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The members.
    pub conf_state: ConfState,
    /// The state machine, which knows the entry's index.
    pub state: StateMachine,
}

/// A snapshot is whole, but its content is not understood.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A later version of this program wrote it.
    #[error(
        "the newest snapshot has content of version {0}; this program knows versions up to {CONTENT_VERSION}. Start the \
         version of esnode that wrote it, or a later one"
    )]
    Version(u32),
    /// It is of a cluster whose data this program cannot read.
    #[error(transparent)]
    UnreadableFormat(#[from] UnreadableFormat),
    /// It is not what this program writes.
    #[error("the content of the newest snapshot is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A snapshot as it is stored, in JSON: fields may be added without a new format.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    members: StoredMembers,
    #[serde(rename = "stream")]
    state: StateMachine,
}

#[derive(Serialize, Deserialize)]
struct StoredMembers {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
    voters_outgoing: Vec<NodeId>,
    learners_next: Vec<NodeId>,
    auto_leave: bool,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Snapshot {
    /// Reads the payload of a stored snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn decode(payload: &[u8]) -> Result<Self, SnapshotError> {
        let Format { format } = serde_json::from_slice(payload)?;
        if format > CONTENT_VERSION {
            return Err(SnapshotError::Version(format));
        }
        let Stored { members, state, .. } = serde_json::from_slice(payload)?;
        readable(state.format(), FORMATS)?;
        let conf_state = ConfState {
            voters: members.voters,
            learners: members.learners,
            voters_outgoing: members.voters_outgoing,
            learners_next: members.learners_next,
            auto_leave: members.auto_leave,
        };
        Ok(Self { conf_state, state })
    }

    /// The payload of a stored snapshot.
    ///
    /// # Errors
    /// None in practice: the state has a serialised form.
    pub fn encode(self) -> serde_json::Result<Vec<u8>> {
        let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = self.conf_state;
        let members = StoredMembers { voters, learners, voters_outgoing, learners_next, auto_leave };
        serde_json::to_vec(&Stored { format: CONTENT_VERSION, members, state: self.state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let conf_state = ConfState {
            voters: vec![1, 2],
            learners: vec![4],
            voters_outgoing: vec![1, 2, 3],
            learners_next: vec![3],
            auto_leave: true,
        };
        Snapshot { conf_state, state: StateMachine::default() }
    }

    #[test]
    fn a_snapshot_reads_back() {
        let payload = snapshot().encode().unwrap();
        let back = Snapshot::decode(&payload).unwrap();
        assert_eq!(back.conf_state, snapshot().conf_state);
        assert_eq!(back.encode().unwrap(), payload);
    }

    #[test]
    fn later_content_is_told_from_nonsense() {
        let later = Snapshot::decode(br#"{"format":2,"members":"other"}"#).unwrap_err();
        assert!(matches!(later, SnapshotError::Version(2)));
        assert!(matches!(Snapshot::decode(b"{}").unwrap_err(), SnapshotError::Malformed(_)));
    }
}
