//! The loop: inputs, ticks, proposals, effects.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::RwLock;
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::Node;
use tokio::sync::watch;
use uuid::Uuid;

use super::catch_up::CatchUp;
use super::changes::Changes;
use super::checkpoints::{Checkpointing, Image};
use super::clock::Clock;
use super::formats::Unreadable;
use super::give_way::LostWork;
use super::input::Input;
use super::introductions::Introductions;
use super::membership::{ChangeError, Pending, change_of};
use super::proposals::Proposals;
use super::raft_log;
use super::reads::Reads;
use super::room::LowRoom;
use super::timekeeper::Timekeeper;
use super::transfer::Transfer;
use crate::consensus::{Core, Effects, Fetch, Heard, Message, Persist, Promotion, Role, Timing};
use crate::entry::{Entry, EntryKind, HardState};
use crate::net::peer::Transport;
use crate::node::handle::{Leadership, ProposeError};
use crate::process::rate_limited_log::RateLimitedLog;
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;
use crate::storage::writer::{Numbered, Work};
use crate::storage::{Batch, Checkpoints, Incoming, Log};

/// Inputs taken in one go, so that ticks and effects get their turn under any load.
const MAX_INPUTS: usize = 4096;
/// Ticks after which followers that were sent to a checkpoint are sent there again.
const SNAPSHOT_RETRY_TICKS: u64 = 100;
/// Ticks after the start from which on an unfinished catch-up of an earlier life is not gone on with.
const UNNEEDED_TICKS: u64 = 6000;

/// What the driver joins.
pub struct Parts {
    /// This node and its data directory.
    pub own: (NodeId, StoreId),
    /// What is reported as durable survives a power cut.
    pub synced: bool,
    /// Consensus, started from what the disk held.
    pub core: Core<Log>,
    /// The state machine.
    pub stream: Arc<RwLock<StateMachine>>,
    /// The way to the WAL thread.
    pub wal: Sender<Numbered>,
    /// The durable log.
    pub log: Log,
    /// The other nodes.
    pub transport: Arc<Transport>,
    /// The log's time.
    pub time: Arc<Timekeeper>,
    /// Wakes readers.
    pub changes: Arc<Changes>,
    /// The nodes of this node's configuration: where founders are.
    pub nodes: Vec<Node>,
    /// Announces the members.
    pub roster: watch::Sender<Arc<[Node]>>,
    /// Announces who leads.
    pub leadership: watch::Sender<Leadership>,
    /// Where inputs come from, and a way to send more.
    pub inputs: (Sender<Input>, Receiver<Input>),
    /// Called once, when the cluster's identity is first known here.
    pub on_cluster: Box<dyn FnOnce(ClusterId) + Send>,
    /// Checkpoints, and what depends on them.
    pub checkpoints: CheckpointParts,
}

/// What checkpoints need.
pub struct CheckpointParts {
    /// Where they go.
    pub files: Checkpoints,
    /// Entries between two.
    pub interval: u64,
    /// Bytes of log that Raft keeps for followers at least; one that lacks more gets files.
    pub keep_bytes: u64,
    /// Term of the one that this node has started from.
    pub term: Option<u64>,
    /// Where those of other nodes arrive.
    pub incoming: Incoming,
}

/// Why the loop ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The disk can no longer be trusted; the process must exit.
    DiskFailed(io::Error),
    /// Something was given to the disk of which the thread that writes knows nothing: a defect. The process must exit.
    LostWork,
    /// The cluster has several members, and what this node reports as durable is not. The process must exit.
    NotSynced,
    /// The cluster knows this node by another data directory; the process must exit.
    WrongStore,
    /// The node is no member any more.
    Removed,
    /// The members write an on-disk format that this program does not read; the process must exit.
    Unreadable(Unreadable),
}

/// The raft thread's state.
pub struct Driver {
    pub(super) parts: Parts,
    on_cluster: Option<Box<dyn FnOnce(ClusterId) + Send>>,
    reader: Sender<Fetch>,
    pub(super) proposals: Proposals,
    pub(super) reads: Reads,
    pub(super) introductions: Introductions,
    pub(super) timing: Timing,
    pub(super) heard: Heard,
    pub(super) promotion: Promotion,
    /// A change of the members under way.
    pub(super) change: Option<Pending>,
    /// The members, and where they are.
    pub(super) roster: Arc<[Node]>,
    /// Learners that are to vote once they keep up.
    pub(super) learners: Vec<NodeId>,
    /// What was last told of the members is as of this entry.
    pub(super) members_at: u64,
    pub(super) lost_work: LostWork,
    /// Not before this tick does a leader whose disk hangs hand over.
    pub(super) gives_way_from: u64,
    /// When this node, which was removed, ends.
    pub(super) leaving: Option<u64>,
    pub(super) transfer: Option<Transfer>,
    pub(super) checkpointing: Checkpointing,
    /// Followers with little room.
    pub(super) low: LowRoom,
    /// Something was forgotten since the last look.
    pub(super) freed: bool,
    pub(super) catch_up: CatchUp,
    /// A commit index that travels with the next write.
    lazy: Option<HardState>,
    /// Messages that no member can have sent.
    pub(super) implausible: RateLimitedLog,
    pub(super) tick: u64,
    /// Index of the last applied entry.
    pub(super) applied: u64,
    /// As leader: applied up to here means that everything committed before this term is applied.
    pub(super) serves_from: Option<u64>,
    /// When this node, which was told to stop, does.
    pub(super) stopping: Option<u64>,
    pub(super) ended: Option<Ended>,
}

impl Driver {
    /// Joins the parts.
    pub fn new(mut parts: Parts) -> io::Result<Self> {
        let reader = raft_log::spawn_reader(parts.log.clone(), parts.inputs.0.clone())?;
        let on_cluster = std::mem::replace(&mut parts.on_cluster, Box::new(|_| {}));
        let (applied, payload) = {
            let stream = parts.stream.read();
            (stream.applied_index(), stream.payload())
        };
        let timing = *parts.core.timing();
        let CheckpointParts { files, interval, incoming, .. } = &parts.checkpoints;
        let inputs = parts.inputs.0.clone();
        let checkpointing = Checkpointing::start(
            *interval,
            (applied, payload),
            files.clone(),
            parts.log.clone(),
            inputs.clone(),
        )?;
        let catch_up =
            CatchUp::new(incoming.clone(), Arc::clone(&parts.transport), parts.log.clone(), inputs);
        Ok(Self {
            parts,
            on_cluster: Some(on_cluster),
            reader,
            proposals: Proposals::default(),
            reads: Reads::default(),
            introductions: Introductions::default(),
            heard: Heard::new(&timing),
            promotion: Promotion::new(&timing),
            timing,
            change: None,
            roster: Arc::default(),
            learners: Vec::new(),
            members_at: 0,
            lost_work: LostWork::default(),
            gives_way_from: 0,
            leaving: None,
            transfer: None,
            checkpointing,
            low: LowRoom::default(),
            freed: false,
            catch_up,
            lazy: None,
            implausible: RateLimitedLog::default(),
            tick: 0,
            applied,
            serves_from: None,
            stopping: None,
            ended: None,
        })
    }

    /// Introductions that arrived before Raft was started.
    pub fn greet(&mut self, hello: crate::net::peer::Hello) {
        self.introductions.greet(hello);
    }

    /// Runs until told to stop, or until it must.
    pub fn run(mut self) -> Ended {
        let mut clock = Clock::start();
        self.follow_members();
        // A checkpoint is as good as entries.
        self.after_apply(self.applied);
        if let Some(term) = self.parts.checkpoints.term {
            self.offer_checkpoint((self.applied, term, self.parts.core.conf_state()));
        }
        let inputs = self.parts.inputs.1.clone();
        loop {
            let quiet = self.quiet_ticks();
            let first = inputs.recv_timeout(clock.until_after(quiet)).ok();
            let passed = clock.passed(quiet);
            // The quiet ticks lie before the inputs; the one that acts must not overtake what has arrived.
            (0..passed.min(quiet)).for_each(|_| self.on_tick());
            if let Some(input) = first {
                self.handle(input);
                inputs.try_iter().take(MAX_INPUTS).for_each(|input| self.handle(input));
            }
            (quiet..passed).for_each(|_| self.on_tick());
            self.propose_gathered();
            self.prove_reads();
            self.perform_effects();
            if self.hand_over_if_due() {
                self.perform_effects();
            }
            self.catch_up.answered();
            if let Some(ended) = self.ended.take() {
                self.flush_lazy();
                return ended;
            }
        }
    }

    /// Ticks that may be slept through: nobody here waits for one of them.
    fn quiet_ticks(&self) -> u32 {
        let ending = self.stopping.is_some() || self.leaving.is_some();
        let waiting = ending || self.transfer.is_some() || self.reads.unproven();
        if waiting { 0 } else { self.parts.core.quiet_ticks() }
    }

    fn perform_effects(&mut self) {
        while let Some(effects) = self.parts.core.effects() {
            self.perform(effects);
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Propose(proposal) => self.proposals.gather(proposal),
            Input::Peer(event) => self.handle_peer(event),
            Input::Persisted(number) => self.on_persisted(number),
            Input::DiskFailed(error) => self.ended = Some(Ended::DiskFailed(error)),
            Input::Checkpoint => self.checkpointing.hurry(),
            Input::Checkpointed(written) => {
                if let Some(made) = self.checkpointing.done(written) {
                    self.offer_checkpoint(made);
                }
            }
            Input::Pulled(pulled) => {
                let term = self.parts.core.term();
                if let Some(message) = self.catch_up.pulled(pulled, self.applied, term) {
                    self.step(message);
                }
            }
            Input::Fetched(fetch, entries) => self.parts.core.fetched(fetch, entries),
            Input::ReadBarrier(reply) if self.parts.core.role() == Role::Leader => self.reads.ask(reply),
            Input::ReadBarrier(reply) => {
                let _ = reply.send(Err(ProposeError::NotLeader(self.parts.core.leader())));
            }
            Input::Status(reply) => drop(reply.send(Some(self.parts.core.status()))),
            Input::Transfer { to, reply } => self.begin_transfer(to, Some(reply)),
            Input::Change(change, reply) => self.begin_change(&change, Some(reply)),
            Input::RaisableFormat(wanted, reply) => drop(reply.send(self.raisable_format(wanted))),
            Input::Stop => self.begin_stop(),
        }
    }

    fn on_tick(&mut self) {
        self.tick += 1;
        if self.tick.is_multiple_of(SNAPSHOT_RETRY_TICKS) {
            self.parts.core.retry_snapshots();
        }
        if self.tick == UNNEEDED_TICKS {
            self.catch_up.discard_if_unneeded();
        }
        self.parts.core.tick();
        self.reads.retry_overdue(self.tick, self.timing.heartbeat as u64);
        self.finish_transfer();
        self.promote_learners();
        self.retry_adoption();
        self.leave_if_due();
        self.give_way_if_the_disk_hangs();
        self.begin_log_clock();
        self.follow_room();
        self.free_soon();
        self.checkpoint_if_due();
        if self.stopping.is_some_and(|deadline| self.tick >= deadline) {
            self.ended.get_or_insert(Ended::Stopped);
        }
    }

    fn on_persisted(&mut self, number: u64) {
        let image = self.catch_up.installed(number);
        self.parts.core.persisted(number);
        if let Some(Image { conf_state, stream }) = image {
            self.take_over(conf_state, stream);
        }
    }

    pub(super) fn propose_gathered(&mut self) {
        // In a hand-over they wait: for the next leader, which is then named, or for this one to lead on.
        if !self.proposals.any_gathered() || self.transfer.is_some() {
            return;
        }
        if self.parts.core.role() != Role::Leader {
            return self.proposals.refuse_gathered(ProposeError::NotLeader(self.parts.core.leader()));
        }
        if self.disk_hangs() {
            return self.proposals.refuse_gathered(ProposeError::Busy);
        }
        let serving = self.serves_from.is_none();
        self.proposals.judge(&self.parts.stream.read(), serving, &mut self.reads);
        if !self.proposals.any_gathered() {
            return;
        }
        self.tick_log_clock();
        let packed = self.proposals.pack();
        let payloads = packed.iter().map(|packed| packed.payload.clone()).collect();
        match self.parts.core.propose(payloads) {
            Ok(at) => self.proposals.proposed(at, packed),
            Err(_) => self.proposals.dropped(packed),
        }
    }

    fn prove_reads(&mut self) {
        if !self.parts.core.committed_in_term() {
            return;
        }
        if let Some(context) = self.reads.next_context(self.tick) {
            // Dropped means that leadership is gone; then the change answers whoever waits.
            let _ = self.parts.core.read_index(context);
        }
    }

    fn perform(&mut self, effects: Effects) {
        self.send(effects.send);
        if let Some(persist) = effects.persist {
            self.persist(persist);
        }
        for fetch in effects.fetch {
            // The reader ends only after this thread.
            let _ = self.reader.send(fetch);
        }
        for (context, index) in effects.reads {
            self.reads.proven(context, index);
        }
        if effects.changed {
            self.on_role_change();
        }
        self.apply(&effects.committed);
        self.reads.applied(self.applied);
    }

    fn send(&mut self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let mut by_peer: BTreeMap<NodeId, Vec<Message>> = BTreeMap::new();
        let stream = self.parts.stream.read();
        for mut message in
            messages.into_iter().filter(|message| self.introductions.may_send(&stream, message))
        {
            self.tell_room(&mut message);
            by_peer.entry(message.to).or_default().push(message);
        }
        drop(stream);
        for (peer, messages) in by_peer {
            self.parts.transport.send(peer, messages);
        }
    }

    fn persist(&mut self, persist: Persist) {
        let Persist { number, hard_state, snapshot, entries, lazy } = persist;
        if lazy {
            self.lazy = hard_state;
            return;
        }
        let hard_state = hard_state.or(self.lazy);
        self.lazy = None;
        if snapshot.is_some()
            && let Some((staged, format)) = self.catch_up.install(number)
        {
            if format > self.parts.transport.formats().active {
                self.write(None, Work::Adopt(format));
            }
            // Whoever waits for this number waits for the entries behind it too.
            let number = Some(number).filter(|_| entries.is_empty());
            self.write(number, Work::Install(staged, hard_state));
            if entries.is_empty() {
                return;
            }
        }
        self.write(Some(number), Work::Write(Batch { hard_state, entries }));
    }

    pub(super) fn write(&mut self, number: Option<u64>, work: Work) {
        if self.parts.wal.send((number, work)).is_err() {
            self.ended = Some(Ended::DiskFailed(io::Error::other("the WAL thread has ended")));
        }
    }

    fn flush_lazy(&mut self) {
        if let Some(hard_state) = self.lazy.take() {
            let batch = Batch { hard_state: Some(hard_state), entries: Vec::new() };
            self.write(None, Work::Write(batch));
        }
    }

    fn apply(&mut self, committed: &[Entry]) {
        let Some(last) = committed.last().map(|entry| entry.index) else { return };
        let mut touched = Vec::new();
        let mut stream = self.parts.stream.write();
        let mut outcomes = Vec::with_capacity(committed.len());
        let mut topics = false;
        for entry in committed {
            let applied = match entry.kind {
                EntryKind::Normal => stream.apply(entry.index, entry.term, &entry.data),
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                    stream.change_members(entry.index, change_of(entry).as_ref())
                }
            };
            touched.extend(applied.touched);
            self.freed |= applied.freed;
            topics |= applied.topics;
            outcomes.push((entry.index, entry.term, applied.replies));
        }
        drop(stream);
        self.apply_changes(committed);
        self.parts.core.applied(last);
        if topics {
            // Whoever is told of it asks any node for the topic at once.
            self.parts.core.tell_commit();
        }
        for (index, term, replies) in outcomes {
            self.proposals.applied(index, term, replies);
        }
        self.applied = last;
        touched.sort_unstable();
        touched.dedup();
        self.parts.changes.announce(&touched);
        self.after_apply(last);
    }

    /// Raft takes on the members that `committed` leads to.
    fn apply_changes(&mut self, committed: &[Entry]) {
        for entry in committed.iter().filter(|entry| entry.kind != EntryKind::Normal) {
            if let Some(members) = self.parts.core.apply_change(entry) {
                tracing::info!(index = entry.index, voters = ?members.voters, learners = ?members.learners, "members");
                self.follow_members();
            }
            self.changed_members(entry.index, entry.term);
        }
    }

    pub(super) fn after_apply(&mut self, applied: u64) {
        let stream = self.parts.stream.read();
        let cluster = stream.cluster_id();
        let members_at = stream.members().changed_at();
        let ticked = stream.clock().latest();
        drop(stream);
        self.parts.time.follow(ticked);
        if members_at != self.members_at {
            self.follow_members();
        }
        self.adopt_format();
        if let (Some(cluster), Some(on_cluster)) = (cluster, self.on_cluster.take_if(|_| cluster.is_some())) {
            on_cluster(cluster);
        }
        if self.serves_from.is_some_and(|index| index <= applied) {
            self.serves_from = None;
            self.parts.leadership.send_modify(|leadership| leadership.serving = true);
            if cluster.is_none() {
                let found = Command::Found { cluster_id: ClusterId(Uuid::new_v4()) };
                let begin: Vec<_> = [found].into_iter().chain(self.begin_in_newest_format()).collect();
                self.propose_own(&begin);
            }
            self.bind_members();
        }
    }

    pub(super) fn propose_own(&mut self, commands: &[Command]) {
        if commands.is_empty() {
            return;
        }
        let mut payload = bytes::BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut payload));
        // Dropped means that leadership is gone: the next leader proposes the same.
        let _ = self.parts.core.propose(vec![payload.freeze()]);
    }

    fn on_role_change(&mut self) {
        let (role, term, leader) = (self.parts.core.role(), self.parts.core.term(), self.parts.core.leader());
        tracing::info!(term, leader, "now {role:?}");
        let led = self.parts.leadership.borrow().leader == Some(self.parts.own.0);
        if role == Role::Leader {
            if !led || self.parts.leadership.borrow().term != term {
                self.introductions.new_term();
                self.heard.new_term();
                self.proposals.new_term();
                self.promotion.new_term();
                self.serves_from = Some(self.parts.core.status().last_index);
            }
        } else {
            self.serves_from = None;
            self.proposals.lost_leadership();
            self.reads.lost_leadership(leader);
            if let Some(mut change) = self.change.take() {
                change.answer(Err(ChangeError::Unknown));
            }
        }
        let serving = role == Role::Leader && self.serves_from.is_none();
        let handing_over = self.transfer.is_some();
        let before = self.parts.leadership.borrow().leaderless;
        let leaderless = leader.is_none().then(|| before.unwrap_or_else(Instant::now));
        let now = Leadership { leader, term, serving, handing_over, leaderless };
        self.parts.leadership.send_replace(now);
        self.finish_transfer();
    }
}
