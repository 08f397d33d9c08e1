//! The raft thread: gives events to the replica as inputs, and performs its effects.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use shared::ids::ClusterId;
use shared::spec::Node;
use tokio::sync::watch;

use super::clock::Clock;
use super::packer::SnapshotStates;
use super::snapshot_fetcher::SnapshotFetcher;
use super::snapshot_writer::SnapshotWriter;
use super::step_stats::{Step, StepStats};
use super::{Event, GroupWakers, LeaderView, PartitionWakers, Threads, discarder, log_reader, read_clocks};
use crate::consensus::LogRead;
use crate::net::peer::{PeerEvent, RefusalCode, Transport};
use crate::process::rate_limited_log::RateLimitedLog;
use crate::replica::{Effect, End, Input, Members, Now, Replica, Staged, Write, WriteContent};
use crate::state_machine::Topic;
use crate::storage::writer::{NumberedRequest, WalRequest};
use crate::storage::{Batch, Incoming, Log, Snapshots};

/// Largest number of events that are handled at once, so that ticks and effects are not delayed under load.
const MAX_EVENTS: usize = 4096;
/// Time for which events are handled at once, for the same reason.
const EVENTS_TURN: Duration = Duration::from_micros(200);
/// Time after which effects have to wait until events had their turn.
const TURN: Duration = Duration::from_micros(500);

/// What the raft thread needs to perform effects.
pub struct Surroundings {
    /// The durable log.
    pub log: Log,
    /// The snapshots beside it.
    pub snapshots: Snapshots,
    /// Gets the state of each snapshot that is written.
    pub snapshot_states: SnapshotStates,
    /// Where snapshots of other nodes arrive.
    pub incoming: Incoming,
    /// Sends work to the thread that writes the log.
    pub writer: Sender<NumberedRequest>,
    /// The other nodes.
    pub transport: Arc<Transport>,
    /// Wakes readers.
    pub wakers: Arc<PartitionWakers>,
    /// Wakes those who wait for a group.
    pub group_wakers: Arc<GroupWakers>,
    /// Announces the members.
    pub roster: watch::Sender<Arc<[Node]>>,
    /// Announces who leads.
    pub leadership: watch::Sender<LeaderView>,
    /// Called once, when this node first knows the cluster's identity.
    pub on_cluster: Box<dyn FnOnce(ClusterId) + Send>,
    /// How long steps take.
    pub steps: Arc<StepStats>,
    /// The events, and a sender for more.
    pub events: (Sender<Event>, Receiver<Event>),
}

/// Why the raft thread ended.
#[derive(Debug)]
pub enum Ended {
    /// The replica has ended.
    Replica(End),
    /// The disk can no longer be trusted; the process must exit.
    DiskFailed(io::Error),
}

/// The raft thread's state.
pub struct RaftThread {
    replica: Replica<Threads>,
    /// Time at which the current events were taken.
    now: Now,
    with: Surroundings,
    on_cluster: Option<Box<dyn FnOnce(ClusterId) + Send>>,
    log_reader: Sender<LogRead>,
    discarder: Sender<Vec<Topic>>,
    snapshot_writer: SnapshotWriter,
    snapshot_fetcher: SnapshotFetcher,
    implausible: RateLimitedLog,
    /// Effects that are to be performed, in order.
    effects: VecDeque<Effect<Threads>>,
    ended: Option<Ended>,
}

impl RaftThread {
    /// Starts the threads that this one uses.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(replica: Replica<Threads>, mut with: Surroundings) -> io::Result<Self> {
        let on_cluster = std::mem::replace(&mut with.on_cluster, Box::new(|_| {}));
        let events = &with.events.0;
        let snapshot_fetcher = SnapshotFetcher {
            incoming: with.incoming.clone(),
            transport: Arc::clone(&with.transport),
            log: with.log.clone(),
            events: events.clone(),
        };
        Ok(Self {
            replica,
            now: read_clocks(),
            on_cluster: Some(on_cluster),
            log_reader: log_reader::spawn(with.log.clone(), events.clone())?,
            discarder: discarder::spawn()?,
            snapshot_writer: SnapshotWriter::spawn(
                with.snapshots.clone(),
                with.log.clone(),
                with.snapshot_states.clone(),
                events.clone(),
            )?,
            snapshot_fetcher,
            implausible: RateLimitedLog::default(),
            effects: VecDeque::new(),
            ended: None,
            with,
        })
    }

    /// Runs until the replica ends, or the disk fails.
    pub fn run(mut self) -> Ended {
        let mut clock = Clock::start();
        let events = self.with.events.1.clone();
        let mut is_done = self.perform_effects(&Step::begin());
        loop {
            let quiet = if is_done { self.replica.quiet_ticks() } else { 0 };
            let first = match is_done {
                true => events.recv_timeout(clock.until_after(quiet)).ok(),
                false => events.try_recv().ok(),
            };
            let step = Step::begin();
            let passed = clock.passed(quiet);
            self.now = read_clocks();
            // The quiet ticks were before the events. The next tick, which acts, must come after them.
            (0..passed.min(quiet)).for_each(|_| self.step(Input::Tick));
            if let Some(event) = first {
                self.handle(event);
                for _ in 0..MAX_EVENTS {
                    let more = (step.took() < EVENTS_TURN).then(|| events.try_recv());
                    let Some(Ok(event)) = more else { break };
                    self.handle(event);
                }
            }
            (quiet..passed).for_each(|_| self.step(Input::Tick));
            is_done = self.perform_effects(&step);
            step.end(&self.with.steps);
            if let Some(ended) = self.ended.take() {
                return ended;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Input(input) => self.step(input),
            Event::Peer(event) => self.handle_peer(event),
            Event::DiskFailed(error) => self.ended = Some(Ended::DiskFailed(error)),
        }
    }

    fn handle_peer(&mut self, event: PeerEvent) {
        let input = match event {
            PeerEvent::Hello(hello) => Input::Hello(hello),
            PeerEvent::Messages(from, mut messages) => {
                // The peer may send more only when these messages are handled.
                return self.step(Input::Messages(from, messages.take()));
            }
            PeerEvent::Connected(peer) => Input::Connected(peer),
            PeerEvent::Disconnected(peer) => Input::Disconnected(peer),
            PeerEvent::Refused(peer, refused) => match refused.code {
                RefusalCode::Removed => Input::RefusedAsRemoved(peer),
                RefusalCode::Abandoned => Input::RefusedAsAbandoned(peer),
                _ => return,
            },
        };
        self.step(input);
    }

    fn step(&mut self, input: Input<Threads>) {
        self.replica.step(input, self.now);
    }

    /// Performs effects until there are none, or until it is the events' turn. Returns whether there are none.
    fn perform_effects(&mut self, step: &Step) -> bool {
        loop {
            match self.effects.pop_front() {
                Some(effect) => self.perform(effect),
                None => match self.replica.effects(self.now) {
                    Some(effects) => self.effects = effects.into(),
                    None => return true,
                },
            }
            if step.took() >= TURN {
                return false;
            }
        }
    }

    fn perform(&mut self, effect: Effect<Threads>) {
        match effect {
            Effect::Send(to, messages) => drop(self.with.transport.send(to, messages)),
            Effect::Write(write) => self.write(write),
            // The reader ends only after this thread.
            Effect::ReadLog(read) => drop(self.log_reader.send(read)),
            Effect::Respond(waiter, response) => waiter.respond(response),
            Effect::Wake(partitions) => self.with.wakers.wake(&partitions),
            Effect::WakeGroups(groups) => self.with.group_wakers.wake(&groups),
            Effect::Leadership(leadership) => {
                self.with.leadership.send_modify(|view| *view = view.next(leadership));
            }
            Effect::Members(members) => self.connect(members),
            Effect::Cluster(cluster) => {
                if let Some(on_cluster) = self.on_cluster.take() {
                    on_cluster(cluster);
                }
            }
            Effect::RefuseEvents(refuse) => {
                self.with.log.stats().refuses_events.store(refuse, Relaxed);
            }
            Effect::WriteSnapshot(term, snapshot) => self.snapshot_writer.write(term, snapshot),
            Effect::FetchSnapshot(from, have) => self.snapshot_fetcher.begin(from, have),
            Effect::DiscardFetched => self.snapshot_fetcher.discard(),
            Effect::Discard(topics) => drop(self.discarder.send(topics)),
            Effect::DeleteLog(index) => self.with.log.delete_before(index),
            Effect::Implausible(peer, kind, reason) => {
                if let Some(times) = self.implausible.due() {
                    tracing::warn!(peer, ?kind, times, "ignored a message that cannot be true: {reason}");
                }
            }
            Effect::End(end) => {
                self.ended.get_or_insert(Ended::Replica(end));
            }
        }
    }

    fn write(&mut self, write: Write<Staged<Threads>>) {
        let work = match write.content {
            WriteContent::Append(hard_state, entries) => WalRequest::Write(Batch { hard_state, entries }),
            WriteContent::Install(staged, hard_state) => WalRequest::Install(staged, hard_state),
            WriteContent::AdoptFormat(format) => WalRequest::Adopt(format),
        };
        if self.with.writer.send((write.number, work)).is_err() {
            self.ended = Some(Ended::DiskFailed(io::Error::other("the WAL thread has ended")));
        }
    }

    fn connect(&mut self, members: Members) {
        let Members { roster, bindings, retired } = members;
        self.with.transport.set_bindings(bindings.into_iter().collect(), retired.into_iter().collect());
        let peers = roster.iter().map(|node| (node.id, node.host.clone(), node.cluster_port));
        if let Err(error) = self.with.transport.set_peers(peers.collect()) {
            tracing::error!(%error, "cannot connect to a member");
        }
        self.with.roster.send_replace(roster);
    }
}
