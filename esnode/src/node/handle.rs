//! The node as its listeners see it: they propose, read and ask through a handle. Cheap to clone, and safe to use from
//! any thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use crossbeam_channel::Sender;
use parking_lot::{RwLock, RwLockReadGuard};
use shared::api::{CatchUp, ClusterStatus, ConsumerGroups};
use shared::backup::{self, Manifest};
use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node};
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use crate::entry::MAX_PAYLOAD;
use crate::maintenance::backup::{BackupError, Backups, Pieces};
use crate::net::peer::{PeerStats, Transport};
use crate::node::groups::GroupReports;
use crate::node::report;
use crate::process::version::VERSION;
use crate::replica::{
    ChangeError, Claim, FormatError, Input, Proposal, ProposeError, Request, TransferError, portions,
};
use crate::runtime::{
    Budget, Event, GroupWakers, LeaderView, PartitionWakers, StepStats, Timekeeper, Waiter,
};
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::command::{Command, Reply};
use crate::state_machine::members::Change;
use crate::state_machine::{StateMachine, TopicId};
use crate::storage::Log;
use crate::storage::batch_reader::BatchReader;
use crate::storage::stats::Stats;

/// Largest size of batches that are proposed through this node and not yet answered, in bytes; further ones wait.
/// Together with other proposals it is less than what consensus accepts before a commit.
const MAX_APPENDED_BYTES: usize = 56 << 20;
/// Largest size of all other commands in flight, in bytes; further ones are refused as busy. Producers cannot use it
/// up.
const MAX_PROPOSED_BYTES: usize = 4 << 20;

/// Partitions that are looked at while the raft thread waits, at most.
const MAX_LOOKED_AT: usize = 256;

/// The node, as its listeners see it.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

/// The parts of a handle.
pub struct Parts {
    /// Id of this node.
    pub node_id: NodeId,
    /// The configuration it was started with.
    pub file: ClusterFile,
    /// When it was started, RFC 3339.
    pub started_at: String,
    /// The durable log.
    pub log: Log,
    /// The state machine.
    pub state_machine: Arc<RwLock<StateMachine>>,
    /// Finds batches in the log.
    pub batches: BatchReader,
    /// The log's time.
    pub time: Timekeeper,
    /// How long the raft thread's steps take.
    pub steps: Arc<StepStats>,
    /// Wakes readers when a partition changes.
    pub wakers: Arc<PartitionWakers>,
    /// Wakes those who wait for a group.
    pub group_wakers: Arc<GroupWakers>,
    /// Sends events to the raft thread.
    pub events: Sender<Event>,
    /// The leader, and its changes.
    pub leadership: watch::Receiver<LeaderView>,
    /// The members with their addresses, and their changes.
    pub roster: watch::Receiver<Arc<[Node]>>,
    /// The connections to other nodes.
    pub transport: Arc<Transport>,
    /// Takes backups.
    pub backups: Backups,
}

struct Inner {
    parts: Parts,
    config_hash: String,
    settings_hash: String,
    appending: Arc<Semaphore>,
    proposing: Arc<Semaphore>,
    groups: GroupReports,
}

/// Why the on-disk format was not raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// The leader refused it.
    #[error(transparent)]
    Refused(#[from] FormatError),
    /// It was proposed, and may or may not happen.
    #[error(transparent)]
    Proposed(#[from] ProposeError),
}

impl Handle {
    /// Returns a handle made of these parts.
    pub fn new(parts: Parts) -> Self {
        let config_hash = parts.file.config_hash();
        let settings_hash = parts.file.settings_hash(parts.node_id);
        let appending = Arc::new(Semaphore::new(MAX_APPENDED_BYTES));
        let proposing = Arc::new(Semaphore::new(MAX_PROPOSED_BYTES));
        let groups = GroupReports::default();
        Self { inner: Arc::new(Inner { parts, config_hash, settings_hash, appending, proposing, groups }) }
    }

    /// Returns the id of this node.
    pub fn node_id(&self) -> NodeId {
        self.inner.parts.node_id
    }

    /// The configuration that the node was started with.
    pub fn file(&self) -> &ClusterFile {
        &self.inner.parts.file
    }

    /// Returns the members with their addresses; before this node is part of a cluster, the nodes of its configuration.
    pub fn roster(&self) -> Arc<[Node]> {
        Arc::clone(&self.inner.parts.roster.borrow())
    }

    /// Returns a reader of the durable log.
    pub fn log(&self) -> &Log {
        &self.inner.parts.log
    }

    /// Returns a reader of the batches in the log.
    pub fn batches(&self) -> &BatchReader {
        &self.inner.parts.batches
    }

    /// The state machine. Hold the guard briefly and never across an await: the raft thread waits for it.
    pub fn state_machine(&self) -> RwLockReadGuard<'_, StateMachine> {
        self.inner.parts.state_machine.read()
    }

    /// The state as it is now, for whoever looks at much of it: nobody waits for who has it, and to take it costs
    /// nothing. What looks at little had better use [`Handle::state_machine`], since each change of the state has to
    /// copy a little of what is shared.
    pub fn frozen_state(&self) -> StateMachine {
        self.state_machine().clone()
    }

    /// Looks at so many partitions, in the way that suits their number.
    pub fn look_at<T>(&self, partitions: usize, look: impl FnOnce(&StateMachine) -> T) -> T {
        if partitions > MAX_LOOKED_AT { look(&self.frozen_state()) } else { look(&self.state_machine()) }
    }

    /// The log's time.
    pub fn time(&self) -> &Timekeeper {
        &self.inner.parts.time
    }

    /// How long the raft thread's steps take.
    pub fn steps(&self) -> &StepStats {
        &self.inner.parts.steps
    }

    /// Returns a receiver of the leader, and of its changes.
    pub fn leadership(&self) -> watch::Receiver<LeaderView> {
        self.inner.parts.leadership.clone()
    }

    /// Proposes `commands` as one unit and waits until they are committed and applied here. Sending happens before
    /// the first await (call order = log order); dropping the future does not take the proposal back.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(
        &self,
        commands: &[Command],
    ) -> impl Future<Output = Result<Vec<Reply>, ProposeError>> + Send + use<> {
        let submitted = self.submit(commands);
        async move { submitted?.await.unwrap_or(Err(ProposeError::Stopping)) }
    }

    /// As [`Handle::propose`], but in as many entries as keep each one short to apply. After an error some may have
    /// happened.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose_many(
        &self,
        commands: &[Command],
    ) -> impl Future<Output = Result<Vec<Reply>, ProposeError>> + Send + use<> {
        let portions = portions(commands, Command::work).into_iter();
        let proposed: Vec<_> = portions.map(|portion| self.propose(&commands[portion])).collect();
        async move {
            let mut replies = Vec::new();
            for proposed in proposed {
                replies.extend(proposed.await?);
            }
            Ok(replies)
        }
    }

    /// Waits until batches of `bytes` bytes may be proposed; first come, first served.
    pub async fn room(&self, bytes: usize) -> Budget {
        let permit = Arc::clone(&self.inner.appending).acquire_many_owned(permits(bytes)).await;
        Budget::new(permit.ok())
    }

    /// As [`Handle::room`], but returns `None` instead of waiting.
    pub fn try_room(&self, bytes: usize) -> Option<Budget> {
        let permit = Arc::clone(&self.inner.appending).try_acquire_many_owned(permits(bytes)).ok()?;
        Some(Budget::new(Some(permit)))
    }

    /// Proposes one batch, as [`Handle::propose`] does, within `budget`. A batch that the state machine would refuse is
    /// refused here, without an entry in the log.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn append(
        &self,
        (topic, partition): (TopicId, u32),
        batch: Bytes,
        budget: Budget,
    ) -> impl Future<Output = Result<Vec<Reply>, ProposeError>> + Send + 'static {
        let header = BatchHeader::read(&batch).filter(|header| header.producer_id >= 0);
        let claim = header.map(|header| Claim { topic, partition, header });
        let mut payload = BytesMut::new();
        Command::Append { topic, partition, batch }.encode(&mut payload);
        let submitted = match self.refuses_events() {
            true => Err(ProposeError::NoRoom),
            false => self.send(Proposal { payload: payload.freeze(), commands: 1, work: 1, claim }, budget),
        };
        async move { submitted?.await.unwrap_or(Err(ProposeError::Stopping)) }
    }

    /// Whether a full disk prevents events from being accepted; what is left is for commands that free space.
    fn refuses_events(&self) -> bool {
        self.log().stats().refuses_events.load(Ordering::Relaxed)
    }

    fn submit(&self, commands: &[Command]) -> Result<Replies, ProposeError> {
        if commands.iter().any(takes_room) && self.refuses_events() {
            return Err(ProposeError::NoRoom);
        }
        let mut payload = BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut payload));
        if payload.len() > MAX_PAYLOAD {
            return Err(ProposeError::TooLarge);
        }
        let permits = permits(payload.len());
        let permit = Arc::clone(&self.inner.proposing).try_acquire_many_owned(permits);
        let budget = Budget::new(Some(permit.map_err(|_| ProposeError::Busy)?));
        let work = commands.iter().map(Command::work).sum();
        let proposal = Proposal { payload: payload.freeze(), commands: commands.len(), work, claim: None };
        self.send(proposal, budget)
    }

    fn send(&self, proposal: Proposal, budget: Budget) -> Result<Replies, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Propose(proposal);
        let event = Event::request(request, Waiter::Proposal(reply, budget));
        self.inner.parts.events.send(event).map_err(|_| ProposeError::Stopping)?;
        Ok(answer)
    }

    /// Returns once this node is proven to be the leader still, and has applied all that was committed when asked
    /// (Raft thesis 6.4, read index).
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        self.ask(Request::ReadBarrier, Waiter::ReadBarrier).await.unwrap_or(Err(ProposeError::Stopping))
    }

    /// Returns a signal (`notify_waiters`) for whenever the partition grows, is created or is deleted.
    pub fn partition_changes(&self, topic: TopicId, partition: u32) -> Arc<Notify> {
        self.inner.parts.wakers.of(&(topic, partition))
    }

    /// Signalled (`notify_waiters`) whenever the group changes.
    pub fn group_changes(&self, group: &str) -> Arc<Notify> {
        self.inner.parts.group_wakers.of(&group.to_owned())
    }

    /// Returns the status for the admin API, as the raft thread reports it now.
    pub async fn status(&self) -> ClusterStatus {
        let raft = self.raft_status().await;
        let (cluster_id, active_format) = {
            let state_machine = self.state_machine();
            (state_machine.cluster_id(), state_machine.format())
        };
        let parts = &self.inner.parts;
        report::cluster_status(&report::Facts {
            node_id: parts.node_id,
            file: &parts.file,
            roster: &self.roster(),
            cluster_id,
            active_format,
            last_term: parts.log.term(parts.log.last_index()).ok().flatten(),
            config_hash: &self.inner.config_hash,
            settings_hash: &self.inner.settings_hash,
            started_at: &parts.started_at,
            raft: raft.as_ref(),
            catch_up: catch_up(parts.log.stats()),
            lacks_room: parts.log.stats().lacks_room.load(Ordering::Relaxed),
            low_room: parts.log.stats().low_room.load(Ordering::Relaxed),
            refuses_events: parts.log.stats().refuses_events.load(Ordering::Relaxed),
            peers: &self.peer_stats(),
        })
    }

    /// Returns the consumer groups with their lag, as of a moment ago; `None` unless this node leads. A follower hears
    /// late what is committed, so that its groups would be behind less than they are.
    pub async fn groups(&self) -> Option<Arc<ConsumerGroups>> {
        if !self.inner.parts.leadership.borrow().serving {
            return None;
        }
        Some(self.inner.groups.get(&self.inner.parts.state_machine).await)
    }

    /// Begins a backup that contains at least entry `covers`, and everything that this node knows to be committed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup(&self, covers: u64) -> Result<Pieces, BackupError> {
        let parts = &self.inner.parts;
        let committed = self.raft_status().await.map_or(0, |status| status.commit);
        // The raft thread ends only when the node stops.
        let request = || drop(parts.events.send(Event::Input(Input::RequestSnapshot)));
        let describe = || {
            let (cluster_id, format) = {
                let state_machine = self.state_machine();
                (state_machine.cluster_id()?, state_machine.format())
            };
            Some(Manifest {
                schema_version: backup::SCHEMA_VERSION,
                cluster_name: parts.file.cluster.name.clone(),
                cluster_id,
                node: parts.node_id,
                version: VERSION.to_owned(),
                format,
                initial_members: parts.transport.initial_voters(),
                first_index: 0,
                last_index: 0,
                last_term: 0,
                taken_at: format!("{:.0}", jiff::Timestamp::now()),
                files: Vec::new(),
            })
        };
        parts.backups.begin(&parts.log, covers.max(committed), request, describe).await
    }

    /// Returns the status of consensus; `None` while the node waits to bootstrap or join a cluster, or is stopping.
    pub async fn raft_status(&self) -> Option<crate::consensus::Status> {
        self.ask(Request::Status, Waiter::Status).await.flatten()
    }

    /// Returns statistics of the connections to the other nodes.
    pub fn peer_stats(&self) -> BTreeMap<NodeId, PeerStats> {
        self.inner.parts.transport.peer_stats().into_iter().map(|peer| (peer.id, peer)).collect()
    }

    /// Returns whether the connection that `peer` has opened to this node is open. If a node is killed, it is closed at
    /// once, long before the node's silence is noticed.
    pub fn hears(&self, peer: NodeId) -> bool {
        self.inner.parts.transport.peer_stats().iter().any(|stats| stats.id == peer && stats.inbound)
    }

    /// Transfers leadership to `to`, or to the voter whose log is most complete. Returns the new leader and its term.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<(NodeId, u64), TransferError> {
        let asked = self.ask(Request::TransferLeader(to), Waiter::Transfer).await;
        asked.unwrap_or(Err(TransferError::TimedOut))
    }

    /// Changes the members, as leader. Returns when the change is committed and applied here; at once if it was made
    /// before.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let asked = self.ask(Request::ChangeMembers(change), Waiter::Change).await;
        asked.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Raises the cluster's on-disk format to `wanted`, or to the newest that all members read. Returns the format that
    /// is active then. It is no error if that format, or a newer one, was active before.
    ///
    /// # Errors
    /// [`RaiseError`].
    pub async fn raise_format(&self, wanted: Option<u16>) -> Result<u16, RaiseError> {
        let asked = self.ask(Request::RaisableFormat(wanted), Waiter::Format).await;
        let to = asked.ok_or(ProposeError::Stopping)??;
        if to > self.state_machine().format() {
            self.propose(&[Command::RaiseFormat { to }]).await?;
        }
        Ok(self.state_machine().format())
    }

    async fn ask<T>(&self, request: Request, waiter: impl FnOnce(oneshot::Sender<T>) -> Waiter) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.parts.events.send(Event::request(request, waiter(reply))).ok()?;
        answer.await.ok()
    }
}

type Replies = oneshot::Receiver<Result<Vec<Reply>, ProposeError>>;

/// Returns the permits for this many bytes. A request never waits for more than there are in all.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.min(MAX_APPENDED_BYTES)).unwrap_or(u32::MAX)
}

/// Whether the command is refused on full disks. Other commands free space, or are indispensable.
fn takes_room(command: &Command) -> bool {
    match command {
        Command::Group { change, .. } => change.grows(),
        Command::Transaction { change, .. } => change.grows(),
        _ => matches!(
            command,
            Command::Append { .. } | Command::CreateTopic { .. } | Command::AllocateProducer
        ),
    }
}

fn catch_up(stats: &Stats) -> Option<CatchUp> {
    let total = Some(stats.incoming_bytes.load(Ordering::Relaxed)).filter(|total| *total > 0)?;
    Some(CatchUp { received: stats.received_bytes.load(Ordering::Relaxed).min(total), total })
}
