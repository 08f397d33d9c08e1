//! The state machine of consensus: inputs go in, effects come out.

use bytes::Bytes;
use raft::eraftpb;
use raft::{Config, ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use shared::ids::NodeId;

use super::change;
use super::convert::{
    change_to_raft, conf_state_from_raft, entry_from_raft, message_from_raft, message_to_raft,
};
use super::disk::InFlight;
use super::logger;
use super::membership::proven_commit;
use super::message::{ConfChange, ConfState, Message, MessageType, SnapshotMetadata};
use super::plausible::{Implausible, MAX_NUMBER, Place, plausible};
use super::status::{self, Role, Status};
use super::timing::Timing;
use super::view::{Durable, LogRead, View};
use crate::entry::{Entry, HardState};

/// Largest payload of one message to a follower, in bytes.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Largest number of messages to one follower that wait for an answer. Times their payload, it is the memory that a
/// slow follower takes.
const MAX_INFLIGHT_MESSAGES: usize = 64;
/// Largest payload that is proposed and not yet committed, in bytes; beyond it proposals are refused.
const MAX_UNCOMMITTED_BYTES: u64 = 64 << 20;
/// Largest payload that is applied at once, in bytes, so that ticks and messages are handled during a long replay.
const MAX_APPLY_BYTES: u64 = 4 << 20;

/// What consensus starts from.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This node; never 0.
    pub id: NodeId,
    /// Makes this node's election timeouts; nodes should have different ones.
    pub seed: u64,
    /// Timing in ticks.
    pub timing: Timing,
    /// What was found on disk.
    pub hard_state: HardState,
    /// The members as of `applied`.
    pub conf_state: ConfState,
    /// Entries up to here are already applied.
    pub applied: u64,
    /// Payload bytes of durable, applied entries kept in memory for followers.
    pub tail_bytes: usize,
}

/// Consensus cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Raft refused its configuration or its storage.
    #[error("consensus cannot start: {0}")]
    Raft(String),
    /// The state on disk contradicts itself.
    #[error(
        "consensus cannot start: the data directory says term {term} and that entry {commit} is committed, and its log \
         ends at entry {last}. No cluster comes to that: the directory was damaged, or written to by something else. \
         Remove this node from the cluster, delete its data directory and add it again; if every node says so, \
         `escli recover` goes on with one of them"
    )]
    Absurd {
        /// The latest term seen.
        term: u64,
        /// Highest index known to be committed.
        commit: u64,
        /// Highest index.
        last: u64,
    },
}

/// The proposal was dropped: this node does not lead, is transferring leadership, or has too much in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proposal dropped")]
pub struct Dropped;

/// Where the entries of a proposal are in the log, unless another leader replaces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Term they were proposed in.
    pub term: u64,
    /// Index of the first.
    pub first: u64,
}

/// What to write to disk, and the number to report when it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Reported to [`Core::persisted`].
    pub number: u64,
    /// New term, vote or commit index; goes before the entries.
    pub hard_state: Option<HardState>,
    /// Index of a snapshot that replaces the whole log; comes before everything else.
    pub snapshot: Option<u64>,
    /// Entries to write. They replace those at their indices and above.
    pub entries: Vec<Entry>,
    /// Nothing waits for it to be durable, so it may go with the next write.
    pub lazy: bool,
}

/// What the caller must do: each exactly once, in any order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Send at once. A message may be lost.
    pub send: Vec<Message>,
    /// Write to disk, in the order of the numbers.
    pub persist: Option<Persist>,
    /// Apply in order, then report [`Core::applied`].
    pub committed: Vec<Entry>,
    /// Read barriers that hold once `index` is applied: (context, index).
    pub reads: Vec<(u64, u64)>,
    /// Role, term or leader changed.
    pub changed: bool,
    /// Read on another thread, and return the result to [`Core::fetched`].
    pub fetch: Vec<LogRead>,
}

/// One node's consensus.
pub struct Core<D: Durable> {
    raw: RawNode<View<D>>,
    id: NodeId,
    seed: u64,
    timing: Timing,
    disk: InFlight,
    /// Number of the newest `Persist` that Raft has asked for.
    newest: u64,
    /// Messages that waited for the disk, and go with the next effects.
    freed: Vec<Message>,
    /// The last persistent state that was sent to the disk.
    saved: HardState,
    /// Number of the work that replaces the log by a snapshot, while that is at the disk.
    installing: Option<u64>,
    seen: (Role, u64, NodeId),
    /// Highest commit index that a leader has told. Raft's own lags behind while entries are missing.
    heard_commit: u64,
    ticks: u64,
    /// The tick at which the disk last completed something.
    disk_moved: u64,
    elections: u64,
    votes: u64,
    appends_sent: u64,
}

impl<D: Durable> Core<D> {
    /// Starts from what the disk holds.
    ///
    /// # Errors
    /// [`StartError`]: what is on disk cannot be, or cannot be read.
    pub fn new(config: CoreConfig, durable: D) -> Result<Self, StartError> {
        let CoreConfig { id, seed, timing, mut hard_state, conf_state, applied, tail_bytes } = config;
        let HardState { term, commit, .. } = hard_state;
        let last = durable.last_index();
        if term > MAX_NUMBER || last > MAX_NUMBER || commit.max(applied) > last {
            return Err(StartError::Absurd { term, commit: commit.max(applied), last });
        }
        let proven = proven_commit(&durable, commit.max(applied))
            .map_err(|error| StartError::Raft(error.to_string()))?;
        hard_state.commit = commit.max(proven);
        let raft_config = Config {
            id,
            election_tick: timing.election,
            min_election_tick: timing.election_min,
            max_election_tick: timing.election_max,
            heartbeat_tick: timing.heartbeat,
            applied,
            max_size_per_msg: MAX_MESSAGE_BYTES,
            max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            // Followers serve no reads, so they can learn the commit index with the next append or heartbeat.
            skip_bcast_commit: true,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            max_committed_size_per_ready: MAX_APPLY_BYTES,
            ..Config::default()
        };
        let view = View::new(durable, hard_state, conf_state, tail_bytes);
        let raw = RawNode::new(&raft_config, view, &logger::new())
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let mut core = Self {
            raw,
            id,
            seed,
            timing,
            disk: InFlight::default(),
            newest: 0,
            freed: Vec::new(),
            saved: hard_state,
            installing: None,
            seen: (Role::Follower, hard_state.term, 0),
            heard_commit: hard_state.commit,
            ticks: 0,
            disk_moved: 0,
            elections: 0,
            votes: 0,
            appends_sent: 0,
        };
        core.settle();
        Ok(core)
    }

    /// One tick of time passed.
    pub fn tick(&mut self) {
        self.ticks += 1;
        let raft = &mut self.raw.raft;
        if self.installing.is_some() && raft.election_elapsed + 1 >= raft.randomized_election_timeout() {
            // Before it campaigns, Raft reads all entries that are not applied yet, to look for membership changes. It
            // panics if a snapshot is about to replace them. So until then the node only forgets a leader that is
            // silent.
            raft.become_follower(raft.term, raft::INVALID_ID);
        } else {
            self.raw.tick();
        }
        self.settle();
    }

    /// Returns how many further ticks will only count, unless something else arrives first.
    pub fn quiet_ticks(&self) -> u32 {
        let raft = &self.raw.raft;
        let until_acting = match raft.state {
            StateRole::Leader => (raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed()))
                .min(raft.election_timeout().saturating_sub(raft.election_elapsed)),
            _ => raft.randomized_election_timeout().saturating_sub(raft.election_elapsed),
        };
        u32::try_from(until_acting.saturating_sub(1)).unwrap_or(u32::MAX / 2)
    }

    /// Handles a message from another node.
    ///
    /// # Errors
    /// [`Implausible`] if no node can have sent it; then nothing has changed.
    pub fn receive(&mut self, message: Message) -> Result<(), Implausible> {
        let message = plausible(message, &self.place())?;
        let granted = message.kind == MessageType::RequestVoteResponse
            && !message.reject
            && message.term == self.raw.raft.term
            && self.raw.raft.state == StateRole::Candidate;
        self.votes += u64::from(granted);
        if self.installing.is_some() && message.kind == MessageType::TimeoutNow {
            // This node would campaign at once, which it cannot now, as `tick` explains. The leader soon gives the
            // transfer up.
            return Ok(());
        }
        let (from, commit) = (message.from, message.commit);
        let appends = message.kind == MessageType::Append;
        // Raft refuses messages that do not fit, such as a response from a node that is no member. Nothing needs to be
        // done then.
        let _ = self.raw.step(message_to_raft(message));
        if appends && self.raw.raft.leader_id == from {
            self.heard_commit = self.heard_commit.max(commit);
        }
        self.settle();
        Ok(())
    }

    /// Returns what messages are validated against.
    pub(super) fn place(&self) -> Place {
        let raft = &self.raw.raft;
        let committed = raft.raft_log.committed;
        Place {
            id: self.id,
            term: raft.term,
            leads: raft.state == StateRole::Leader,
            last_index: raft.raft_log.last_index(),
            committed: (committed, raft.raft_log.term(committed).unwrap_or_default()),
        }
    }

    /// Deliberate mistake for tests: takes an entry for committed that a majority has, even if it is of an older term
    /// (Raft paper, figure 8).
    #[cfg(feature = "mistakes")]
    pub fn commit_by_count(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader {
            let counted = raft.mut_prs().maximal_committed_index().0;
            raft.raft_log.commit_to(counted);
        }
    }

    /// Proposes payloads in this order, each as an entry of its own.
    ///
    /// # Errors
    /// [`Dropped`] if this node does not lead, is transferring leadership, or has too much in flight.
    pub fn propose(&mut self, payloads: Vec<Bytes>) -> Result<Proposed, Dropped> {
        if self.raw.raft.state != StateRole::Leader {
            return Err(Dropped);
        }
        let count = payloads.len() as u64;
        let entries: Vec<_> =
            payloads.into_iter().map(|data| eraftpb::Entry { data, ..Default::default() }).collect();
        let mut message = eraftpb::Message { from: self.id, entries: entries.into(), ..Default::default() };
        message.set_msg_type(eraftpb::MessageType::MsgPropose);
        self.raw.raft.step(message).map_err(|_| Dropped)?;
        self.settle();
        Ok(Proposed { term: self.raw.raft.term, first: self.raw.raft.raft_log.last_index() + 1 - count })
    }

    /// Proposes a membership change; dropped while an earlier one is not applied here.
    ///
    /// # Errors
    /// [`Dropped`]: this node does not lead, or an earlier change is not applied here.
    pub fn propose_change(&mut self, change: &ConfChange) -> Result<Proposed, Dropped> {
        if self.raw.raft.state != StateRole::Leader || self.raw.raft.has_pending_conf() {
            return Err(Dropped);
        }
        self.raw.propose_conf_change(Vec::new(), change_to_raft(change)).map_err(|_| Dropped)?;
        self.settle();
        Ok(Proposed { term: self.raw.raft.term, first: self.raw.raft.raft_log.last_index() })
    }

    /// Asks whether this node still leads: answered by [`Effects::reads`] with this context, or never.
    ///
    /// # Errors
    /// [`Dropped`]: this node does not lead, or has committed nothing in its term yet.
    pub fn read_index(&mut self, context: u64) -> Result<(), Dropped> {
        if self.raw.raft.state != StateRole::Leader || !self.raw.raft.commit_to_current_term() {
            return Err(Dropped);
        }
        self.raw.read_index(context.to_le_bytes().to_vec());
        self.settle();
        Ok(())
    }

    /// As leader, begins to transfer leadership to a voter; Raft gives up after an election timeout. On other nodes
    /// nothing happens: they would pass the request to the leader, which ignores it.
    pub fn transfer(&mut self, to: NodeId) {
        if self.raw.raft.state == StateRole::Leader {
            self.raw.transfer_leader(to);
            self.settle();
        }
    }

    /// Returns whether a transfer of leadership is under way. Proposals are dropped until it ends.
    pub fn transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// The peer cannot be reached: stops streaming entries to it until it answers again.
    pub fn unreachable(&mut self, peer: NodeId) {
        self.raw.report_unreachable(peer);
        self.settle();
    }

    /// All work up to `number` is durable.
    pub fn persisted(&mut self, number: u64) {
        self.disk_moved = self.ticks;
        let (freed, last) = self.disk.finish(number);
        self.freed.extend(freed);
        if self.installing.take_if(|install| *install <= number).is_some() {
            self.raw.mut_store().installed();
        }
        if let Some((index, term)) = last {
            self.raw.mut_store().persisted(index, term);
        }
        self.raw.on_persist_ready(self.disk.settled(self.newest));
        self.settle();
    }

    /// Everything up to `index` has been applied.
    pub fn applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
        self.raw.mut_store().evict(index);
    }

    /// Raft no longer needs the entries up to `index`, which are applied and in a snapshot. A follower that lacks one
    /// of them gets the snapshot. The durable log keeps them.
    pub fn compact(&mut self, index: u64) {
        self.raw.mut_store().compact(index);
    }

    /// There is a snapshot of everything up to this entry, with these members: followers may be sent to it.
    pub fn snapshot_written(&mut self, index: u64, term: u64, conf_state: ConfState) {
        self.raw.mut_store().snapshot_written(SnapshotMetadata { index, term, conf_state });
    }

    /// As leader: tells the followers how far the log is committed, without waiting for the next append or heartbeat.
    pub fn tell_commit(&mut self) {
        self.raw.ping();
        self.settle();
    }

    /// Whether a follower needs a newer snapshot than there is.
    pub fn wants_snapshot(&mut self) -> bool {
        self.raw.mut_store().take_wanted()
    }

    /// Sends the newest snapshot's message again to followers that have not confirmed one: the message or its answer
    /// may be lost. One that is still receiving it is not disturbed.
    pub fn retry_snapshots(&mut self) {
        let progress = self.raw.raft.prs().iter();
        let waiting: Vec<_> =
            progress.filter(|(_, p)| p.state == ProgressState::Snapshot).map(|(id, _)| *id).collect();
        for id in waiting {
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
        self.settle();
    }

    /// Applies a committed membership change. The caller does so when it reaches the entry in `committed`.
    pub fn apply_change(&mut self, entry: &Entry) -> Option<ConfState> {
        let change = change::parse(entry)?;
        let applied = self.raw.apply_conf_change(&change).ok();
        self.leave_office();
        self.settle();
        applied.map(conf_state_from_raft)
    }

    /// Makes a leader that is no longer a voter transfer leadership to the most complete voter and step down. A node
    /// can be elected while its removal is under way. Raft would let it continue: its heartbeats would keep others from
    /// electing a leader, it would drop every proposal, and it would panic when its own last entries became durable.
    fn leave_office(&mut self) {
        let voters = self.conf_state().voters;
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Leader || voters.contains(&self.id) {
            return;
        }
        let best = raft.prs().iter().filter(|(id, _)| voters.contains(id));
        let best = best.max_by_key(|(id, progress)| (progress.matched, **id)).map(|(id, _)| *id);
        if let Some(best) = best {
            raft.send_timeout_now(best);
        }
        raft.become_follower(raft.term, raft::INVALID_ID);
    }

    /// Receives entries that were asked for by [`Effects::fetch`].
    pub fn fetched(&mut self, fetch: LogRead, entries: Vec<Entry>) {
        for context in self.raw.mut_store().fetched(fetch, entries) {
            self.raw.on_entries_fetched(context);
        }
        self.raw.mut_store().drop_fetched();
        self.settle();
    }

    /// Returns what there is to do; `None` if there is nothing.
    pub fn effects(&mut self) -> Option<Effects> {
        let mut effects = Effects { send: std::mem::take(&mut self.freed), ..Effects::default() };
        effects.fetch = self.raw.mut_store().take_fetches();
        let ready = self.raw.has_ready();
        if ready {
            self.take_ready(&mut effects);
        }
        effects.changed = self.note_change();
        self.appends_sent +=
            effects.send.iter().filter(|message| message.kind == MessageType::Append).count() as u64;
        // What was ready may have no effect by itself and make more ready: a response that waits for the disk, say.
        let idle = !ready
            && effects.send.is_empty()
            && effects.persist.is_none()
            && effects.committed.is_empty()
            && effects.reads.is_empty()
            && effects.fetch.is_empty()
            && !effects.changed;
        (!idle).then_some(effects)
    }

    /// Whether [`Core::effects`] has anything to return.
    pub fn has_effects(&self) -> bool {
        self.raw.has_ready() || !self.freed.is_empty()
    }

    /// Returns the members as of the applied index.
    pub fn conf_state(&self) -> ConfState {
        conf_state_from_raft(self.raw.raft.prs().conf().to_conf_state())
    }

    /// Returns this node's view of the group.
    pub fn status(&self) -> Status {
        let mut status = Status {
            last_index: self.raw.raft.raft_log.last_index(),
            elections: self.elections,
            votes: self.votes,
            appends_sent: self.appends_sent,
            pending_change: self.raw.raft.has_pending_conf(),
            disk_wait: self.disk_wait(),
            ..Status::default()
        };
        status.fill(&self.raw.status());
        status.commit = status.commit.max(self.heard_commit);
        let members = self.conf_state();
        status.voters = members.voters;
        status.learners = members.learners;
        status.voters.sort_unstable();
        status.learners.sort_unstable();
        status
    }

    /// Returns for how many ticks the disk has had work without completing any.
    pub fn disk_wait(&self) -> u64 {
        self.disk.oldest().map_or(0, |since| self.ticks - since.max(self.disk_moved))
    }

    /// Its timing.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Returns this node's role.
    pub fn role(&self) -> Role {
        status::role(self.raw.raft.state)
    }

    /// Its term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The leader, when known.
    pub fn leader(&self) -> Option<NodeId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0)
    }

    /// What the disk was last told to remember, with everything up to `commit` as committed, which it holds and was applied.
    pub fn hard_state(&self, commit: u64) -> HardState {
        HardState { commit: self.saved.commit.max(commit), ..self.saved }
    }

    /// Returns whether an entry of this leader's own term is committed. Only then does it know everything that was
    /// committed before.
    pub fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    fn take_ready(&mut self, effects: &mut Effects) {
        let mut ready = self.raw.ready();
        self.newest = ready.number();
        effects.send.extend(ready.take_messages().into_iter().filter_map(message_from_raft));
        let after_disk = ready.take_persisted_messages().into_iter().filter_map(message_from_raft).collect();
        effects.committed = ready.take_committed_entries().into_iter().map(entry_from_raft).collect();
        effects.reads = ready.take_read_states().iter().filter_map(read_context).collect();

        let snapshot = Some(ready.snapshot().get_metadata()).filter(|metadata| metadata.index > 0);
        let snapshot = snapshot.map(|metadata| (metadata.index, metadata.term));
        if let Some((index, term)) = snapshot {
            self.raw.mut_store().restore(index, term);
            self.installing = Some(self.newest);
        }
        let entries = ready.take_entries();
        // A write may be torn between any two frames: a commit index on disk ahead of the entries that it covers would
        // stop the next start, or commit what an older leader left in their place.
        let covered = entries.first().map_or(u64::MAX, |entry| entry.index - 1);
        let hard_state =
            ready.hs().map(|hs| HardState { term: hs.term, vote: hs.vote, commit: hs.commit.min(covered) });
        let ballot = hard_state.is_some_and(|next| self.saved.must_sync(&next));
        self.saved = hard_state.unwrap_or(self.saved);
        self.raw.mut_store().append(&entries);
        let last = entries.last().map(|entry| (entry.index, entry.term));
        let waits = ballot || last.is_some() || snapshot.is_some();
        if waits {
            self.disk.begin(self.newest, last, ballot, self.ticks);
        }
        if waits || hard_state.is_some() {
            let entries = entries.into_iter().map(entry_from_raft).collect();
            let snapshot = snapshot.map(|(index, _)| index);
            effects.persist =
                Some(Persist { number: self.newest, hard_state, snapshot, entries, lazy: !waits });
        }
        effects.send.append(&mut self.disk.sort(after_disk));
        self.raw.advance_append_async(ready);
        let settled = self.disk.settled(self.newest);
        self.raw.on_persist_ready(settled);
    }

    /// Counts elections and pins the timeout after anything that may have changed the role or the term. Raft draws
    /// its timeouts from the system; ours depend on the seed, the term and the role alone.
    fn settle(&mut self) {
        let raft = &mut self.raw.raft;
        let wanted = self.timing.draw(self.seed, raft.term, raft.state as u64);
        if raft.randomized_election_timeout() != wanted {
            raft.set_randomized_election_timeout(wanted);
        }
    }

    fn note_change(&mut self) -> bool {
        let now = (self.role(), self.term(), self.raw.raft.leader_id);
        let changed = now != self.seen;
        // A lone voter is a candidate and a leader within one step.
        if matches!(now.0, Role::Candidate | Role::Leader) && self.seen.1 != now.1 {
            self.elections += 1;
            self.votes = 1;
        }
        self.seen = now;
        changed
    }
}

fn read_context(state: &raft::ReadState) -> Option<(u64, u64)> {
    let context = state.request_ctx.as_slice().try_into().ok()?;
    Some((u64::from_le_bytes(context), state.index))
}

#[cfg(test)]
mod tests;
