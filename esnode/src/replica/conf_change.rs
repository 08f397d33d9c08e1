//! Changes of the members: which are allowed, how they travel through the log, and who is told.

use shared::ids::NodeId;
use shared::spec::{MAX_NODES, Node, authority};

use super::mistake::{Mistake, makes};
use super::response::ChangeError;
use crate::consensus::{self, ConfChange, ConfChangeType, LastContact, Role, Status, lag, may_have};
use crate::entry::Entry;
use crate::state_machine::members::{Address, Change, Members};

/// What a leader knows when a change is asked for.
pub(super) struct Context<'a> {
    pub(super) own: NodeId,
    /// Everything committed before its term is applied.
    pub(super) serving: bool,
    pub(super) status: &'a Status,
    /// Every member, and where it is.
    pub(super) roster: &'a [Node],
    pub(super) members: &'a Members,
    pub(super) last_contact: &'a LastContact,
    pub(super) tick: u64,
}

/// A change that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validated {
    /// It was made before: the same request again gets the same response.
    AlreadyApplied,
    /// It may be proposed.
    Propose,
}

impl Context<'_> {
    /// Whether `change` may be made now.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn validate(&self, change: &Change) -> Result<Validated, ChangeError> {
        if self.status.role != Role::Leader {
            return Err(ChangeError::NotLeader(self.status.leader));
        }
        if !self.serving {
            return Err(ChangeError::JustElected);
        }
        let validated = match change {
            Change::Add(node, added) => self.validate_add(*node, &added.address),
            Change::Promote(node) => self.validate_promote(*node),
            Change::Remove(node) => self.validate_remove(*node),
        }?;
        if validated == Validated::Propose && self.status.pending_change {
            return Err(ChangeError::InFlight);
        }
        Ok(validated)
    }

    fn validate_add(&self, node: NodeId, address: &Address) -> Result<Validated, ChangeError> {
        if let Some(known) = self.roster.iter().find(|known| known.id == node) {
            let elsewhere = || ChangeError::IdTaken(node, authority(&known.host, known.cluster_port));
            return if Address::from(known) == *address {
                Ok(Validated::AlreadyApplied)
            } else {
                Err(elsewhere())
            };
        }
        let here = (&address.host, address.cluster_port);
        match self.roster.iter().find(|known| (&known.host, known.cluster_port) == here) {
            Some(other) => Err(ChangeError::AddressTaken(other.id)),
            None if self.roster.len() >= MAX_NODES => Err(ChangeError::Full),
            None => Ok(Validated::Propose),
        }
    }

    fn validate_promote(&self, node: NodeId) -> Result<Validated, ChangeError> {
        if self.status.voters.contains(&node) {
            return Ok(Validated::AlreadyApplied);
        }
        if !self.status.learners.contains(&node) {
            return Err(ChangeError::NotAMember(node));
        }
        let (lag, keeps_up) = lag(self.status, node);
        if !keeps_up || !self.last_contact.is_active(node, self.tick) {
            return Err(ChangeError::Behind(node, lag));
        }
        let voters: Vec<_> = self.status.voters.iter().copied().chain([node]).collect();
        self.require_quorum(&voters)?;
        Ok(Validated::Propose)
    }

    /// A change must leave a majority of `voters` reachable. A new leader cannot tell yet.
    fn require_quorum(&self, voters: &[NodeId]) -> Result<(), ChangeError> {
        if makes(Mistake::ChangeWithoutQuorum) {
            return Ok(());
        }
        may_have(self.own, voters, self.last_contact, self.tick).map_err(|no_quorum| {
            match self.last_contact.is_incomplete(self.tick) {
                true => ChangeError::JustElected,
                false => no_quorum.into(),
            }
        })
    }

    fn validate_remove(&self, node: NodeId) -> Result<Validated, ChangeError> {
        let Status { voters, learners, .. } = self.status;
        if learners.contains(&node) {
            return Ok(Validated::Propose);
        }
        if !voters.contains(&node) {
            let gone = self.members.was_removed(node);
            return if gone { Ok(Validated::AlreadyApplied) } else { Err(ChangeError::NotAMember(node)) };
        }
        if voters.len() == 1 {
            return Err(ChangeError::LastVoter(node));
        }
        let rest: Vec<_> = voters.iter().copied().filter(|voter| *voter != node).collect();
        self.require_quorum(&rest)?;
        if node == self.own { Err(ChangeError::Leads) } else { Ok(Validated::Propose) }
    }
}

/// Raft's entry for a change; what Raft does not know travels as its context.
pub(super) fn to_raft(change: &Change) -> ConfChange {
    let kind = match change {
        Change::Add(..) => ConfChangeType::AddLearner,
        Change::Promote(_) => ConfChangeType::AddVoter,
        Change::Remove(_) => ConfChangeType::Remove,
    };
    let context = match change {
        Change::Add(_, added) => serde_json::to_vec(added).unwrap_or_default(),
        Change::Promote(_) | Change::Remove(_) => Vec::new(),
    };
    ConfChange { kind, node: change.node(), context: context.into() }
}

/// The change in a membership entry; `None` when it changes nothing beside Raft's own members.
pub fn change_of(entry: &Entry) -> Option<Change> {
    let raft = consensus::change(entry)?;
    let node = raft.node;
    match raft.kind {
        ConfChangeType::AddLearner => {
            let added = serde_json::from_slice(&raft.context);
            added.ok().map(|added| Change::Add(node, added))
        }
        ConfChangeType::AddVoter => Some(Change::Promote(node)),
        ConfChangeType::Remove => Some(Change::Remove(node)),
    }
}

/// A change in the log that somebody may wait for.
pub(super) struct PendingChange<W> {
    /// Index and term of its entry.
    at: (u64, u64),
    pub(super) waiter: Option<W>,
}

impl<W> PendingChange<W> {
    /// Proposed as the entry of this index and term.
    pub(super) fn new(index: u64, term: u64, waiter: Option<W>) -> Self {
        Self { at: (index, term), waiter }
    }

    /// What entry `index` of `term`, which is applied, means for it; `None` while it is not its turn. An entry of
    /// another term at its index, or after it, has taken its place.
    pub(super) fn outcome(&self, index: u64, term: u64) -> Option<Result<(), ChangeError>> {
        if index < self.at.0 {
            return None;
        }
        Some(if self.at == (index, term) { Ok(()) } else { Err(ChangeError::NotLeader(None)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{NoQuorum, Peer, Timing};
    use crate::entry::EntryKind;
    use crate::state_machine::members::Added;
    use shared::spec::RaftTiming;

    fn node(id: NodeId, host: &str) -> Node {
        let json = serde_json::json!({"id": id, "host": host});
        serde_json::from_value(json).unwrap()
    }

    fn add(id: NodeId, host: &str) -> Change {
        Change::Add(id, Added { address: Address::from(&node(id, host)), stays_learner: false })
    }

    /// Node 1 leads 2 and 3, of which 3 does not answer; node 4 is a learner.
    struct Fixture {
        status: Status,
        roster: Vec<Node>,
        last_contact: LastContact,
    }

    impl Fixture {
        fn new() -> Self {
            let peer = |id, matched| Peer { id, matched };
            let mut last_contact = LastContact::new(&Timing::from_spec(&RaftTiming::default()));
            [2, 4].into_iter().for_each(|id| last_contact.note(id, 10));
            let status = Status {
                role: Role::Leader,
                last_index: 1000,
                voters: vec![1, 2, 3],
                learners: vec![4],
                peers: vec![peer(2, 1000), peer(3, 10), peer(4, 1000)],
                ..Status::default()
            };
            let roster = (1..).zip(["a", "b", "c", "d"]).map(|(id, host)| node(id, host)).collect();
            Self { status, roster, last_contact }
        }

        fn validate(&self, change: &Change) -> Result<Validated, ChangeError> {
            let (members, status) = (Members::default(), &self.status);
            let Self { roster, last_contact, .. } = self;
            Context { own: 1, serving: true, status, roster, members: &members, last_contact, tick: 12 }
                .validate(change)
        }
    }

    #[test]
    fn the_same_again_is_made_already_and_an_address_belongs_to_one_member() {
        let fixture = Fixture::new();
        assert_eq!(fixture.validate(&add(5, "e")), Ok(Validated::Propose));
        assert_eq!(fixture.validate(&add(4, "d")), Ok(Validated::AlreadyApplied));
        assert_eq!(
            fixture.validate(&add(1, "a")),
            Ok(Validated::AlreadyApplied),
            "an initial member is a member too"
        );
        assert_eq!(fixture.validate(&add(4, "e")), Err(ChangeError::IdTaken(4, "d:9100".into())));
        assert_eq!(fixture.validate(&add(5, "b")), Err(ChangeError::AddressTaken(2)));
        let mut full = Fixture::new();
        full.roster.extend((5..=9).map(|id| node(id, &format!("n{id}"))));
        assert_eq!(full.validate(&add(10, "j")), Err(ChangeError::Full));
    }

    #[test]
    fn what_remains_must_have_a_healthy_quorum() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.validate(&Change::Remove(3)), Ok(Validated::Propose), "the dead one may go");
        let left = NoQuorum { voters: 2, healthy: 1, needed: 2 };
        assert_eq!(fixture.validate(&Change::Remove(2)), Err(ChangeError::NoQuorum(left)));
        assert_eq!(fixture.validate(&Change::Remove(4)), Ok(Validated::Propose), "a learner may always go");
        assert_eq!(fixture.validate(&Change::Remove(1)), Err(ChangeError::NoQuorum(left)));
        fixture.last_contact.note(3, 10);
        assert_eq!(fixture.validate(&Change::Remove(1)), Err(ChangeError::Leads));
        fixture.status.voters = vec![1];
        assert_eq!(fixture.validate(&Change::Remove(1)), Err(ChangeError::LastVoter(1)));
        assert_eq!(fixture.validate(&Change::Remove(9)), Err(ChangeError::NotAMember(9)));
    }

    #[test]
    fn a_new_leader_does_not_take_members_for_dead_that_had_no_time_to_respond() {
        let mut fixture = Fixture::new();
        fixture.last_contact.new_term(10);
        assert_eq!(fixture.validate(&Change::Remove(2)), Err(ChangeError::JustElected));
        fixture.last_contact.note(3, 11);
        assert_eq!(fixture.validate(&Change::Remove(2)), Ok(Validated::Propose));
    }

    #[test]
    fn one_change_at_a_time_and_by_the_leader() {
        let mut fixture = Fixture::new();
        fixture.status.pending_change = true;
        assert_eq!(fixture.validate(&Change::Remove(3)), Err(ChangeError::InFlight));
        assert_eq!(fixture.validate(&add(4, "d")), Ok(Validated::AlreadyApplied), "it waits for nothing");
        fixture.status.role = Role::Follower;
        fixture.status.leader = Some(2);
        assert_eq!(fixture.validate(&add(4, "d")), Err(ChangeError::NotLeader(Some(2))));
    }

    #[test]
    fn a_learner_is_promoted_when_it_keeps_up() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.validate(&Change::Promote(4)), Ok(Validated::Propose));
        assert_eq!(fixture.validate(&Change::Promote(2)), Ok(Validated::AlreadyApplied));
        assert_eq!(fixture.validate(&Change::Promote(9)), Err(ChangeError::NotAMember(9)));
        fixture.status.peers[2].matched = 100;
        assert_eq!(fixture.validate(&Change::Promote(4)), Err(ChangeError::Behind(4, 900)));
    }

    #[test]
    fn changes_travel_in_rafts_entries() {
        for change in [add(4, "d"), Change::Promote(4), Change::Remove(4)] {
            let data = to_raft(&change).encode();
            let entry = Entry { index: 7, term: 2, kind: EntryKind::ConfChange, data };
            assert_eq!(change_of(&entry), Some(change));
        }
    }

    #[test]
    fn whoever_waits_learns_whether_the_change_was_lost_to_another() {
        let outcome = |index, term| PendingChange::<()>::new(7, 2, None).outcome(index, term);
        assert_eq!(outcome(6, 2), None);
        assert_eq!(outcome(7, 2), Some(Ok(())));
        assert_eq!(outcome(7, 3), Some(Err(ChangeError::NotLeader(None))));
        assert_eq!(outcome(8, 3), Some(Err(ChangeError::NotLeader(None))));
    }
}
