//! A cluster that is no more, carried on by another one: which entries come behind its log.
//!
//! Nothing that is in the log changes, and nothing is taken from it: what stands there without having been committed may
//! have been acknowledged by a node that is gone. Behind it come an entry that begins the new cluster and one for every
//! member that differs, as if a leader had proposed them and a majority had them. No leader can have: that this is so is
//! the operator's decision, and only `esnode rebuild` carries it out.

use bytes::BytesMut;
use protobuf::Message as _;
use shared::ids::{ClusterId, NodeId};

use super::checkpoints::Image;
use super::membership::{change_of, to_raft};
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

impl Image {
    /// Applies an entry, to the members as to the state.
    ///
    /// # Errors
    /// [`UnknownChange`].
    pub fn follow(&mut self, entry: &Entry) -> Result<(), UnknownChange> {
        match entry.kind {
            EntryKind::Normal => {
                self.stream.apply(entry.index, entry.term, &entry.data);
            }
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                let raft = change(entry).ok_or(UnknownChange(entry.index))?;
                let ConfState { voters, learners, .. } = &mut self.conf_state;
                voters.retain(|id| *id != raft.node_id);
                learners.retain(|id| *id != raft.node_id);
                match raft.get_change_type() {
                    ConfChangeType::AddNode => voters.push(raft.node_id),
                    ConfChangeType::AddLearnerNode => learners.push(raft.node_id),
                    ConfChangeType::RemoveNode => {}
                }
                self.stream.change_members(entry.index, change_of(entry).as_ref());
            }
        }
        Ok(())
    }
}

/// Whether `image` is that of `cluster`, with these members and no others.
pub fn is_carried_on(image: &Image, cluster: ClusterId, members: &[NodeId]) -> bool {
    let ConfState { voters, learners, .. } = &image.conf_state;
    let same = voters.len() == members.len() && members.iter().all(|id| voters.contains(id));
    image.stream.cluster_id() == Some(cluster) && same && learners.is_empty()
}

/// What comes behind the log that led to `image`, in `term`, so that `cluster` with these members carries it on.
pub fn carry_on(image: &Image, cluster: ClusterId, members: &[NodeId], term: u64) -> Vec<Entry> {
    let mut begin = BytesMut::new();
    Command::CarryOn { cluster_id: cluster }.encode(&mut begin);
    let ConfState { voters, learners, .. } = &image.conf_state;
    let come = members.iter().filter(|id| !voters.contains(id)).map(|id| Change::Promote(*id));
    let go = voters.iter().chain(learners).filter(|id| !members.contains(id)).map(|id| Change::Remove(*id));
    let changes = come.chain(go).map(|change| {
        // Writing to memory fails for a message without its required fields; this one has none.
        let data = to_raft(&change).write_to_bytes().unwrap_or_default();
        (EntryKind::ConfChange, data.into())
    });
    let contents = [(EntryKind::Normal, begin.freeze())].into_iter().chain(changes);
    let next = image.stream.applied_index() + 1;
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

    fn image(voters: &[NodeId], learners: &[NodeId]) -> Image {
        let conf_state =
            ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() };
        let mut image = Image { conf_state, stream: StateMachine::default() };
        let mut found = BytesMut::new();
        Command::Found { cluster_id: cluster(1) }.encode(&mut found);
        let entry = Entry { index: 7, term: 2, kind: EntryKind::Normal, data: found.freeze() };
        image.follow(&entry).unwrap();
        image
    }

    #[test]
    fn whoever_was_a_member_the_new_cluster_has_its_own() {
        for (voters, learners) in
            [(&[1, 2, 3][..], &[][..]), (&[1, 2, 3, 4, 5], &[6]), (&[7], &[1]), (&[1], &[])]
        {
            for members in [&[1][..], &[1, 2, 3], &[8, 9, 10, 1]] {
                let mut image = image(voters, learners);
                assert!(!is_carried_on(&image, cluster(2), members));
                let entries = carry_on(&image, cluster(2), members, 3);
                let indices: Vec<_> = entries.iter().map(|entry| entry.index).collect();
                assert_eq!(indices, (8..8 + entries.len() as u64).collect::<Vec<_>>());
                for entry in &entries {
                    image.follow(entry).unwrap();
                    assert!(!image.conf_state.voters.is_empty(), "nobody could have committed it");
                }
                assert!(is_carried_on(&image, cluster(2), members), "{voters:?} {members:?} {image:?}");
            }
        }
    }
}
