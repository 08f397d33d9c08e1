//! One node: the real core and the real state machine between a simulated disk and network, performing effects by
//! the same rules as the real driver. It can die between any two of them.

use std::collections::{BTreeMap, VecDeque};

use esnode::consensus::{
    ConfState, Core, CoreConfig, Durable as _, Effects, Fetch, Message, Persist, Role, Status, Timing,
};
use esnode::driver::{Content, WayBack};
use esnode::entry::Entry;
use esnode::state_machine::StateMachine;
use shared::ids::NodeId;

use super::Micros;
use super::bugs::Bug;
use super::catch_up::Pace;
use super::checkpoint::Checkpoint;
use super::checks::Broken;
use super::client::Request;
use super::disk::Disk;
use super::env::{Env, Event};
use super::log::{DiskLog, Pulled};
use super::members::Change;
use super::trace::mix;

/// What reaches a node.
#[derive(Debug)]
pub enum Input {
    /// 10 ms passed.
    Tick,
    /// From another node.
    Message(Box<Message>),
    /// The sync under way returned.
    Synced,
    /// The core hears that work up to this number is durable.
    Persisted(u64),
    /// The disk comes to read old entries.
    Fetch(Fetch),
    /// Old entries came from the disk.
    Fetched(Fetch, Vec<Entry>),
    /// Time to apply what is committed.
    Apply,
    /// A checkpoint is written.
    Checkpointed(Box<Checkpoint>),
    /// A pull is over.
    Pulled(Option<Pulled>),
    /// From a client.
    Request(Request),
    /// From the operator: hand leadership over.
    Transfer(NodeId),
    /// From the operator: change the members.
    Change(Change),
}

impl Input {
    /// Its name, for the trace.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Message(_) => "message",
            Self::Synced => "synced",
            Self::Persisted(_) => "persisted",
            Self::Fetch(_) => "fetch",
            Self::Fetched(..) => "fetched",
            Self::Apply => "apply",
            Self::Checkpointed(_) => "checkpointed",
            Self::Pulled(_) => "pulled",
            Self::Request(_) => "request",
            Self::Transfer(_) => "transfer",
            Self::Change(_) => "change",
        }
    }

    /// A number that tells it from most others, for the trace's digest.
    pub fn mark(&self) -> u64 {
        match self {
            Self::Tick => 0,
            Self::Message(message) => mix(1, mix(message.term, message.index)),
            Self::Synced => 2,
            Self::Persisted(number) => mix(3, *number),
            Self::Fetch(fetch) => mix(4, fetch.low),
            Self::Fetched(fetch, entries) => mix(5, mix(fetch.low, entries.len() as u64)),
            Self::Apply => 6,
            Self::Request(request) => mix(7, mix(request.client as u64, request.call)),
            Self::Transfer(to) => mix(8, *to),
            Self::Change(change) => mix(9, change.node()),
            Self::Checkpointed(checkpoint) => mix(10, checkpoint.index),
            Self::Pulled(pulled) => mix(11, pulled.as_ref().map_or(0, Content::index)),
        }
    }
}

/// Why a node did not finish what it was doing.
#[derive(Debug)]
pub enum Stop {
    /// It lost its power.
    Died,
    /// It broke a promise.
    Broken(Broken),
}

impl Stop {
    /// What was broken by a node that cannot have died.
    fn into_broken(self) -> Broken {
        match self {
            Self::Broken(broken) => broken,
            Self::Died => Broken("a node died while it started".to_owned()),
        }
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Ticks for which a mistaken leader trusts what it heard: less than the shortest election timeout.
const LEASE: u64 = 15;

/// A proposal whose client waits.
pub(super) struct Waiting {
    pub(super) term: u64,
    pub(super) client: usize,
    pub(super) call: u64,
}

pub(super) struct Running {
    pub(super) core: Core<DiskLog>,
    pub(super) stream: StateMachine,
    /// Committed, not yet applied.
    pub(super) backlog: VecDeque<Entry>,
    /// Index of the newest entry that was ever in the backlog.
    pub(super) handed: u64,
    /// Index of the newest entry that Raft itself gave; a mistaken node that counts is ahead of it.
    pub(super) given: u64,
    /// By index.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// Barriers asked for, by context.
    pub(super) barriers: BTreeMap<u64, Request>,
    /// Barriers that hold once this index is applied.
    pub(super) held: Vec<(u64, Request)>,
    pub(super) contexts: u64,
    /// Ticks that this life has seen.
    pub(super) ticks: u64,
    pub(super) pace: Pace,
    pub(super) way: WayBack<Pulled>,
    /// The term led since it was last told so, and the end of the log at its beginning: as leader it serves no writes
    /// before that is applied.
    pub(super) serves_from: Option<(u64, u64)>,
    /// Reads are served without asking until then; only a mistaken node has leases.
    pub(super) lease: u64,
    pub(super) leases: bool,
}

impl Running {
    /// It leads, and has applied all that was committed before its term: so it knows every topic that was created.
    pub(super) fn serves(&self) -> bool {
        let from = self.serves_from.filter(|(term, _)| *term == self.core.term());
        let applied = self.stream.applied_index();
        self.core.role() == Role::Leader && from.is_some_and(|(_, from)| from <= applied)
    }

    /// A mistaken leader's belief that nobody else leads yet.
    pub(super) fn leased(&self) -> bool {
        self.leases && self.ticks < self.lease && self.core.role() == Role::Leader
    }
}

/// A node, up or down.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Counts its starts: what was meant for an earlier life is not delivered.
    pub life: u64,
    /// Its disk.
    pub disk: Disk,
    /// Dies after so many more actions.
    pub fuse: Option<u32>,
    /// Stands still until then, as if stopped by a signal.
    pub paused_until: Micros,
    /// The disk finishes nothing before then.
    pub stalled_until: Micros,
    /// Time between its ticks: clocks drift.
    pub tick: Micros,
    pub(super) founders: ConfState,
    pub(super) running: Option<Running>,
}

impl Node {
    /// A node that has never run.
    pub fn new(id: NodeId, founders: ConfState, tick: Micros, env: &Env) -> Self {
        Self {
            id,
            life: 0,
            disk: Disk::new(env.profile.segment, 3 * id, env.bug),
            fuse: None,
            paused_until: 0,
            stalled_until: 0,
            tick,
            founders,
            running: None,
        }
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts from the disk: from its checkpoint, or with an empty state; what is committed after it is applied again.
    pub fn start(&mut self, env: &mut Env) -> Result<(), Broken> {
        let (mut hard_state, log) = self.disk.recover();
        self.life += 1;
        self.fuse = None;
        let length = log.get().entries.len();
        env.note(format_args!("node {} starts: {hard_state:?}, {length} entries", self.id));
        let mut before = log.get().base.1;
        for entry in &log.get().entries {
            env.checks.logged(self.id, entry, before)?;
            before = entry.term;
        }
        let made = self.disk.checkpoint().cloned();
        let (stream, members, mut applied) = match &made {
            Some(found) => (found.state(), found.members.clone(), found.index),
            None => (StateMachine::default(), self.founders.clone(), 0),
        };
        env.checks.members(self.id, applied, &members)?;
        if env.bug == Some(Bug::SkipReplay) {
            applied = applied.max(hard_state.commit);
        }
        // What is applied was committed; a commit index on disk may lag.
        hard_state.commit = hard_state.commit.max(applied);
        let config = CoreConfig {
            id: self.id,
            seed: env.rng.u64(..),
            timing: Timing::from_spec(&env.profile.timing()),
            hard_state,
            conf_state: members,
            applied,
            tail_bytes: env.profile.tail_bytes,
        };
        let core = Core::new(config, log, &env.logger).expect("the simulator's configuration is sound");
        self.running = Some(Running {
            core,
            stream,
            backlog: VecDeque::new(),
            handed: applied,
            given: applied,
            waiting: BTreeMap::new(),
            barriers: BTreeMap::new(),
            held: Vec::new(),
            contexts: 0,
            ticks: 0,
            pace: Pace::from(applied),
            way: WayBack::default(),
            serves_from: None,
            lease: 0,
            leases: env.bug == Some(Bug::LeaseAcrossPause),
        });
        if let Some(Checkpoint { index, term, members, .. }) = made {
            self.offer(index, term, members, env).map_err(Stop::into_broken)?;
        }
        let phase = env.rng.u64(..self.tick);
        env.node(phase, self, Input::Tick);
        Ok(())
    }

    /// The power goes.
    pub fn crash(&mut self, env: &mut Env) {
        let (kept, all) = self.disk.crash(&mut env.rng);
        env.note(format_args!("node {} dies; {kept} of {all} frames under way are kept", self.id));
        env.network.ended(self.id);
        self.running = None;
        self.life += 1;
        self.fuse = None;
    }

    /// Takes one input and performs all effects that follow from it.
    pub fn take(&mut self, input: Input, env: &mut Env) -> Result<(), Broken> {
        match self.try_take(input, env) {
            Ok(()) => Ok(()),
            Err(Stop::Broken(broken)) => Err(broken),
            Err(Stop::Died) => {
                self.crash(env);
                let longest = if env.rng.bool() { 20_000 } else { 2_000_000 };
                let down = env.rng.u64(1_000..longest);
                env.at(down, Event::Start(self.id));
                Ok(())
            }
        }
    }

    /// The node's own account of the group.
    pub fn status(&self) -> Option<Status> {
        self.running.as_ref().map(|running| running.core.status())
    }

    /// Its applied state.
    pub fn stream(&self) -> Option<&StateMachine> {
        self.running.as_ref().map(|running| &running.stream)
    }

    fn try_take(&mut self, input: Input, env: &mut Env) -> Result<(), Stop> {
        let Some(running) = &mut self.running else { return Ok(()) };
        match input {
            Input::Tick => {
                running.ticks += 1;
                running.core.tick();
                self.checkpoint_if_due(env)?;
                self.trim_if_due(env)?;
                env.node(self.tick, self, Input::Tick);
            }
            Input::Message(message) => self.receive(*message, env)?,
            Input::Synced => self.synced(env)?,
            Input::Persisted(number) => self.persisted(number, env)?,
            Input::Checkpointed(checkpoint) => self.checkpointed(*checkpoint, env)?,
            Input::Pulled(pulled) => self.pulled(pulled, env)?,
            Input::Fetch(fetch) => {
                // What was retired meanwhile is not there.
                let found =
                    self.disk.log().entries(fetch.low, fetch.high, fetch.max_bytes).unwrap_or_default();
                let wait = env.read_latency();
                env.node(wait, self, Input::Fetched(fetch, found));
            }
            Input::Fetched(fetch, entries) => running.core.fetched(fetch, entries),
            Input::Apply => self.apply(env)?,
            Input::Request(request) => self.request(request, env),
            Input::Transfer(to) => running.core.transfer(to),
            Input::Change(change) => self.change(change, env)?,
        }
        // What came while it stood still is taken in one go.
        if env.now == self.paused_until || env.rng.u32(..100) < env.profile.gather {
            return Ok(());
        }
        while let Some(effects) = self.running.as_mut().and_then(|running| running.core.effects()) {
            self.perform(effects, env)?;
        }
        self.running()?.way.answered();
        if self.disk.begin() {
            let wait = self.disk_wait(env);
            env.node(wait, self, Input::Synced);
        }
        Ok(())
    }

    /// Time until the disk has done what it is asked to do now.
    pub(super) fn disk_wait(&self, env: &mut Env) -> Micros {
        env.disk_latency().max(self.stalled_until.saturating_sub(env.now))
    }

    /// One action more; it may be the last.
    pub(super) fn act(&mut self) -> Result<(), Stop> {
        match &mut self.fuse {
            Some(0) => Err(Stop::Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn running(&mut self) -> Result<&mut Running, Stop> {
        self.running.as_mut().ok_or(Stop::Died)
    }

    fn perform(&mut self, effects: Effects, env: &mut Env) -> Result<(), Stop> {
        for message in effects.send {
            self.act()?;
            env.send(message);
        }
        if let Some(work) = effects.persist {
            self.act()?;
            self.persist(work, env)?;
        }
        let term = self.running()?.core.term();
        let committed = !effects.committed.is_empty();
        for entry in effects.committed {
            self.running()?.given = entry.index;
            self.hand(entry, term, env)?;
        }
        if env.bug == Some(Bug::CommitByCount) {
            self.count(term, env)?;
        }
        let early = env.bug == Some(Bug::ReadBeforeApply);
        let running = self.running()?;
        for (context, index) in effects.reads {
            if let Some(request) = running.barriers.remove(&context) {
                running.lease = running.ticks + LEASE;
                running.held.push((if early { 0 } else { index }, request));
            }
        }
        self.serve_held(env)?;
        if effects.changed {
            self.changed(env)?;
        }
        for fetch in effects.fetch {
            let wait = env.read_latency();
            env.node(wait, self, Input::Fetch(fetch));
        }
        if env.profile.apply_lag == 0 {
            self.apply(env)?;
        } else if committed {
            let lag = env.rng.u64(..env.profile.apply_lag);
            env.node(lag, self, Input::Apply);
        }
        Ok(())
    }

    /// Takes a committed entry, to be applied.
    fn hand(&mut self, entry: Entry, term: u64, env: &mut Env) -> Result<(), Stop> {
        env.checks.committed(self.id, term, &entry)?;
        let running = self.running()?;
        if entry.index > running.handed {
            running.handed = entry.index;
            running.backlog.push_back(entry);
        }
        Ok(())
    }

    /// The mistake of a leader that takes for committed whatever a majority has.
    fn count(&mut self, term: u64, env: &mut Env) -> Result<(), Stop> {
        let status = self.running()?.core.status();
        if status.role != Role::Leader {
            return Ok(());
        }
        let own = self.disk.log().last_index();
        let peer =
            |id: &NodeId| status.peers.iter().find(|peer| peer.id == *id).map_or(0, |peer| peer.matched);
        let has = |id: &NodeId| if *id == self.id { own } else { peer(id) };
        let mut matched: Vec<_> = status.voters.iter().map(has).collect();
        matched.sort_unstable();
        let counted = matched[(matched.len() - 1) / 2].min(own);
        for index in self.running()?.handed + 1..=counted {
            let Some(entry) = self.disk.log().get().entry(index).cloned() else { break };
            self.hand(entry, term, env)?;
        }
        Ok(())
    }

    /// As leader: proposes what the operator asks for, when it is safe.
    fn change(&mut self, change: Change, env: &mut Env) -> Result<(), Stop> {
        let id = self.id;
        let running = self.running()?;
        if let Some(proposal) = change.proposal(id, &running.core.conf_state())
            && running.core.propose_change(&proposal).is_ok()
        {
            env.note(format_args!("node {id} proposes {change:?}"));
        }
        Ok(())
    }

    fn persist(&mut self, mut work: Persist, env: &mut Env) -> Result<(), Stop> {
        let number = work.number;
        let running = self.running()?;
        if env.bug == Some(Bug::CommitBeforeEntries)
            && let Some(state) = &mut work.hard_state
        {
            state.commit = running.core.status().commit;
        }
        if env.bug == Some(Bug::AckBeforeSync) && !work.lazy {
            running.core.persisted(number);
        }
        let staged = self.staged(&work)?;
        let early = staged.is_some() && env.bug == Some(Bug::InstalledBeforeSync);
        self.disk.submit(work, staged);
        if early { self.persisted(number, env) } else { Ok(()) }
    }

    fn synced(&mut self, env: &mut Env) -> Result<(), Stop> {
        self.act()?;
        if self.disk.fails && env.bug != Some(Bug::FailedSyncBelieved) {
            // Nothing is retried and believed: the process ends.
            return Err(Stop::Died);
        }
        let Some((number, entries)) = self.disk.synced() else { return Ok(()) };
        for (entry, before) in entries {
            env.checks.logged(self.id, &entry, before)?;
        }
        if env.bug != Some(Bug::AckBeforeSync) {
            // The disk has a thread of its own: it goes on, and its readers see the entries, before the core hears.
            let lag = env.rng.u64(..500);
            env.node(lag, self, Input::Persisted(number));
        }
        Ok(())
    }
}
