//! A node from start to end: open the disk, open the ports, take part, drain.

pub mod handle;
pub mod report;
mod retention;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Mutex, RwLock};
use raft::eraftpb::ConfState;
use shared::ids::{ClusterId, NodeId};
use shared::spec::{self, MAX_NODES, Storage};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use self::handle::{Handle, Leadership};
use crate::consensus::{Core, CoreConfig, Timing};
use crate::driver::{
    Changes, CheckpointParts, Driver, Ended, Founding, Image, Input, JoinError, Parts, Timekeeper,
    found_or_join,
};
use crate::maintenance::backup::Backups;
use crate::net::kafka::limits::Limits;
use crate::net::listen;
use crate::net::peer::{Formats, Hello, Transport, TransportConfig};
use crate::net::{admin, kafka};
use crate::process::config::Config;
use crate::process::version::FORMAT;
use crate::process::{log_file, rlimit};
use crate::state_machine::StateMachine;
use crate::storage::data_dir::{DataDir, Identity, IdentityError};
use crate::storage::writer::{self, WalEvent, Writer};
use crate::storage::{self, Incoming, Log, Outgoing, Recovered, Snapshots, is_full};

/// Largest frame between nodes, in bytes.
const MAX_FRAME: usize = 16 << 20;
/// Payload of recent entries kept in memory for followers.
const TAIL_BYTES: usize = 16 << 20;
/// Full segments' worth of log that Raft keeps for followers; one that lacks more gets files.
const KEPT_SEGMENTS: u64 = 2;

/// Runs a node until SIGTERM or SIGINT, or until it must not go on.
pub fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .enable_all()
        .build()?;
    let node = Node::start(config, &runtime)?;
    runtime.block_on(node.until_ended())
}

/// The listeners for clients, open before anything else is done, so that a taken port changes nothing on disk.
struct Listeners {
    kafka: TcpListener,
    admin: TcpListener,
}

/// A running node.
struct Node {
    inputs: Sender<Input>,
    ended: oneshot::Receiver<Result<(), anyhow::Error>>,
    shutdown: watch::Sender<bool>,
    raft: JoinHandle<()>,
    transport: Arc<Transport>,
}

impl Node {
    fn start(config: Config, runtime: &Runtime) -> Result<Self> {
        let listeners = Listeners::open(&config)?;
        let data_dir = DataDir::open(&config.data_dir(), config.node_id)?;
        let kept = &config.file.cluster.storage;
        let options = storage::Options { sync: kept.wal_sync, segment_bytes: segment_bytes(kept) };
        refuse_lost_log(&data_dir)?;
        let (log, wal, recovered) = storage::open(data_dir.path(), options)?;
        report_recovery(&config, &log, &recovered);
        let image = recovered.snapshot.as_ref().map(|found| Image::decode(&found.payload)).transpose()?;

        let (inputs, received) = crossbeam_channel::unbounded();
        let damaged = inputs.clone();
        storage::scrub::spawn(log.clone(), move |error| drop(damaged.send(Input::DiskFailed(error))))?;
        storage::disk_space::watch(log.dir().to_owned(), log.stats().clone(), options.segment_bytes)?;
        let hello = hello(&config, data_dir.identity());
        let transport = Arc::new(start_transport(&config, hello, inputs.clone())?);
        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let (stream, conf_state) = match image {
            Some(Image { stream, conf_state }) => (stream, Some(conf_state)),
            None => (StateMachine::default(), None),
        };
        let stream = Arc::new(RwLock::new(stream));
        let changes = Arc::new(Changes::default());
        let time = Arc::new(Timekeeper::default());
        let (roster, roster_seen) = watch::channel(config.file.cluster.nodes.clone().into());
        let handle = Handle::new(handle::Parts {
            node_id: config.node_id,
            file: config.file.clone(),
            started_at: now_rfc3339(),
            log: log.clone(),
            state_machine: Arc::clone(&stream),
            changes: Arc::clone(&changes),
            time: Arc::clone(&time),
            inputs: inputs.clone(),
            leadership: leadership_seen,
            roster: roster_seen,
            transport: Arc::clone(&transport),
            backups: Backups::new(recovered.snapshots.clone()),
        });
        let (shutdown, stop) = watch::channel(false);
        let (done, ended) = oneshot::channel();
        serve(runtime, listeners, handle, stop)?;

        let thread_transport = Arc::clone(&transport);
        let thread_inputs = inputs.clone();
        let raft = thread::Builder::new().name("raft".into()).spawn(move || {
            let outcome = take_part(Start {
                config,
                data_dir,
                hello,
                log,
                wal,
                recovered,
                conf_state,
                transport: thread_transport,
                stream,
                time,
                changes,
                roster,
                leadership,
                inputs: (thread_inputs, received),
            });
            let _ = done.send(outcome);
        })?;
        Ok(Self { inputs, ended, shutdown, raft, transport })
    }

    /// Waits for a signal, then drains; or for the raft thread to give up.
    async fn until_ended(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let early = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = &mut self.ended => Some(ended),
        };
        let outcome = if let Some(ended) = early {
            ended
        } else {
            tracing::info!("stopping: handing over and flushing");
            let _ = self.inputs.send(Input::Stop);
            let ended = self.ended.await;
            self.shutdown.send_replace(true);
            ended
        };
        self.transport.stop();
        let _ = self.raft.join();
        outcome.unwrap_or_else(|_| bail!("the raft thread died; the reason stands above"))
    }
}

impl Listeners {
    fn open(config: &Config) -> Result<Self> {
        let listen = |port, what| -> Result<TcpListener> {
            let address = config.listen_on(port)?;
            listen::listen(address).with_context(|| taken(address, what))
        };
        let node = &config.node;
        Ok(Self {
            kafka: listen(node.client_port, "Kafka clients (client_port)")?,
            admin: listen(node.http_port, "the admin API (http_port)")?,
        })
    }
}

/// Everything that lives on the async runtime: the listeners, and what looks after retention and the node's log.
fn serve(
    runtime: &Runtime,
    listeners: Listeners,
    handle: Handle,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let _inside = runtime.enter();
    runtime.spawn(log_file::rotate(stop.clone()));
    runtime.spawn(retention::run(handle.clone(), stop.clone()));
    let connections = rlimit::connections(handle.file().network.max_connections);
    let front = kafka::Kafka::new(handle.clone(), Limits { connections, ..Limits::default() });
    let running = admin::Running { handle, kafka: front.metrics() };
    let limits = admin::Limits { connections, ..admin::Limits::default() };
    runtime.spawn(front.serve(tokio_listener(listeners.kafka)?, stop.clone()));
    runtime.spawn(admin::serve(tokio_listener(listeners.admin)?, running, limits, stop));
    Ok(())
}

fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn report_recovery(config: &Config, log: &Log, recovered: &Recovered) {
    if let Some((file, offset, bytes)) = &recovered.torn {
        tracing::warn!(
            file,
            offset,
            bytes,
            "cut a torn tail: the last write before a crash had not finished"
        );
    }
    for (file, reason) in &recovered.damaged {
        tracing::warn!(
            file,
            reason,
            "passed over a damaged checkpoint: the start takes longer, nothing is lost"
        );
    }
    tracing::info!(
        node = config.node_id,
        checkpoint = recovered.snapshot.as_ref().map(|checkpoint| checkpoint.index),
        last_index = log.last_index(),
        term = recovered.hard_state.term,
        data_dir = %config.data_dir().display(),
        "esnode {} starts",
        crate::process::version::build_info().version
    );
    if !config.file.cluster.storage.wal_sync {
        tracing::warn!("wal_sync is false: acknowledged means written, not durable; a power cut loses it");
    }
}

fn start_transport(config: &Config, hello: Hello, inputs: Sender<Input>) -> Result<Transport> {
    let listen = config.listen_on(config.node.cluster_port)?;
    let nodes = config.file.cluster.nodes.iter();
    let transport = TransportConfig {
        node_id: config.node_id,
        listen,
        at: (config.node.host.clone(), config.node.cluster_port),
        peers: nodes.map(|node| (node.id, node.host.clone(), node.cluster_port)).collect(),
        hello,
        rpc_timeout: Duration::from_millis(config.file.cluster.raft.rpc_timeout),
        max_frame: MAX_FRAME,
    };
    // The raft thread is gone only when the node stops.
    let deliver = move |event| drop(inputs.send(Input::Peer(event)));
    Transport::start(transport, deliver).with_context(|| taken(listen, "the other nodes (cluster_port)"))
}

/// A directory that has taken part in Raft has a log. Without it the node would vote as if it had never voted.
fn refuse_lost_log(data_dir: &DataDir) -> Result<()> {
    let has_log =
        || std::fs::read_dir(data_dir.path().join("log")).is_ok_and(|mut files| files.next().is_some());
    if !data_dir.identity().fresh && !has_log() {
        bail!(
            "{} has lost its log: its vote cannot be trusted. Remove this node from the cluster, delete its data \
             directory and add it again; the other nodes have everything",
            data_dir.path().display()
        );
    }
    Ok(())
}

fn taken(address: SocketAddr, what: &str) -> String {
    format!("cannot listen on {address} for {what}: is another process using the port? `ss -ltnp` tells")
}

/// What the raft thread starts from.
struct Start {
    config: Config,
    data_dir: DataDir,
    hello: Hello,
    log: Log,
    wal: storage::Wal,
    recovered: Recovered,
    /// The members as of the checkpoint, if there is one.
    conf_state: Option<ConfState>,
    transport: Arc<Transport>,
    stream: Arc<RwLock<StateMachine>>,
    time: Arc<Timekeeper>,
    changes: Arc<Changes>,
    roster: watch::Sender<Arc<[spec::Node]>>,
    leadership: watch::Sender<Leadership>,
    inputs: (Sender<Input>, Receiver<Input>),
}

/// The raft thread: finds its cluster, then takes part in it until the end.
fn take_part(start: Start) -> Result<()> {
    let Start {
        config,
        mut data_dir,
        mut hello,
        log,
        wal,
        recovered,
        conf_state,
        transport,
        stream,
        time,
        changes,
        roster,
        leadership,
        inputs,
    } = start;
    let mut met = BTreeMap::new();
    if data_dir.identity().fresh {
        match find_cluster(&config, &mut data_dir, hello, &inputs.1, &mut met)? {
            Some(found) => hello = found,
            None => return Ok(()),
        }
        transport.set_hello(hello);
    }
    let founding = || ConfState { voters: data_dir.identity().voters.clone(), ..ConfState::default() };
    let core = start_core(&config, &recovered, conf_state.unwrap_or_else(founding), log.clone())?;
    let waiting = log.clone();
    let data_dir = Arc::new(Mutex::new(data_dir));
    let adopt = adopt_format(Arc::clone(&data_dir), Arc::clone(&transport));
    let writer = spawn_wal(wal, recovered.snapshots.clone(), adopt, inputs.0.clone())?;
    serve_files(&transport, log.clone(), recovered.snapshots.clone());
    let incoming = Incoming::of(data_dir.lock().path());
    let storage = &config.file.cluster.storage;
    let on_cluster = remember_cluster(Arc::clone(&data_dir), Arc::clone(&transport), hello, inputs.0.clone());
    let mut driver = Driver::new(Parts {
        own: (config.node_id, hello.store),
        synced: storage.wal_sync,
        core,
        stream,
        wal: writer.sender().clone(),
        log,
        transport,
        time,
        changes,
        nodes: config.file.cluster.nodes.clone(),
        roster,
        leadership,
        inputs,
        on_cluster: Box::new(on_cluster),
        checkpoints: CheckpointParts {
            files: recovered.snapshots,
            interval: storage.snapshot_interval,
            keep_bytes: KEPT_SEGMENTS * segment_bytes(storage),
            term: recovered.snapshot.map(|checkpoint| checkpoint.term),
            incoming,
        },
    })?;
    met.into_values().for_each(|hello| driver.greet(hello));
    let ended = driver.run();
    waiting.stop_waiting();
    writer.close();
    // Only now may another process have the directory.
    drop(data_dir);
    conclude(ended, config.node_id)
}

/// Waits until a node without a past has a cluster, and writes that down: what it says of itself from then on. `None`:
/// it was told to stop first.
fn find_cluster(
    config: &Config,
    data_dir: &mut DataDir,
    hello: Hello,
    inputs: &Receiver<Input>,
    met: &mut BTreeMap<NodeId, Hello>,
) -> Result<Option<Hello>> {
    let configured = config.member_ids();
    let (cluster_id, voters, format) = match found_or_join(inputs, hello, &configured, met)? {
        Founding::Stopped => return Ok(None),
        Founding::Founded => (None, configured, hello.formats.active),
        Founding::Joined(cluster, founders, format) => {
            (Some(cluster), founders.into_iter().filter(|id| *id != 0).collect(), format)
        }
    };
    let founders = founders(&voters);
    data_dir.update(|identity| {
        *identity = Identity { format, cluster_id, fresh: false, voters, ..identity.clone() };
    })?;
    let formats = Formats { active: format, ..hello.formats };
    Ok(Some(Hello { fresh: false, cluster: cluster_id, founders, formats, ..hello }))
}

/// How the process ends.
fn conclude(ended: Ended, node_id: NodeId) -> Result<()> {
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Removed => {
            tracing::warn!("{}", JoinError::Removed(node_id));
            Ok(())
        }
        Ended::LostWork => bail!(
            "a defect of esnode: something was to be written to the log, and the thread that writes it knows of nothing. \
             This node stops, since it would wait for ever; nothing acknowledged is lost. Start it again, and please \
             report this with its log"
        ),
        Ended::NotSynced => bail!(
            "wal_sync is false, and the cluster has several members: what this node acknowledges or votes does not survive a \
             power cut, and then the others lose events too. Set cluster.storage.wal_sync to true and start it again"
        ),
        Ended::WrongStore => Err(JoinError::WrongStore(node_id).into()),
        Ended::Unreadable(reason) => Err(reason.into()),
        Ended::DiskFailed(error) => Err(error).context(
            "the disk failed: what it holds can no longer be trusted, so this node stops. Nothing acknowledged is \
             lost while a majority lives. Check the disk (dmesg), then start the node again",
        ),
    }
}

/// What a node says of itself at first.
fn hello(config: &Config, identity: &Identity) -> Hello {
    Hello {
        node: config.node_id,
        store: identity.store_id,
        cluster: identity.cluster_id,
        fresh: identity.fresh,
        members: config.members_digest(),
        founders: founders(&identity.voters),
        your_store: None,
        formats: Formats { reads: FORMAT, active: identity.format },
    }
}

/// As a Hello carries them.
fn founders(voters: &[NodeId]) -> [NodeId; MAX_NODES] {
    let mut founders = [0; MAX_NODES];
    founders.iter_mut().zip(voters).for_each(|(place, voter)| *place = *voter);
    founders
}

fn start_core(config: &Config, recovered: &Recovered, conf_state: ConfState, log: Log) -> Result<Core<Log>> {
    let applied = recovered.snapshot.as_ref().map_or(0, |checkpoint| checkpoint.index);
    let mut hard_state = recovered.hard_state;
    // What is applied was committed; a commit index on disk may lag.
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
    Ok(Core::new(core_config, log, &crate::process::raft_logger::new())?)
}

fn spawn_wal(
    wal: storage::Wal,
    snapshots: Snapshots,
    adopt: impl FnMut(u16) -> io::Result<()> + Send + 'static,
    inputs: Sender<Input>,
) -> io::Result<Writer> {
    writer::spawn(wal, snapshots, adopt, move |event| {
        let input = match event {
            WalEvent::Persisted { number } => Input::Persisted(number),
            WalEvent::Failed(error) => Input::DiskFailed(error),
        };
        // The raft thread is gone only when the node stops.
        let _ = inputs.send(input);
    })
}

/// Gives nodes that are far behind what they lack.
fn serve_files(transport: &Transport, log: Log, checkpoints: Snapshots) {
    transport.serve_files(Box::new(move |have| {
        Outgoing::gather(&log, &checkpoints, have).inspect_err(|error| {
            tracing::error!(%error, "cannot offer another node what it lacks");
        })
    }));
}

fn segment_bytes(storage: &Storage) -> u64 {
    storage.segment_mb << 20
}

/// Writes the cluster's identity down, away from the raft thread, and tells the other nodes.
fn remember_cluster(
    data_dir: Arc<Mutex<DataDir>>,
    transport: Arc<Transport>,
    hello: Hello,
    inputs: Sender<Input>,
) -> impl FnOnce(ClusterId) + Send {
    move |cluster| {
        // A log that was carried on names the clusters before this one, too.
        if hello.cluster.is_some() {
            return;
        }
        transport.set_cluster(cluster);
        thread::spawn(move || {
            match data_dir.lock().update(|identity| identity.cluster_id = Some(cluster)) {
                // The next start does it.
                Err(IdentityError::Io(error)) if is_full(&error) => {
                    tracing::error!("no room to write the cluster's identity down: {error}");
                }
                // The raft thread is gone only when the node stops.
                Err(error) => drop(inputs.send(Input::DiskFailed(io::Error::other(error)))),
                Ok(()) => {}
            }
        });
    }
}

/// Writes the on-disk format down that is used from now on, and tells the other nodes.
fn adopt_format(
    data_dir: Arc<Mutex<DataDir>>,
    transport: Arc<Transport>,
) -> impl FnMut(u16) -> io::Result<()> + Send {
    move |format| match data_dir.lock().update(|identity| identity.format = identity.format.max(format)) {
        Err(IdentityError::Io(error)) if is_full(&error) => {
            tracing::error!("no room to write the on-disk format down, which is tried again: {error}");
            Ok(())
        }
        Err(error) => Err(io::Error::other(error)),
        Ok(()) => {
            tracing::info!(format, "the data directory is written in this on-disk format from now on");
            transport.set_active_format(format);
            Ok(())
        }
    }
}

fn now_rfc3339() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}
