//! One node: the real [`Replica`] between a simulated disk and network. This shell performs effects and decides nothing. The
//! node can die between any two of them.

use std::sync::Arc;

use esnode::batch_index::recent::RecentBatches;
use esnode::consensus::{ConfState, Core, CoreConfig, LogRead, Role, Status, Timing};
use esnode::process::version::FORMAT;
use esnode::replica::{
    Bootstrap, Bootstrapped, Config, Environment, Input, Leadership, LogTime, Members, Now, Parts,
    PeerRegistry, Replica, Request as ReplicaRequest, Snapshot, decline,
};
use esnode::state_machine::StateMachine;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use shared::ids::{ClusterId, NodeId};
use shared::version::Range;
use uuid::Uuid;

use super::Micros;
use super::arrival::Arrival;
use super::bugs::Bug;
use super::checks::InvariantViolation;
use super::client::{Answer, Request};
use super::disk::Disk;
use super::env::{Env, Event};
use super::identity::{Identity, address};
use super::log::{DiskLog, Fetched};

/// Ticks from one greeting of the other nodes to the next: connections break and come back.
const GREET_TICKS: u64 = 25;
/// Segments' worth of log that Raft keeps for followers; one that lacks more gets a snapshot.
const KEPT_SEGMENTS: u64 = 2;
/// Ticks for which a mistaken leader trusts what it heard: less than the shortest election timeout.
const LEASE_TICKS: u64 = 15;

/// The simulator as the surroundings of a replica.
pub struct Simulated;

impl Environment for Simulated {
    type Log = DiskLog;
    type Waiter = Waiter;
    type Fetched = Fetched;
}

/// Who waits for the response to a request.
#[derive(Debug)]
pub enum Waiter {
    /// A client's call.
    Client(usize, u64),
    /// A client's read, behind a barrier.
    Read(Request),
    /// The operator.
    Operator,
}

/// Why a node did not finish what it was doing.
#[derive(Debug)]
pub enum Stop {
    /// It lost its power.
    Died,
    /// It was removed from the cluster, and ended.
    Removed,
    /// It broke a promise.
    Violation(InvariantViolation),
}

impl From<InvariantViolation> for Stop {
    fn from(violation: InvariantViolation) -> Self {
        Self::Violation(violation)
    }
}

/// A node that takes part in a cluster.
pub(super) struct Member {
    pub(super) replica: Replica<Simulated>,
    pub(super) state: Arc<RwLock<StateMachine>>,
    /// The batches of what it has applied in this life.
    pub(super) recent: Arc<RecentBatches>,
    pub(super) leadership: Leadership,
    pub(super) members: Members,
    /// It leads, and refuses events.
    pub(super) refuses_events: bool,
    /// Ticks that this life has seen.
    pub(super) ticks: u64,
    /// Lists of effects that were performed.
    pub(super) turns: u64,
    /// Reads are served without asking until then; only a mistaken node has leases.
    pub(super) lease: u64,
    /// An installation was reported as durable too early, by mistake: so is what comes behind it.
    pub(super) early: bool,
}

impl Member {
    /// A mistaken leader's belief that nobody else leads yet.
    pub(super) fn leased(&self) -> bool {
        self.ticks < self.lease && self.replica.status().role == Role::Leader
    }

    pub(super) fn renew_lease(&mut self) {
        self.lease = self.ticks + LEASE_TICKS;
    }
}

/// A node that runs.
enum Running {
    /// Without a cluster yet.
    Joining(Box<Bootstrap>),
    /// In its cluster.
    Member(Box<Member>),
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
    /// The on-disk formats that its program reads.
    pub reads: Range,
    /// The nodes that are configured to begin the cluster.
    configured: Vec<NodeId>,
    running: Option<Running>,
}

impl Node {
    /// A node that has never run.
    pub fn new(id: NodeId, configured: Vec<NodeId>, tick: Micros, env: &mut Env) -> Self {
        let identity = Identity::fresh(env.next_store());
        Self {
            id,
            life: 0,
            disk: Disk::new(identity, env.profile.segment, 3 * id, env.bug),
            fuse: None,
            paused_until: 0,
            stalled_until: 0,
            tick,
            reads: FORMAT,
            configured,
            running: None,
        }
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// The node's own account of the group; `None` when it has none.
    pub fn status(&self) -> Option<Status> {
        self.as_member().map(|member| member.replica.status())
    }

    /// The batches of what it has applied since it started or installed a snapshot.
    pub fn recent(&self) -> Option<&RecentBatches> {
        self.as_member().map(|member| &*member.recent)
    }

    /// Its applied state.
    pub fn state(&self) -> Option<RwLockReadGuard<'_, StateMachine>> {
        self.as_member().map(|member| member.state.read())
    }

    pub(super) fn as_member(&self) -> Option<&Member> {
        match &self.running {
            Some(Running::Member(member)) => Some(member),
            _ => None,
        }
    }

    /// What it takes part with.
    pub(super) fn member(&mut self) -> Result<&mut Member, Stop> {
        match &mut self.running {
            Some(Running::Member(member)) => Ok(member),
            _ => Err(Stop::Died),
        }
    }

    /// Whether it refuses what the owner of that data directory sends, since that was removed.
    pub fn refuses(&self, identity: &Identity) -> bool {
        self.as_member().is_some_and(|member| member.members.retired.contains_key(&identity.store))
    }

    /// What the clocks of its machine show.
    pub(super) fn now(&self, env: &Env) -> Now {
        let ms = i64::try_from(env.now / 1000).unwrap_or(i64::MAX);
        Now { boot: ms + 1_000 * self.id.cast_signed(), wall: ms }
    }

    /// Starts from the disk: without a cluster if it is empty, else from its snapshot or an empty state; what is committed
    /// after that is applied again.
    pub fn start(&mut self, env: &mut Env) -> Result<(), InvariantViolation> {
        self.life += 1;
        self.fuse = None;
        if self.disk.identity.fresh {
            env.note(format_args!("node {} starts without a cluster", self.id));
            let own = self.disk.identity.hello(self.id, self.reads, &nobody(), 0);
            self.running = Some(Running::Joining(Box::new(Bootstrap::new(own, self.configured.clone()))));
        } else {
            self.take_part(PeerRegistry::default(), env)?;
        }
        self.greet(env);
        let phase = env.rng.u64(..self.tick);
        env.node(phase, self, Arrival::Tick);
        Ok(())
    }

    /// A node without a cluster got one.
    fn bootstrapped(&mut self, how: Bootstrapped, env: &mut Env) -> Result<(), Stop> {
        env.note(format_args!("node {}: {how:?}", self.id));
        self.act()?;
        self.disk.identity.bootstrapped(how, &self.configured);
        let Some(Running::Joining(bootstrap)) = self.running.take() else { return Ok(()) };
        self.take_part(bootstrap.into_registry(), env)?;
        self.perform_effects(env)
    }

    fn take_part(&mut self, registry: PeerRegistry, env: &mut Env) -> Result<(), InvariantViolation> {
        let (mut hard_state, log) = self.disk.recover();
        let length = log.get().entries.len();
        env.note(format_args!("node {} starts: {hard_state:?}, {length} entries", self.id));
        let mut before = log.get().base.1;
        for entry in &log.get().entries {
            env.checks.logged(self.id, entry, before)?;
            before = entry.term;
        }
        let found = self.disk.snapshot().cloned();
        let initial = || ConfState { voters: self.disk.identity.initial.clone(), ..ConfState::default() };
        let (Snapshot { state, conf_state }, mut applied) = match &found {
            Some(file) => (file.decode(), file.index),
            None => (Snapshot { state: StateMachine::default(), conf_state: initial() }, 0),
        };
        env.checks.members(self.id, applied, &conf_state)?;
        if env.bug == Some(Bug::SkipReplay) {
            applied = applied.max(hard_state.commit);
        }
        // What is applied was committed; a commit index on disk may lag.
        hard_state.commit = hard_state.commit.max(applied);
        let core = CoreConfig {
            id: self.id,
            seed: env.rng.u64(..),
            timing: Timing::from_spec(&env.profile.timing()),
            hard_state,
            conf_state,
            applied,
            tail_bytes: env.profile.tail_bytes,
        };
        let recent = Arc::new(RecentBatches::since_entry(state.applied_index() + 1));
        let state = Arc::new(RwLock::new(state));
        let parts = Parts {
            core: Core::new(core, log.clone()).expect("the simulator's configuration is sound"),
            log,
            state: Arc::clone(&state),
            recent: Arc::clone(&recent),
            time: Arc::new(Mutex::new(LogTime::default())),
            registry,
        };
        let config = self.config(found.map(|file| file.term), env);
        let replica = Replica::new(config, parts, self.now(env));
        self.running = Some(Running::Member(Box::new(Member {
            replica,
            state,
            recent,
            leadership: Leadership::default(),
            members: nobody(),
            refuses_events: false,
            ticks: 0,
            turns: 0,
            lease: 0,
            early: false,
        })));
        Ok(())
    }

    fn config(&self, snapshot_term: Option<u64>, env: &mut Env) -> Config {
        Config {
            own: (self.id, self.disk.identity.store),
            synced: true,
            nodes: self.configured.iter().map(|id| address(*id)).collect(),
            formats: self.disk.identity.formats(self.reads),
            new_cluster: ClusterId(Uuid::from_u128(env.rng.u128(..))),
            snapshot_interval: env.profile.snapshots,
            snapshot_pause: env.profile.snapshot_pause,
            keep_bytes: KEPT_SEGMENTS * env.profile.segment,
            snapshot_term,
        }
    }

    /// The power goes.
    pub fn crash(&mut self, env: &mut Env) {
        let (kept, all) = self.disk.crash(&mut env.rng);
        env.note(format_args!("node {} dies; {kept} of {all} frames under way are kept", self.id));
        self.end(env);
    }

    fn end(&mut self, env: &mut Env) {
        env.network.ended(self.id);
        self.running = None;
        self.life += 1;
        self.fuse = None;
        env.hang_up(self.id);
    }

    /// Its disk is replaced by an empty one, while it is down.
    pub fn wipe(&mut self, env: &mut Env) {
        env.note(format_args!("node {} gets an empty disk", self.id));
        self.disk = Disk::new(Identity::fresh(env.next_store()), env.profile.segment, 3 * self.id, env.bug);
    }

    /// Takes what arrives, and performs all effects that follow from it.
    pub fn take(&mut self, arrival: Arrival, env: &mut Env) -> Result<(), InvariantViolation> {
        let longest = match self.try_take(arrival, env) {
            Ok(()) => return Ok(()),
            Err(Stop::Violation(violation)) => return Err(violation),
            Err(Stop::Removed) => {
                // As its last words ask: its data directory is deleted, and it starts again to be added again.
                self.end(env);
                self.wipe(env);
                2_000_000
            }
            Err(Stop::Died) => {
                self.crash(env);
                if env.rng.bool() { 20_000 } else { 2_000_000 }
            }
        };
        let down = env.rng.u64(1_000..longest);
        env.at(down, Event::Start(self.id));
        Ok(())
    }

    fn try_take(&mut self, arrival: Arrival, env: &mut Env) -> Result<(), Stop> {
        match &mut self.running {
            None => return Ok(()),
            Some(Running::Joining(bootstrap)) => {
                // A node without others waits for nobody.
                let complete = bootstrap.is_complete();
                match join(bootstrap, arrival)? {
                    Joined::Not => {}
                    Joined::Tick => {
                        self.greet_if_due(env);
                        env.node(self.tick, self, Arrival::Tick);
                        if complete {
                            self.bootstrapped(Bootstrapped::New, env)?;
                        }
                    }
                    Joined::Now(how) => self.bootstrapped(how, env)?,
                    Joined::Asked(client, call) => {
                        env.reply(client, call, Answer::of(decline(&ReplicaRequest::ReadBarrier)));
                    }
                }
            }
            Some(Running::Member(_)) => self.arrive(arrival, env)?,
        }
        // What came while it stood still is taken in one go.
        if env.now == self.paused_until || env.rng.u32(..100) < env.profile.gather {
            return Ok(());
        }
        if self.as_member().is_some() {
            self.perform_effects(env)?;
        }
        if self.disk.begin() {
            let wait = self.disk_wait(env);
            env.node(wait, self, Arrival::Synced);
        }
        Ok(())
    }

    fn arrive(&mut self, arrival: Arrival, env: &mut Env) -> Result<(), Stop> {
        let input = match arrival {
            Arrival::Tick => {
                self.member()?.ticks += 1;
                self.greet_if_due(env);
                self.delete_records_if_due(env)?;
                env.node(self.tick, self, Arrival::Tick);
                Input::Tick
            }
            Arrival::Message(message) => Input::Messages(message.from, vec![*message]),
            Arrival::Hello(hello) => {
                self.step(Input::Connected(hello.node), env)?;
                Input::Hello(*hello)
            }
            Arrival::Disconnected(node) => Input::Disconnected(node),
            Arrival::Refused(node) => Input::RefusedAsRemoved(node),
            Arrival::Synced => return self.synced(env),
            Arrival::Persisted(number) => Input::Persisted(number),
            Arrival::FormatAdopted(format) => Input::FormatAdopted(format),
            Arrival::Read(read) => return self.read_log(read, env),
            Arrival::LogRead(read, entries) => Input::LogRead(read, entries),
            Arrival::SnapshotWritten(file) => {
                self.act()?;
                self.disk.keep(*file);
                Input::SnapshotWritten(true)
            }
            Arrival::Fetched(fetched) => Input::SnapshotFetched(fetched),
            Arrival::Request(request) => return self.request(request, env),
            Arrival::Operator(request) => Input::Request(request, Waiter::Operator),
        };
        self.step(input, env)
    }

    pub(super) fn step(&mut self, input: Input<Simulated>, env: &Env) -> Result<(), Stop> {
        let now = self.now(env);
        self.member()?.replica.step(input, now);
        Ok(())
    }

    fn read_log(&mut self, read: LogRead, env: &mut Env) -> Result<(), Stop> {
        use esnode::consensus::Durable as _;
        // What was deleted meanwhile is not there.
        let found = self.disk.log().entries(read.low, read.high, read.max_bytes).unwrap_or_default();
        let wait = env.read_latency();
        env.node(wait, self, Arrival::LogRead(read, found));
        Ok(())
    }

    fn greet_if_due(&self, env: &mut Env) {
        if (env.now / self.tick).is_multiple_of(GREET_TICKS) {
            self.greet(env);
        }
    }

    /// Tells all others who it is.
    fn greet(&self, env: &mut Env) {
        let nobody = nobody();
        let members = self.as_member().map_or(&nobody, |member| &member.members);
        for other in (1..=env.nodes).filter(|other| *other != self.id) {
            env.greet(self.disk.identity.hello(self.id, self.reads, members, other), other);
        }
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
}

/// What an arrival means for a node without a cluster.
enum Joined {
    Not,
    Tick,
    Now(Bootstrapped),
    Asked(usize, u64),
}

fn join(bootstrap: &mut Bootstrap, arrival: Arrival) -> Result<Joined, Stop> {
    let joined = match arrival {
        Arrival::Tick => return Ok(Joined::Tick),
        Arrival::Request(request) => return Ok(Joined::Asked(request.client, request.call)),
        Arrival::Hello(hello) => {
            bootstrap.registry().connected(hello.node);
            // Whoever is known by another data directory ends, and is started again in vain.
            bootstrap.hello(*hello).map_err(|_| Stop::Died)?;
            None
        }
        Arrival::Message(message) => bootstrap.messages(message.from, &[*message]),
        Arrival::Refused(peer) => {
            bootstrap.refused_as_removed(peer).map_err(|_| Stop::Removed)?;
            None
        }
        _ => None,
    };
    let complete = || bootstrap.is_complete().then_some(Bootstrapped::New);
    Ok(joined.or_else(complete).map_or(Joined::Not, Joined::Now))
}

fn nobody() -> Members {
    Members { roster: Arc::default(), bindings: Default::default(), retired: Default::default() }
}
