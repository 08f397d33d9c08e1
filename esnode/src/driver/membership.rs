//! Changes of the members: which are allowed, how they travel through the log, and who is told.

use shared::ids::NodeId;
use shared::spec::{MAX_NODES, Node, authority};
use tokio::sync::oneshot;

use crate::consensus::{self, ConfChange, ConfChangeType, Heard, NoQuorum, Role, Status, lag, may_have};
use crate::entry::Entry;
use crate::state_machine::members::{Address, Change, Members};

/// Who waits for a change.
pub type ChangeReply = oneshot::Sender<Result<(), ChangeError>>;

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can; the named node may be it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// This node leads, and knows in a moment what was committed before.
    #[error("the leader has just been elected")]
    JustElected,
    /// The leader does not remove itself: it hands over first.
    #[error("this node leads; it has to hand over before it can be removed")]
    Leads,
    /// Another change is not applied yet.
    #[error("another membership change is in flight")]
    InFlight,
    /// What remains could commit nothing.
    #[error(transparent)]
    NoQuorum(#[from] NoQuorum),
    /// The only voter cannot go.
    #[error("node {0} is the only voter")]
    LastVoter(NodeId),
    /// The id is that of a member elsewhere.
    #[error("node {0} is a member already, at {1}")]
    IdTaken(NodeId, String),
    /// Another member has the address.
    #[error("node {0} has that address")]
    AddressTaken(NodeId),
    /// There are as many members as there may be.
    #[error("the cluster has {MAX_NODES} members, the most there may be")]
    Full,
    /// No such member, now or earlier.
    #[error("node {0} is not a member")]
    NotAMember(NodeId),
    /// The learner cannot vote yet.
    #[error("node {0} is {1} entries behind, or does not answer")]
    Behind(NodeId, u64),
    /// It may or may not happen.
    #[error("the outcome is unknown: leadership was lost")]
    Unknown,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What a leader knows when a change is asked for.
pub(super) struct Scene<'a> {
    pub(super) own: NodeId,
    /// Everything committed before its term is applied.
    pub(super) serving: bool,
    pub(super) status: &'a Status,
    /// Every member, and where it is.
    pub(super) roster: &'a [Node],
    pub(super) members: &'a Members,
    pub(super) heard: &'a Heard,
    pub(super) tick: u64,
}

/// A change that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was made before: the same request again gets the same answer.
    Made,
    /// It may be proposed.
    Propose,
}

impl Scene<'_> {
    /// Whether `change` may be made now.
    pub(super) fn judge(&self, change: &Change) -> Result<Verdict, ChangeError> {
        if self.status.role != Role::Leader {
            return Err(ChangeError::NotLeader(self.status.leader));
        }
        if !self.serving {
            return Err(ChangeError::JustElected);
        }
        let verdict = match change {
            Change::Add(node, added) => self.judge_add(*node, &added.address),
            Change::Promote(node) => self.judge_promote(*node),
            Change::Remove(node) => self.judge_remove(*node),
        }?;
        if verdict == Verdict::Propose && self.status.pending_change {
            return Err(ChangeError::InFlight);
        }
        Ok(verdict)
    }

    fn judge_add(&self, node: NodeId, address: &Address) -> Result<Verdict, ChangeError> {
        if let Some(known) = self.roster.iter().find(|known| known.id == node) {
            let elsewhere = || ChangeError::IdTaken(node, authority(&known.host, known.cluster_port));
            return if Address::from(known) == *address { Ok(Verdict::Made) } else { Err(elsewhere()) };
        }
        let here = (&address.host, address.cluster_port);
        match self.roster.iter().find(|known| (&known.host, known.cluster_port) == here) {
            Some(other) => Err(ChangeError::AddressTaken(other.id)),
            None if self.roster.len() >= MAX_NODES => Err(ChangeError::Full),
            None => Ok(Verdict::Propose),
        }
    }

    fn judge_promote(&self, node: NodeId) -> Result<Verdict, ChangeError> {
        if self.status.voters.contains(&node) {
            return Ok(Verdict::Made);
        }
        if !self.status.learners.contains(&node) {
            return Err(ChangeError::NotAMember(node));
        }
        let (lag, keeps_up) = lag(self.status, node);
        if !keeps_up || !self.heard.answers(node, self.tick) {
            return Err(ChangeError::Behind(node, lag));
        }
        let voters: Vec<_> = self.status.voters.iter().copied().chain([node]).collect();
        may_have(self.own, &voters, self.heard, self.tick)?;
        Ok(Verdict::Propose)
    }

    fn judge_remove(&self, node: NodeId) -> Result<Verdict, ChangeError> {
        let Status { voters, learners, .. } = self.status;
        if learners.contains(&node) {
            return Ok(Verdict::Propose);
        }
        if !voters.contains(&node) {
            let gone = self.members.was_removed(node);
            return if gone { Ok(Verdict::Made) } else { Err(ChangeError::NotAMember(node)) };
        }
        if voters.len() == 1 {
            return Err(ChangeError::LastVoter(node));
        }
        let rest: Vec<_> = voters.iter().copied().filter(|voter| *voter != node).collect();
        may_have(self.own, &rest, self.heard, self.tick)?;
        if node == self.own { Err(ChangeError::Leads) } else { Ok(Verdict::Propose) }
    }
}

/// Raft's entry for a change; what Raft does not know travels as its context.
pub(super) fn to_raft(change: &Change) -> ConfChange {
    let kind = match change {
        Change::Add(..) => ConfChangeType::AddLearnerNode,
        Change::Promote(_) => ConfChangeType::AddNode,
        Change::Remove(_) => ConfChangeType::RemoveNode,
    };
    let context = match change {
        Change::Add(_, added) => serde_json::to_vec(added).unwrap_or_default(),
        Change::Promote(_) | Change::Remove(_) => Vec::new(),
    };
    let mut raft = ConfChange { node_id: change.node(), context: context.into(), ..ConfChange::default() };
    raft.set_change_type(kind);
    raft
}

/// The change in a membership entry; `None` when it changes nothing beside Raft's own members.
pub fn change_of(entry: &Entry) -> Option<Change> {
    let raft = consensus::change(entry)?;
    let node = raft.node_id;
    match raft.get_change_type() {
        ConfChangeType::AddLearnerNode => {
            let added = serde_json::from_slice(&raft.context);
            added.ok().map(|added| Change::Add(node, added))
        }
        ConfChangeType::AddNode => Some(Change::Promote(node)),
        ConfChangeType::RemoveNode => Some(Change::Remove(node)),
    }
}

/// A change in the log that somebody waits for.
pub(super) struct Pending {
    at: (u64, u64),
    reply: Option<ChangeReply>,
}

impl Pending {
    /// Proposed as the entry of this index and term.
    pub(super) fn new(index: u64, term: u64, reply: Option<ChangeReply>) -> Self {
        Self { at: (index, term), reply }
    }

    /// Entry `index` of `term` is applied: `true` when that answers whoever waits. An entry of another term at its index,
    /// or after it, has taken its place.
    pub(super) fn applied(&mut self, index: u64, term: u64) -> bool {
        if index < self.at.0 {
            return false;
        }
        self.answer(if self.at == (index, term) { Ok(()) } else { Err(ChangeError::NotLeader(None)) });
        true
    }

    /// Ends the wait.
    pub(super) fn answer(&mut self, outcome: Result<(), ChangeError>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may be gone; then nobody is left to tell.
            let _ = reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Peer, Timing};
    use crate::entry::EntryKind;
    use crate::state_machine::members::Added;
    use protobuf::Message as _;
    use shared::spec::RaftTiming;

    fn node(id: NodeId, host: &str) -> Node {
        let json = serde_json::json!({"id": id, "host": host});
        serde_json::from_value(json).unwrap()
    }

    fn add(id: NodeId, host: &str) -> Change {
        Change::Add(id, Added { address: Address::from(&node(id, host)), stays_learner: false })
    }

    /// Node 1 leads 2 and 3, of which 3 does not answer; node 4 is a learner.
    struct Made {
        status: Status,
        roster: Vec<Node>,
        heard: Heard,
    }

    impl Made {
        fn new() -> Self {
            let peer = |id, matched| Peer { id, matched };
            let mut heard = Heard::new(&Timing::from_spec(&RaftTiming::default()));
            [2, 4].into_iter().for_each(|id| heard.note(id, 10));
            let status = Status {
                role: Role::Leader,
                last_index: 1000,
                voters: vec![1, 2, 3],
                learners: vec![4],
                peers: vec![peer(2, 1000), peer(3, 10), peer(4, 1000)],
                ..Status::default()
            };
            let roster = (1..).zip(["a", "b", "c", "d"]).map(|(id, host)| node(id, host)).collect();
            Self { status, roster, heard }
        }

        fn judge(&self, change: &Change) -> Result<Verdict, ChangeError> {
            let (members, status) = (Members::default(), &self.status);
            let Self { roster, heard, .. } = self;
            Scene { own: 1, serving: true, status, roster, members: &members, heard, tick: 12 }.judge(change)
        }
    }

    #[test]
    fn the_same_again_is_made_already_and_an_address_belongs_to_one_member() {
        let made = Made::new();
        assert_eq!(made.judge(&add(5, "e")), Ok(Verdict::Propose));
        assert_eq!(made.judge(&add(4, "d")), Ok(Verdict::Made));
        assert_eq!(made.judge(&add(1, "a")), Ok(Verdict::Made), "a founder is a member too");
        assert_eq!(made.judge(&add(4, "e")), Err(ChangeError::IdTaken(4, "d:9100".into())));
        assert_eq!(made.judge(&add(5, "b")), Err(ChangeError::AddressTaken(2)));
        let mut full = Made::new();
        full.roster.extend((5..=9).map(|id| node(id, &format!("n{id}"))));
        assert_eq!(full.judge(&add(10, "j")), Err(ChangeError::Full));
    }

    #[test]
    fn what_remains_must_have_a_healthy_quorum() {
        let mut made = Made::new();
        assert_eq!(made.judge(&Change::Remove(3)), Ok(Verdict::Propose), "the dead one may go");
        let left = NoQuorum { voters: 2, healthy: 1, needed: 2 };
        assert_eq!(made.judge(&Change::Remove(2)), Err(ChangeError::NoQuorum(left)));
        assert_eq!(made.judge(&Change::Remove(4)), Ok(Verdict::Propose), "a learner may always go");
        assert_eq!(made.judge(&Change::Remove(1)), Err(ChangeError::NoQuorum(left)));
        made.heard.note(3, 10);
        assert_eq!(made.judge(&Change::Remove(1)), Err(ChangeError::Leads));
        made.status.voters = vec![1];
        assert_eq!(made.judge(&Change::Remove(1)), Err(ChangeError::LastVoter(1)));
        assert_eq!(made.judge(&Change::Remove(9)), Err(ChangeError::NotAMember(9)));
    }

    #[test]
    fn one_change_at_a_time_and_by_the_leader() {
        let mut made = Made::new();
        made.status.pending_change = true;
        assert_eq!(made.judge(&Change::Remove(3)), Err(ChangeError::InFlight));
        assert_eq!(made.judge(&add(4, "d")), Ok(Verdict::Made), "it waits for nothing");
        made.status.role = Role::Follower;
        made.status.leader = Some(2);
        assert_eq!(made.judge(&add(4, "d")), Err(ChangeError::NotLeader(Some(2))));
    }

    #[test]
    fn a_learner_is_promoted_when_it_keeps_up() {
        let mut made = Made::new();
        assert_eq!(made.judge(&Change::Promote(4)), Ok(Verdict::Propose));
        assert_eq!(made.judge(&Change::Promote(2)), Ok(Verdict::Made));
        assert_eq!(made.judge(&Change::Promote(9)), Err(ChangeError::NotAMember(9)));
        made.status.peers[2].matched = 100;
        assert_eq!(made.judge(&Change::Promote(4)), Err(ChangeError::Behind(4, 900)));
    }

    #[test]
    fn changes_travel_in_rafts_entries() {
        for change in [add(4, "d"), Change::Promote(4), Change::Remove(4)] {
            let data = to_raft(&change).write_to_bytes().unwrap().into();
            let entry = Entry { index: 7, term: 2, kind: EntryKind::ConfChange, data };
            assert_eq!(change_of(&entry), Some(change));
        }
    }

    #[test]
    fn whoever_waits_learns_whether_the_change_was_lost_to_another() {
        let outcome = |index, term| {
            let (reply, mut answer) = oneshot::channel();
            let mut pending = Pending::new(7, 2, Some(reply));
            pending.applied(index, term).then(|| answer.try_recv().unwrap())
        };
        assert_eq!(outcome(6, 2), None);
        assert_eq!(outcome(7, 2), Some(Ok(())));
        assert_eq!(outcome(7, 3), Some(Err(ChangeError::NotLeader(None))));
        assert_eq!(outcome(8, 3), Some(Err(ChangeError::NotLeader(None))));
    }
}
