//! The raft thread from start to end: finds the node's cluster, then takes part in it.

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Mutex, RwLock};
use shared::ids::{ClusterId, NodeId};
use shared::spec::{self, Storage};
use tokio::sync::watch;
use uuid::Uuid;

use super::identity::{adopt_format, remember_bootstrap, remember_cluster};
use crate::consensus::{ConfState, Core, CoreConfig, Timing};
use crate::net::peer::Transport;
use crate::process::config::Config;
use crate::replica::{
    Bootstrap, Config as ReplicaConfig, End, Hello, Input, JoinError, Parts, PeerRegistry, Replica,
};
use crate::runtime::{
    Ended, Event, GroupWakers, Indexer, JoinOutcome, LeaderView, NodeLog, Packer, PartitionWakers,
    RaftThread, Sizes, SnapshotStates, StepStats, Surroundings, Timekeeper, find_cluster, read_clocks,
};
use crate::state_machine::StateMachine;
use crate::storage::batch_reader::BatchReader;
use crate::storage::data_dir::DataDir;
use crate::storage::writer::{self, WalEvent, Writer};
use crate::storage::{self, Incoming, Log, Outgoing, Recovered, Snapshots};

/// Size of recent entries that are kept in memory for followers, in bytes.
const TAIL_BYTES: usize = 16 << 20;
/// Number of full segments that Raft keeps for followers. A follower that lacks more gets files.
const KEPT_SEGMENTS: u64 = 2;
/// Least number of ticks between two snapshots, so that a busy node uses its disk for events.
const SNAPSHOT_PAUSE_TICKS: u64 = 100;

/// What the raft thread starts with.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) data_dir: DataDir,
    pub(super) hello: Hello,
    pub(super) log: Log,
    pub(super) wal: storage::Wal,
    pub(super) recovered: Recovered,
    /// The members as of the snapshot, if there is one.
    pub(super) conf_state: Option<ConfState>,
    pub(super) transport: Arc<Transport>,
    pub(super) state: Arc<RwLock<StateMachine>>,
    pub(super) batches: BatchReader,
    pub(super) time: Timekeeper,
    pub(super) wakers: Arc<PartitionWakers>,
    pub(super) group_wakers: Arc<GroupWakers>,
    pub(super) roster: watch::Sender<Arc<[spec::Node]>>,
    pub(super) leadership: watch::Sender<LeaderView>,
    pub(super) steps: Arc<StepStats>,
    pub(super) events: (Sender<Event>, Receiver<Event>),
}

/// The raft thread: finds its cluster, then takes part in it until the end.
pub(super) fn take_part(start: Start) -> Result<()> {
    let Start { config, mut data_dir, mut hello, .. } = start;
    let mut registry = PeerRegistry::default();
    if data_dir.identity().fresh {
        let mut bootstrap = Bootstrap::new(hello, config.member_ids());
        let joined = match find_cluster(&start.events.1, &mut bootstrap)? {
            JoinOutcome::Stopped => return Ok(()),
            JoinOutcome::Bootstrapped(joined) => joined,
        };
        hello = remember_bootstrap(&config, &mut data_dir, hello, joined)?;
        start.transport.set_hello(hello);
        registry = bootstrap.into_registry();
    }
    let initial = || ConfState { voters: data_dir.identity().voters.clone(), ..ConfState::default() };
    let conf_state = start.conf_state.unwrap_or_else(initial);
    let data_dir = Arc::new(Mutex::new(data_dir));
    let adopt = adopt_format(Arc::clone(&data_dir), Arc::clone(&start.transport), start.events.0.clone());
    let snapshots = start.recovered.snapshots.clone();
    let writer = spawn_wal(start.wal, snapshots.clone(), adopt, start.events.0.clone())?;
    serve_files(&start.transport, start.log.clone(), snapshots.clone());
    let log =
        NodeLog { log: start.log.clone(), snapshots: snapshots.clone(), writer: writer.sender().clone() };
    let snapshot_states = SnapshotStates::default();
    let packer = spawn_packer(&start.log, &start.batches, &snapshot_states, &config)?;
    if start.recovered.snapshot.is_some() {
        snapshot_states.put(start.state.read().clone());
    }
    let indexer = Indexer::spawn(start.log.clone(), start.batches.clone(), Arc::clone(&start.state))?;
    let parts = Parts {
        core: start_core(&config, &start.recovered, conf_state, log.clone())?,
        log,
        state: start.state,
        recent: Arc::clone(start.batches.recent()),
        time: start.time.log_time(),
        registry,
    };
    let replica = Replica::new(replica_config(&config, hello, &start.recovered), parts, read_clocks());
    let on_cluster =
        remember_cluster(Arc::clone(&data_dir), Arc::clone(&start.transport), hello, start.events.0.clone());
    let thread = RaftThread::new(
        replica,
        Surroundings {
            log: start.log.clone(),
            snapshots,
            snapshot_states,
            incoming: Incoming::of(data_dir.lock().path()),
            writer: writer.sender().clone(),
            transport: start.transport,
            wakers: start.wakers,
            group_wakers: start.group_wakers,
            roster: start.roster,
            leadership: start.leadership,
            on_cluster: Box::new(on_cluster),
            steps: start.steps,
            events: start.events,
        },
    )?;
    let ended = thread.run();
    start.log.stop_waiting();
    writer.close();
    drop(packer);
    drop(indexer);
    // Only now may another process use the directory.
    drop(data_dir);
    conclude(ended, config.node_id)
}

fn spawn_packer(
    log: &Log,
    batches: &BatchReader,
    states: &SnapshotStates,
    config: &Config,
) -> io::Result<Packer> {
    let segment = segment_bytes(&config.file.cluster.storage);
    let sizes = Sizes { segment, kept: KEPT_SEGMENTS * segment };
    Packer::spawn(log.clone(), batches.clone(), states.clone(), sizes)
}

fn replica_config(config: &Config, hello: Hello, recovered: &Recovered) -> ReplicaConfig {
    let storage = &config.file.cluster.storage;
    ReplicaConfig {
        own: (config.node_id, hello.store),
        synced: storage.wal_sync,
        nodes: config.file.cluster.nodes.clone(),
        formats: hello.formats,
        new_cluster: ClusterId(Uuid::new_v4()),
        snapshot_interval: storage.snapshot_interval,
        snapshot_pause: SNAPSHOT_PAUSE_TICKS,
        keep_bytes: KEPT_SEGMENTS * segment_bytes(storage),
        snapshot_term: recovered.snapshot.as_ref().map(|snapshot| snapshot.term),
    }
}

fn start_core(
    config: &Config,
    recovered: &Recovered,
    conf_state: ConfState,
    log: NodeLog,
) -> Result<Core<NodeLog>> {
    let applied = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    let mut hard_state = recovered.hard_state;
    // What is applied was committed, but the commit index on disk may be lower.
    hard_state.commit = hard_state.commit.max(applied);
    let core_config = CoreConfig {
        id: config.node_id,
        seed: fastrand::u64(..),
        timing: Timing::from_spec(&config.file.cluster.raft),
        hard_state,
        conf_state,
        applied,
        tail_bytes: TAIL_BYTES,
    };
    Ok(Core::new(core_config, log)?)
}

fn spawn_wal(
    wal: storage::Wal,
    snapshots: Snapshots,
    adopt: impl FnMut(u16) -> io::Result<()> + Send + 'static,
    events: Sender<Event>,
) -> io::Result<Writer> {
    writer::spawn(wal, snapshots, adopt, move |event| {
        let event = match event {
            WalEvent::Persisted { number } => Event::Input(Input::Persisted(number)),
            WalEvent::Failed(error) => Event::DiskFailed(error),
        };
        // The raft thread ends only when the node stops.
        let _ = events.send(event);
    })
}

/// Sends files to nodes that are far behind.
fn serve_files(transport: &Transport, log: Log, snapshots: Snapshots) {
    transport.serve_files(Box::new(move |have| {
        Outgoing::gather(&log, &snapshots, have).inspect_err(|error| {
            tracing::error!(%error, "cannot offer another node what it lacks");
        })
    }));
}

pub(super) fn segment_bytes(storage: &Storage) -> u64 {
    storage.segment_mb << 20
}

/// Returns how the process ends.
fn conclude(ended: Ended, node_id: NodeId) -> Result<()> {
    let end = match ended {
        Ended::Replica(end) => end,
        Ended::DiskFailed(error) => {
            return Err(error).context(
                "the disk failed: what it holds can no longer be trusted, so this node stops. Nothing acknowledged is \
                 lost while a majority lives. Check the disk (dmesg), then start the node again",
            );
        }
    };
    match end {
        End::Stopped => Ok(()),
        End::Removed => {
            tracing::warn!("{}", JoinError::Removed(node_id));
            Ok(())
        }
        End::LostWrite => bail!(
            "a defect of esnode: something was to be written to the log, and the thread that writes it knows of nothing. \
             This node stops, since it would wait for ever; nothing acknowledged is lost. Start it again, and please \
             report this with its log"
        ),
        End::NotSynced => bail!(
            "wal_sync is false, and the cluster has several members: what this node acknowledges or votes does not survive a \
             power cut, and then the others lose events too. Set cluster.storage.wal_sync to true and start it again"
        ),
        End::WrongStore => Err(JoinError::WrongStore(node_id).into()),
        End::UnreadableFormat(reason) => Err(reason.into()),
    }
}
