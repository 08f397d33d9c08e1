//! Changes of the membership: what an operator may ask for at any moment, and what a leader makes of it.

use bytes::Bytes;
use esnode::consensus::{ConfChange, ConfChangeType, ConfState};
use fastrand::Rng;
use shared::ids::NodeId;

/// Fewer voters are never wanted.
const FEWEST: usize = 3;

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Take a node in as a learner: a new one, one that was removed before, or a voter that shall vote no more.
    Learner(NodeId),
    /// Let a node vote, learner or not.
    Voter(NodeId),
    /// Remove a node.
    Remove(NodeId),
}

impl Change {
    /// Any change of any node.
    pub fn draw(nodes: u64, rng: &mut Rng) -> Self {
        let node = rng.u64(1..=nodes);
        match rng.u8(..5) {
            0 => Self::Learner(node),
            1 | 2 => Self::Voter(node),
            _ => Self::Remove(node),
        }
    }

    /// The node that it is about.
    pub fn node(self) -> NodeId {
        let (Self::Learner(node) | Self::Voter(node) | Self::Remove(node)) = self;
        node
    }

    /// What `leader` proposes for it; `None` when it changes nothing or is refused.
    pub fn proposal(self, leader: NodeId, members: &ConfState) -> Option<ConfChange> {
        let node = self.node();
        let (votes, learns) = (members.voters.contains(&node), members.learners.contains(&node));
        // A leader hands over before it goes.
        let parts = votes && (node == leader || members.voters.len() <= FEWEST);
        let (kind, allowed) = match self {
            Self::Learner(_) => (ConfChangeType::AddLearner, !learns && !parts),
            Self::Voter(_) => (ConfChangeType::AddVoter, !votes),
            Self::Remove(_) => (ConfChangeType::Remove, (votes || learns) && !parts),
        };
        allowed.then(|| ConfChange { kind, node, context: Bytes::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: &[NodeId], learners: &[NodeId]) -> ConfState {
        ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() }
    }

    #[test]
    fn neither_the_leader_nor_one_of_the_last_three_voters_goes() {
        assert_eq!(Change::Remove(1).proposal(1, &members(&[1, 2, 3, 4], &[])), None);
        assert_eq!(Change::Remove(2).proposal(1, &members(&[1, 2, 3], &[])), None);
        assert_eq!(Change::Learner(2).proposal(1, &members(&[1, 2, 3], &[])), None);
        assert!(Change::Remove(2).proposal(1, &members(&[1, 2, 3, 4], &[])).is_some());
        assert!(Change::Remove(4).proposal(1, &members(&[1, 2, 3], &[4])).is_some());
    }

    #[test]
    fn what_changes_nothing_is_not_proposed() {
        assert_eq!(Change::Voter(2).proposal(1, &members(&[1, 2, 3], &[])), None);
        assert_eq!(Change::Learner(4).proposal(1, &members(&[1, 2, 3], &[4])), None);
        assert_eq!(Change::Remove(4).proposal(1, &members(&[1, 2, 3], &[])), None);
    }
}
