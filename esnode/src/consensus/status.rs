//! A node's view of the group at one moment.

use raft::{StateRole, Status as RaftStatus};
use shared::ids::NodeId;

/// What this node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows, or waits for a leader.
    #[default]
    Follower,
    /// Asks whether it would get votes, which changes no node's term (Raft thesis 9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A node's view of the group at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What this node is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: NodeId,
    /// The leader, when known.
    pub leader: Option<NodeId>,
    /// Highest committed index known here.
    pub commit: u64,
    /// Highest applied index.
    pub applied: u64,
    /// Highest index in the log, durable or not.
    pub last_index: u64,
    /// The other members; only a leader knows their progress.
    pub peers: Vec<Peer>,
    /// Voters, this node included.
    pub voters: Vec<NodeId>,
    /// Learners.
    pub learners: Vec<NodeId>,
    /// Elections that this node has begun since it started.
    pub elections: u64,
    /// Votes granted to this node, its own included, in its latest election.
    pub votes: u64,
    /// `AppendEntries` messages sent since the start.
    pub appends_sent: u64,
    /// A membership change is committed or proposed but not yet applied.
    pub pending_change: bool,
    /// For how many ticks the disk has had work without completing any.
    pub disk_wait: u64,
}

/// A leader's view of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub id: NodeId,
    /// Highest index known to be durable there.
    pub matched: u64,
}

impl Status {
    pub(super) fn fill(&mut self, raft: &RaftStatus<'_>) {
        self.role = role(raft.ss.raft_state);
        self.term = raft.hs.term;
        self.vote = raft.hs.vote;
        self.leader = Some(raft.ss.leader_id).filter(|id| *id != 0);
        self.commit = raft.hs.commit;
        self.applied = raft.applied;
        self.peers = raft
            .progress
            .iter()
            .flat_map(|tracker| tracker.iter())
            .filter(|(id, _)| **id != raft.id)
            .map(|(id, progress)| Peer { id: *id, matched: progress.matched })
            .collect();
        self.peers.sort_unstable_by_key(|peer| peer.id);
    }
}

pub(super) fn role(state: StateRole) -> Role {
    match state {
        StateRole::Follower => Role::Follower,
        StateRole::PreCandidate => Role::PreCandidate,
        StateRole::Candidate => Role::Candidate,
        StateRole::Leader => Role::Leader,
    }
}
