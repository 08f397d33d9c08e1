//! A node from start to end: open the disk, open the ports, take part, drain.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender};
use parking_lot::RwLock;
use raft::eraftpb::ConfState;
use shared::ids::ClusterId;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::config::Config;
use crate::consensus::{Core, CoreConfig, Timing};
use crate::driver::{Changes, Driver, Ended, Founding, Input, Parts, found_or_join};
use crate::handle::{self, Handle, Leadership};
use crate::net::peer::{Hello, Transport, TransportConfig};
use crate::net::{admin, kafka};
use crate::storage::{self, Batch, Identity, Log, Recovered, WalEvent};
use crate::stream::Stream;

/// Payload of recent entries kept in memory for followers.
const TAIL_BYTES: usize = 16 << 20;

/// Runs a node until SIGTERM or SIGINT, or until it must not go on.
pub fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .enable_all()
        .build()?;
    let node = Node::start(config, &runtime)?;
    runtime.block_on(node.until_ended())
}

/// The three listeners, open before anything else is done, so that a taken port changes nothing on disk.
struct Listeners {
    peers: TcpListener,
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
        let mut identity = Identity::open(&config.data_dir(), config.node_id)?;
        let options =
            storage::Options { sync: config.file.cluster.storage.wal_sync, ..storage::Options::default() };
        let (log, wal, recovered) = storage::open(&config.data_dir(), options)?;
        report_recovery(&config, &log, &recovered);

        let (inputs, received) = crossbeam_channel::unbounded();
        let hello = Hello {
            node: config.node_id,
            store: identity.store(),
            cluster: identity.cluster(),
            fresh: identity.fresh(),
            members: config.members_digest(),
            your_store: None,
        };
        let transport = Arc::new(start_transport(&config, listeners.peers, hello, inputs.clone())?);
        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let stream = Arc::new(RwLock::new(Stream::default()));
        let changes = Arc::new(Changes::default());
        let handle = Handle::new(handle::Parts {
            node_id: config.node_id,
            file: config.file.clone(),
            started_at: now_rfc3339(),
            log: log.clone(),
            stream: Arc::clone(&stream),
            changes: Arc::clone(&changes),
            inputs: inputs.clone(),
            leadership: leadership_seen,
            transport: Arc::clone(&transport),
        });
        let (shutdown, stop) = watch::channel(false);
        let (done, ended) = oneshot::channel();
        let _inside = runtime.enter();
        let front = kafka::Kafka::new(handle.clone());
        let figures = front.metrics();
        runtime.spawn(front.serve(tokio_listener(listeners.kafka)?, stop.clone()));
        runtime.spawn(admin::serve(tokio_listener(listeners.admin)?, handle, figures, stop));

        let thread_transport = Arc::clone(&transport);
        let thread_inputs = inputs.clone();
        let raft = thread::Builder::new().name("raft".into()).spawn(move || {
            let outcome = take_part(Start {
                config,
                identity: &mut identity,
                hello,
                log,
                wal,
                recovered,
                transport: thread_transport,
                stream,
                changes,
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
            bind(address).with_context(|| {
                format!("cannot listen on {address} for {what}: is another process using the port? `ss -ltnp` tells")
            })
        };
        let node = &config.node;
        Ok(Self {
            peers: listen(node.cluster_port, "the other nodes (cluster_port)")?,
            kafka: listen(node.client_port, "Kafka clients (client_port)")?,
            admin: listen(node.http_port, "the admin API (http_port)")?,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // The standard listener sets SO_REUSEADDR, so a restart does not wait for old connections to time out.
    TcpListener::bind(address)
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
    tracing::info!(
        node = config.node_id,
        last_index = log.last_index(),
        term = recovered.hard_state.term,
        data_dir = %config.data_dir().display(),
        "esnode {} starts",
        crate::version::build_info().version
    );
}

fn start_transport(
    config: &Config,
    listener: TcpListener,
    hello: Hello,
    inputs: Sender<Input>,
) -> io::Result<Transport> {
    let others = config.file.cluster.nodes.iter().filter(|node| node.id != config.node_id);
    Transport::start(
        TransportConfig {
            listener,
            hello,
            peers: others.map(|node| (node.id, node.host.clone(), node.cluster_port)).collect(),
            rpc_timeout: std::time::Duration::from_millis(config.file.cluster.raft.rpc_timeout),
        },
        move |event| drop(inputs.send(Input::Peer(event))),
    )
}

/// What the raft thread starts from.
struct Start<'a> {
    config: Config,
    identity: &'a mut Identity,
    hello: Hello,
    log: Log,
    wal: storage::Wal,
    recovered: Recovered,
    transport: Arc<Transport>,
    stream: Arc<RwLock<Stream>>,
    changes: Arc<Changes>,
    leadership: watch::Sender<Leadership>,
    inputs: (Sender<Input>, Receiver<Input>),
}

/// The raft thread: finds its cluster, then takes part in it until the end.
fn take_part(start: Start<'_>) -> Result<()> {
    let Start {
        config,
        identity,
        mut hello,
        log,
        wal,
        recovered,
        transport,
        stream,
        changes,
        leadership,
        inputs,
    } = start;
    let mut met = BTreeMap::new();
    if identity.fresh() {
        let members = config.member_ids();
        match found_or_join(&inputs.1, hello, members.len(), &mut met)? {
            Founding::Stopped => return Ok(()),
            Founding::Founded => identity.found(None, &members)?,
            Founding::Joined(cluster) => identity.found(Some(cluster), &members)?,
        }
        hello.fresh = false;
        hello.cluster = identity.cluster();
        transport.set_hello(hello);
    }
    let voters = identity.voters().to_vec();
    let core = Core::new(
        CoreConfig {
            id: config.node_id,
            seed: fastrand::u64(..),
            timing: Timing::from_spec(&config.file.cluster.raft),
            hard_state: recovered.hard_state,
            conf_state: ConfState { voters, ..ConfState::default() },
            applied: 0,
            tail_bytes: TAIL_BYTES,
        },
        log.clone(),
        &crate::raft_logger::new(),
    )?;
    let (wal, wal_thread) = spawn_wal(wal, inputs.0.clone())?;
    let on_cluster = remember_cluster(identity.clone(), Arc::clone(&transport), hello);
    let mut driver = Driver::new(Parts {
        own: (config.node_id, identity.store()),
        core,
        stream,
        wal,
        log,
        transport,
        changes,
        leadership,
        inputs,
        on_cluster: Box::new(on_cluster),
    })?;
    met.into_values().for_each(|hello| driver.greet(hello));
    let ended = driver.run();
    let _ = wal_thread.join();
    match ended {
        Ended::Stopped => Ok(()),
        Ended::WrongStore => Err(crate::driver::JoinError::WrongStore(config.node_id).into()),
        Ended::DiskFailed(error) => Err(error).context(
            "the disk failed: what it holds can no longer be trusted, so this node stops. Nothing acknowledged is \
             lost while a majority lives. Check the disk (dmesg), then start the node again",
        ),
    }
}

fn spawn_wal(wal: storage::Wal, inputs: Sender<Input>) -> io::Result<(Sender<(u64, Batch)>, JoinHandle<()>)> {
    storage::spawn_writer(wal, move |event| {
        let input = match event {
            WalEvent::Persisted { number } => Input::Persisted(number),
            WalEvent::Failed(error) => Input::DiskFailed(error),
        };
        drop(inputs.send(input));
    })
}

/// Writes the cluster's identity down, away from the raft thread, and tells the other nodes.
fn remember_cluster(
    mut identity: Identity,
    transport: Arc<Transport>,
    mut hello: Hello,
) -> impl FnOnce(ClusterId) + Send {
    move |cluster| {
        if identity.cluster() == Some(cluster) {
            return;
        }
        hello.cluster = Some(cluster);
        transport.set_hello(hello);
        thread::spawn(move || {
            if let Err(error) = identity.set_cluster(cluster) {
                tracing::error!("cannot write the cluster's identity down: {error:#}");
            }
        });
    }
}

fn now_rfc3339() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}
