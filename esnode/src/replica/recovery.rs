//! Recovery from a permanent loss of quorum: the entries that let a new cluster go on with an old one's log.
//!
//! Nothing that is in the log changes, and nothing is taken from it: what stands there without having been committed may
//! have been acknowledged by a node that is gone. Behind it come an entry that begins the new cluster and one for every
//! member that differs, as if a leader had proposed them and a majority had them. No leader can have: that this is so is
//! the operator's decision, and only `esnode recover` carries it out.

use bytes::BytesMut;
use shared::ids::{ClusterId, NodeId};

use super::Snapshot;
use super::conf_change::{change_of, to_raft};
use crate::consensus::{ConfChangeType, ConfState, change};
use crate::entry::{Entry, EntryKind};
use crate::state_machine::command::Command;
use crate::state_machine::members::Change;

/// A membership entry of a kind that this program never writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {0} changes the members in a way that this version of esnode does not know; use the one that wrote it"
)]
pub struct UnknownChange(u64);

impl Snapshot {
    /// Applies an entry, to the members as to the state.
    ///
    /// # Errors
    /// [`UnknownChange`].
    pub fn follow(&mut self, entry: &Entry) -> Result<(), UnknownChange> {
        match entry.kind {
            EntryKind::Normal => {
                self.state.apply(entry.index, entry.term, &entry.data);
            }
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                let raft = change(entry).ok_or(UnknownChange(entry.index))?;
                let ConfState { voters, learners, .. } = &mut self.conf_state;
                voters.retain(|id| *id != raft.node);
                learners.retain(|id| *id != raft.node);
                match raft.kind {
                    ConfChangeType::AddVoter => voters.push(raft.node),
                    ConfChangeType::AddLearner => learners.push(raft.node),
                    ConfChangeType::Remove => {}
                }
                self.state.change_members(entry.index, change_of(entry).as_ref());
            }
        }
        Ok(())
    }
}

/// Whether `snapshot` is that of `cluster`, with these members and no others.
pub fn is_recovered(snapshot: &Snapshot, cluster: ClusterId, members: &[NodeId]) -> bool {
    let ConfState { voters, learners, .. } = &snapshot.conf_state;
    let same = voters.len() == members.len() && members.iter().all(|id| voters.contains(id));
    snapshot.state.cluster_id() == Some(cluster) && same && learners.is_empty()
}

/// The entries that follow the log that led to `snapshot`, in `term`, so that `cluster` with these members goes on with it.
pub fn recover(snapshot: &Snapshot, cluster: ClusterId, members: &[NodeId], term: u64) -> Vec<Entry> {
    let mut begin = BytesMut::new();
    Command::RecoverCluster { cluster_id: cluster }.encode(&mut begin);
    let ConfState { voters, learners, .. } = &snapshot.conf_state;
    let joining = members.iter().filter(|id| !voters.contains(id)).map(|id| Change::Promote(*id));
    let leaving =
        voters.iter().chain(learners).filter(|id| !members.contains(id)).map(|id| Change::Remove(*id));
    let changes = joining.chain(leaving).map(|change| (EntryKind::ConfChange, to_raft(&change).encode()));
    let contents = [(EntryKind::Normal, begin.freeze())].into_iter().chain(changes);
    let next = snapshot.state.applied_index() + 1;
    (next..).zip(contents).map(|(index, (kind, data))| Entry { index, term, kind, data }).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::state_machine::StateMachine;

    fn cluster(id: u128) -> ClusterId {
        ClusterId(Uuid::from_u128(id))
    }

    fn snapshot(voters: &[NodeId], learners: &[NodeId]) -> Snapshot {
        let conf_state =
            ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() };
        let mut snapshot = Snapshot { conf_state, state: StateMachine::default() };
        let mut found = BytesMut::new();
        Command::Bootstrap { cluster_id: cluster(1) }.encode(&mut found);
        let entry = Entry { index: 7, term: 2, kind: EntryKind::Normal, data: found.freeze() };
        snapshot.follow(&entry).unwrap();
        snapshot
    }

    #[test]
    fn whoever_was_a_member_the_new_cluster_has_its_own() {
        for (voters, learners) in
            [(&[1, 2, 3][..], &[][..]), (&[1, 2, 3, 4, 5], &[6]), (&[7], &[1]), (&[1], &[])]
        {
            for members in [&[1][..], &[1, 2, 3], &[8, 9, 10, 1]] {
                let mut snapshot = snapshot(voters, learners);
                assert!(!is_recovered(&snapshot, cluster(2), members));
                let entries = recover(&snapshot, cluster(2), members, 3);
                let indices: Vec<_> = entries.iter().map(|entry| entry.index).collect();
                assert_eq!(indices, (8..8 + entries.len() as u64).collect::<Vec<_>>());
                for entry in &entries {
                    snapshot.follow(entry).unwrap();
                    assert!(!snapshot.conf_state.voters.is_empty(), "nobody could have committed it");
                }
                assert!(is_recovered(&snapshot, cluster(2), members), "{voters:?} {members:?} {snapshot:?}");
            }
        }
    }
}
