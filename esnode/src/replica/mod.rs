//! One node's part in the cluster, as a pure machine: inputs go in, effects come out.
//!
//! A [`Replica`] joins consensus and the state machine, and makes every decision that belongs to a member of the cluster. It
//! touches nothing: time comes in as ticks and as [`Now`], the disk and the other nodes as inputs, chance as part of
//! [`Config`]. The raft thread and the simulator are two shells around it, which turn effects into IO and IO into inputs, and
//! decide nothing.
//!
//! The shell's loop: give it inputs ([`Replica::step`]), then take [`Replica::effects`] and perform them until there are
//! no more. It may give it more inputs in between: what there is to do comes in pieces, so that a shell can give way.

mod bootstrap;
mod conf_change;
mod disk_space;
mod effect;
mod environment;
mod formats;
mod hello;
mod input;
mod log_time;
mod members;
mod messages;
mod mistake;
mod peer_registry;
mod proposals;
mod read_barriers;
mod recovery;
mod response;
mod sequences;
mod serving;
mod snapshot;
mod snapshot_installer;
mod snapshots;
mod stall;
mod transfer;
mod writes;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock};
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::Node;

pub use self::bootstrap::{Bootstrap, Bootstrapped, JoinError, decline};
pub use self::conf_change::change_of;
pub use self::effect::{Effect, End, Leadership, Members, Write, WriteContent};
pub use self::environment::{Environment, FetchedSnapshot, ReplicaLog, Staged};
pub use self::formats::UnreadableFormat;
pub use self::hello::{Formats, Hello};
pub use self::input::{Claim, Input, Proposal, Request};
pub use self::log_time::{LogTime, Now};
pub use self::mistake::Mistake;
#[cfg(feature = "mistakes")]
pub use self::mistake::make;
pub use self::peer_registry::PeerRegistry;
pub use self::proposals::{MAX_WORK, portions};
pub use self::recovery::{UnknownChange, is_recovered, recover};
pub use self::response::{ChangeError, FormatError, ProposeError, Response, TransferError};
pub use self::snapshot::{Snapshot, SnapshotError};

use self::conf_change::PendingChange;
use self::disk_space::LowFollowers;
use self::mistake::makes;
use self::proposals::Proposals;
use self::read_barriers::ReadBarriers;
use self::response::Responses;
use self::snapshot_installer::SnapshotInstaller;
use self::snapshots::SnapshotPace;
use self::stall::LostWrite;
use self::transfer::Transfer;
use self::writes::{Durable, Writes};
use crate::batch_index::recent::RecentBatches;
use crate::consensus::{Core, Effects, LastContact, Persist, Promotion, Role, Status};
use crate::entry::{Entry, HardState};
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;

/// Ticks after which followers that were sent to a snapshot are sent there again.
const SNAPSHOT_RETRY_TICKS: u64 = 100;

/// What a replica is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node and its data directory.
    pub own: (NodeId, StoreId),
    /// Whether what is reported as durable survives a power cut.
    pub synced: bool,
    /// The nodes of this node's configuration: where the initial members are.
    pub nodes: Vec<Node>,
    /// The on-disk formats that this program reads, and the one that the data directory is in.
    pub formats: Formats,
    /// The identity that a new cluster gets if this node leads it first.
    pub new_cluster: ClusterId,
    /// Entries between two snapshots.
    pub snapshot_interval: u64,
    /// Ticks between two snapshots, at least.
    pub snapshot_pause: u64,
    /// Bytes of log that Raft keeps for followers at least; one that lacks more gets a snapshot.
    pub keep_bytes: u64,
    /// Term of the snapshot that this node has started from, if it has.
    pub snapshot_term: Option<u64>,
}

/// What a replica is made of, besides what it makes itself.
pub struct Parts<E: Environment> {
    /// Consensus, started from what the disk held.
    pub core: Core<E::Log>,
    /// The durable log.
    pub log: E::Log,
    /// The state machine, which others read.
    pub state: Arc<RwLock<StateMachine>>,
    /// The batches of the entries that are applied from now on, which others read.
    pub recent: Arc<RecentBatches>,
    /// The log's time, which others read.
    pub time: Arc<Mutex<LogTime>>,
    /// The other nodes, as far as they have said who they are.
    pub registry: PeerRegistry,
}

/// One node's part in the cluster.
pub struct Replica<E: Environment> {
    config: Config,
    core: Core<E::Log>,
    log: E::Log,
    state: Arc<RwLock<StateMachine>>,
    recent: Arc<RecentBatches>,
    time: Arc<Mutex<LogTime>>,
    now: Now,
    tick: u64,
    /// What there is to do and was not taken yet.
    effects: Vec<Effect<E>>,
    responses: Responses<E::Waiter>,
    ended: bool,

    /// Committed, and next to be applied.
    committed: VecDeque<Entry>,
    /// Index of the last applied entry.
    applied: u64,
    /// A commit index that travels with the next write.
    lazy: Option<HardState>,
    writes: Writes,

    leadership: Leadership,
    /// As leader: applied up to here means that everything committed before this term is applied.
    serves_from: Option<u64>,
    proposals: Proposals<E::Waiter>,
    barriers: ReadBarriers<E::Waiter>,
    transfer: Option<Transfer<E::Waiter>>,
    /// Not before this tick does a leader whose disk hangs, or is almost full, hand over.
    steps_down_from: u64,
    lost_write: LostWrite,
    low_followers: LowFollowers,
    refuses_events: bool,

    registry: PeerRegistry,
    last_contact: LastContact,
    promotion: Promotion,
    /// A change of the members under way.
    change: Option<PendingChange<E::Waiter>>,
    /// Every member whose address is known.
    roster: Arc<[Node]>,
    /// Learners that are to vote once they keep up.
    candidates: Vec<NodeId>,
    /// The entry as of which the members were last followed.
    members_at: u64,
    cluster: Option<ClusterId>,

    snapshots: SnapshotPace,
    installer: SnapshotInstaller<E::Fetched>,
    /// Events were deleted since the last check.
    freed: bool,

    /// When this node, which was removed, ends.
    leaves_at: Option<u64>,
    /// When this node, which was told to stop, ends.
    stops_at: Option<u64>,
}

impl<E: Environment> Replica<E> {
    /// Starts with what the disk held, when the clocks show `now`.
    pub fn new(config: Config, parts: Parts<E>, now: Now) -> Self {
        let Parts { core, log, state, recent, time, registry } = parts;
        let (applied, payload, writes) = {
            let state = state.read();
            (state.applied_index(), state.payload(), Writes::new(state.members().retired()))
        };
        let timing = *core.timing();
        let pace = (config.snapshot_interval, config.snapshot_pause);
        let mut replica = Self {
            snapshots: SnapshotPace::new(pace, (applied, payload)),
            last_contact: LastContact::new(&timing),
            promotion: Promotion::new(&timing),
            config,
            core,
            log,
            state,
            recent,
            time,
            now,
            tick: 0,
            effects: Vec::new(),
            responses: Vec::new(),
            ended: false,
            committed: VecDeque::new(),
            applied,
            lazy: None,
            writes,
            leadership: Leadership::default(),
            serves_from: None,
            proposals: Proposals::default(),
            barriers: ReadBarriers::default(),
            transfer: None,
            steps_down_from: 0,
            lost_write: LostWrite::default(),
            low_followers: LowFollowers::default(),
            refuses_events: false,
            registry,
            change: None,
            roster: Arc::default(),
            candidates: Vec::new(),
            members_at: 0,
            cluster: None,
            installer: SnapshotInstaller::default(),
            freed: false,
            leaves_at: None,
            stops_at: None,
        };
        replica.follow_members();
        // A snapshot is as good as entries.
        replica.after_apply();
        if let Some(term) = replica.config.snapshot_term {
            replica.publish_snapshot((applied, term, replica.core.conf_state()));
        }
        replica
    }

    /// Takes one input, when the clocks show `now`.
    pub fn step(&mut self, input: Input<E>, now: Now) {
        self.now = now;
        match input {
            Input::Tick => self.on_tick(),
            Input::Hello(hello) => self.on_hello(hello),
            Input::Messages(from, messages) => self.on_messages(from, messages),
            Input::Connected(peer) => self.registry.connected(peer),
            Input::Disconnected(peer) => {
                self.registry.disconnected(peer);
                self.core.unreachable(peer);
            }
            Input::RefusedAsRemoved(peer) => self.on_refused_as_removed(peer),
            Input::RefusedAsAbandoned(peer) => self.on_refused_as_abandoned(peer),
            Input::Persisted(number) => self.on_persisted(number),
            Input::FormatAdopted(format) => self.format_adopted(format),
            Input::LogRead(read, entries) => self.core.fetched(read, entries),
            Input::SnapshotWritten(written) => self.snapshot_ended(written),
            Input::SnapshotFetched(fetched) => self.snapshot_fetched(fetched),
            Input::RequestSnapshot => self.snapshots.request(),
            Input::Request(request, waiter) => self.on_request(request, waiter),
            Input::Stop => self.begin_stop(),
        }
    }

    /// The next piece of what there is to do, when the clocks show `now`; `None` once all inputs so far are dealt with. A
    /// piece may be without effects.
    pub fn effects(&mut self, now: Now) -> Option<Vec<Effect<E>>> {
        self.now = now;
        let advanced = self.advance();
        let effects = self.take_effects();
        (advanced || !effects.is_empty()).then_some(effects)
    }

    /// Whether nothing is left to do until the next input.
    pub fn is_idle(&self) -> bool {
        self.committed.is_empty() && !self.core.has_effects()
    }

    /// Takes the next step on what the inputs have led to. Returns whether there may be another one.
    fn advance(&mut self) -> bool {
        let proposed = self.propose_gathered();
        self.prove_reads();
        #[cfg(feature = "mistakes")]
        if makes(Mistake::CommitByCount) {
            self.core.commit_by_count();
        }
        if !self.committed.is_empty() {
            self.apply();
        } else if let Some(ready) = self.core.effects() {
            self.take(ready);
        } else if !self.hand_over_if_due() {
            self.installer.answered();
            return proposed;
        }
        true
    }

    fn take_effects(&mut self) -> Vec<Effect<E>> {
        let responses = std::mem::take(&mut self.responses);
        let mut effects = std::mem::take(&mut self.effects);
        let end = effects.extract_if(.., |effect| matches!(effect, Effect::End(_))).next();
        effects.extend(responses.into_iter().map(|(waiter, response)| Effect::Respond(waiter, response)));
        effects.extend(end);
        effects
    }

    /// Ticks that may be slept through: nobody here waits for one of them.
    pub fn quiet_ticks(&self) -> u32 {
        let ending = self.stops_at.is_some() || self.leaves_at.is_some();
        let waiting = ending || self.transfer.is_some() || self.barriers.any_unproven();
        if waiting { 0 } else { self.core.quiet_ticks() }
    }

    /// What consensus knows.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    fn on_tick(&mut self) {
        self.tick += 1;
        if self.tick.is_multiple_of(SNAPSHOT_RETRY_TICKS) {
            self.core.retry_snapshots();
        }
        self.discard_fetched_if_unneeded();
        self.core.tick();
        self.barriers.retry_overdue(self.tick, self.core.timing().heartbeat as u64);
        self.finish_transfer();
        self.promote_learners();
        self.retry_adoption();
        self.leave_if_due();
        self.step_down_if_stalled();
        self.begin_log_time();
        self.follow_disk_space();
        self.free_soon();
        self.snapshot_if_due();
        self.stop_if_due();
    }

    /// Whether this node leads and has applied everything committed before its term.
    fn serves(&self) -> bool {
        let applied = self.serves_from.is_none() || makes(Mistake::ServeBeforeApplied);
        self.core.role() == Role::Leader && applied
    }

    /// Ends with this reason, unless there is one already.
    fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.ended, true) {
            if let Some(hard_state) = self.lazy.take() {
                self.write(WriteContent::Append(Some(hard_state), Vec::new()));
            }
            self.effects.push(Effect::End(end));
        }
    }

    fn take(&mut self, ready: Effects) {
        self.send(ready.send);
        if let Some(persist) = ready.persist {
            self.persist(persist);
        }
        self.effects.extend(ready.fetch.into_iter().map(Effect::ReadLog));
        for (context, index) in ready.reads {
            self.barriers.proven(context, index);
        }
        if ready.changed {
            self.on_role_change();
        }
        self.committed = ready.committed.into();
        self.barriers.applied(self.applied, &mut self.responses);
    }

    fn persist(&mut self, persist: Persist) {
        let Persist { number, hard_state, snapshot, entries, lazy } = persist;
        if lazy {
            self.lazy = hard_state;
            return;
        }
        let hard_state = hard_state.or(self.lazy.take());
        let install = snapshot.and_then(|_| self.installer.install(number));
        let Some(fetched) = install else {
            return self.write_durably(Durable::Work(number), WriteContent::Append(hard_state, entries));
        };
        let (staged, format) = (fetched.staged(), fetched.snapshot().state.format());
        if format > self.config.formats.active {
            self.write(WriteContent::AdoptFormat(format));
        }
        let (work, install) = (Durable::Work(number), WriteContent::Install(staged, hard_state));
        if entries.is_empty() {
            return self.write_durably(work, install);
        }
        // The work is done once the entries behind the snapshot are durable too.
        self.write(install);
        self.write_durably(work, WriteContent::Append(hard_state, entries));
    }

    /// Proposes commands that nobody waits for. Returns false if they are dropped: leadership is gone, and the next leader
    /// proposes the same, or is being transferred.
    fn propose_own(&mut self, commands: &[Command]) -> bool {
        if commands.is_empty() {
            return true;
        }
        let mut payload = BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut payload));
        self.core.propose(vec![payload.freeze()]).is_ok()
    }
}
