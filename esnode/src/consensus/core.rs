//! The machine: inputs in, effects out.

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

/// Payload of one message to a follower.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Messages to one follower without an answer; with their payload, the memory that a slow follower takes.
const MAX_INFLIGHT_MESSAGES: usize = 64;
/// Payload proposed and not yet committed; beyond it proposals are refused.
const MAX_UNCOMMITTED_BYTES: u64 = 64 << 20;
/// Payload applied in one go, so that a long replay lets ticks and messages through.
const MAX_APPLY_BYTES: u64 = 4 << 20;

/// How to start.
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
    /// What is on disk cannot be.
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

/// The proposal was not taken: this node does not lead, is handing over, or has too much in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proposal dropped")]
pub struct Dropped;

/// Where a proposal's entries stand in the log, unless they lose to another leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Term they were proposed in.
    pub term: u64,
    /// Index of the first.
    pub first: u64,
}

/// What to write, and the number to report when it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Reported to [`Core::persisted`].
    pub number: u64,
    /// New term, vote or commit index; goes before the entries.
    pub hard_state: Option<HardState>,
    /// Index of a snapshot that takes the place of the whole log; goes before anything else.
    pub snapshot: Option<u64>,
    /// Replace what is at their indices and above.
    pub entries: Vec<Entry>,
    /// Nothing depends on it reaching the disk: it may travel with the next write.
    pub lazy: bool,
}

/// What the caller must do, in any order but each exactly once.
#[derive(Debug, Default)]
pub struct Effects {
    /// Send at once; loss is tolerated.
    pub send: Vec<Message>,
    /// Hand to the disk; work reaches the disk in the order of the numbers.
    pub persist: Option<Persist>,
    /// Apply in order, then report [`Core::applied`].
    pub committed: Vec<Entry>,
    /// Read barriers that hold once `index` is applied: (context, index).
    pub reads: Vec<(u64, u64)>,
    /// Role, term or leader changed.
    pub changed: bool,
    /// Read these off-thread and give them to [`Core::fetched`].
    pub fetch: Vec<LogRead>,
}

/// One node's consensus.
pub struct Core<D: Durable> {
    raw: RawNode<View<D>>,
    id: NodeId,
    seed: u64,
    timing: Timing,
    disk: InFlight,
    /// Number of the newest Effects taken from Raft.
    newest: u64,
    /// Messages freed by the disk, for the next effects.
    freed: Vec<Message>,
    /// The last state given to the disk.
    saved: HardState,
    /// Number of the work that puts a snapshot in the log's place.
    installing: Option<u64>,
    seen: (Role, u64, NodeId),
    /// Highest commit index heard from a leader; the own one lags behind while entries are missing.
    heard_commit: u64,
    ticks: u64,
    /// The tick at which the disk last finished something.
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
            // Followers serve no reads: they may learn the commit index with the next append or heartbeat.
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
            // Before it campaigns Raft reads all that is not applied yet, to look for changes of the members, and panics
            // when a snapshot is about to take their place. So it only forgets a leader that it hears no more.
            raft.become_follower(raft.term, raft::INVALID_ID);
        } else {
            self.raw.tick();
        }
        self.settle();
    }

    /// Ticks that will do nothing but count, unless something arrives before them.
    pub fn quiet_ticks(&self) -> u32 {
        let raft = &self.raw.raft;
        let until_acting = match raft.state {
            StateRole::Leader => (raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed()))
                .min(raft.election_timeout().saturating_sub(raft.election_elapsed)),
            _ => raft.randomized_election_timeout().saturating_sub(raft.election_elapsed),
        };
        u32::try_from(until_acting.saturating_sub(1)).unwrap_or(u32::MAX / 2)
    }

    /// A message arrived from another node.
    ///
    /// # Errors
    /// [`Implausible`]: no node can have sent it; nothing has changed.
    pub fn receive(&mut self, message: Message) -> Result<(), Implausible> {
        let message = plausible(message, &self.place())?;
        let granted = message.kind == MessageType::RequestVoteResponse
            && !message.reject
            && message.term == self.raw.raft.term
            && self.raw.raft.state == StateRole::Candidate;
        self.votes += u64::from(granted);
        if self.installing.is_some() && message.kind == MessageType::TimeoutNow {
            // It would campaign at once: see `tick`. Whoever hands over gives up soon.
            return Ok(());
        }
        let (from, commit) = (message.from, message.commit);
        let appends = message.kind == MessageType::Append;
        // Raft refuses what it cannot place (a stranger's answer, a local message); there is nothing to do about it.
        let _ = self.raw.step(message_to_raft(message));
        if appends && self.raw.raft.leader_id == from {
            self.heard_commit = self.heard_commit.max(commit);
        }
        self.settle();
        Ok(())
    }

    /// What messages are judged by.
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

    /// The mistake of taking for committed what a majority has, whatever its term (Raft paper, figure 8).
    #[cfg(feature = "mistakes")]
    pub fn commit_by_count(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader {
            let counted = raft.mut_prs().maximal_committed_index().0;
            raft.raft_log.commit_to(counted);
        }
    }

    /// Proposes payloads, one entry each, in this order.
    ///
    /// # Errors
    /// [`Dropped`]: this node does not lead, hands over, or has too much in flight.
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

    /// As leader: begins to hand leadership to a voter; Raft gives up after an election timeout. Others would ask the leader
    /// to, which nobody listens to.
    pub fn transfer(&mut self, to: NodeId) {
        if self.raw.raft.state == StateRole::Leader {
            self.raw.transfer_leader(to);
            self.settle();
        }
    }

    /// A hand-over is under way: proposals are dropped until it ends.
    pub fn transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// The peer cannot be reached: stop streaming to it until it answers again.
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

    /// Raft needs no entries up to `index` any more, which is applied and in a snapshot: a follower that does gets
    /// the snapshot. The durable log keeps them.
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

    /// Sends followers to the newest snapshot again that have not said yet that they have one: the message, or
    /// they, may have been lost. One that is busy with it takes no harm.
    pub fn retry_snapshots(&mut self) {
        let progress = self.raw.raft.prs().iter();
        let waiting: Vec<_> =
            progress.filter(|(_, p)| p.state == ProgressState::Snapshot).map(|(id, _)| *id).collect();
        for id in waiting {
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
        self.settle();
    }

    /// Applies a committed membership change; the caller does so when it meets the entry in `committed`.
    pub fn apply_change(&mut self, entry: &Entry) -> Option<ConfState> {
        let change = change::parse(entry)?;
        let applied = self.raw.apply_conf_change(&change).ok();
        self.leave_office();
        self.settle();
        applied.map(conf_state_from_raft)
    }

    /// A leader that is no voter any more, which is one that was elected while its removal was on its way, hands over to
    /// the best voter. Raft would let it lead on: its heartbeats keep the others from electing, it drops every proposal,
    /// and it panics when its own last entries become durable.
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

    /// Entries asked for by [`Effects::fetch`].
    pub fn fetched(&mut self, fetch: LogRead, entries: Vec<Entry>) {
        for context in self.raw.mut_store().fetched(fetch, entries) {
            self.raw.on_entries_fetched(context);
        }
        self.raw.mut_store().drop_fetched();
        self.settle();
    }

    /// What there is to do; `None` when there is nothing.
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

    /// The members, as of what is applied.
    pub fn conf_state(&self) -> ConfState {
        conf_state_from_raft(self.raw.raft.prs().conf().to_conf_state())
    }

    /// This node's view of the group.
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

    /// Ticks for which there is work at the disk and none has come back.
    pub fn disk_wait(&self) -> u64 {
        self.disk.oldest().map_or(0, |since| self.ticks - since.max(self.disk_moved))
    }

    /// Its timing.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// What this node is.
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

    /// As leader: an entry of its own term is committed, so everything committed before is known here.
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
