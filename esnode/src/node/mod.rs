//! A node from start to end: opens disk and ports, takes part in the cluster, and drains.

pub mod groups;
pub mod handle;
mod identity;
mod listeners;
mod raft;
pub mod report;
mod retention;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Result, bail};
use crossbeam_channel::Sender;
use parking_lot::RwLock;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use self::handle::Handle;
use self::listeners::{Listeners, serve, start_transport};
use self::raft::{Start, segment_bytes, take_part};
use crate::batch_index::recent::RecentBatches;
use crate::consensus::ConfState;
use crate::maintenance::backup::Backups;
use crate::net::peer::Transport;
use crate::process::config::Config;
use crate::process::version::build_info;
use crate::replica::{Input, Snapshot};
use crate::runtime::{Event, GroupWakers, LeaderView, PartitionWakers, StepStats, Timekeeper};
use crate::state_machine::StateMachine;
use crate::storage::batch_reader::BatchReader;
use crate::storage::data_dir::DataDir;
use crate::storage::{self, Log, Recovered};

/// Runs a node until SIGTERM or SIGINT, or until it cannot continue.
///
/// # Errors
/// Why it cannot start or continue.
pub fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .enable_all()
        .build()?;
    let node = Node::start(config, &runtime)?;
    runtime.block_on(node.until_ended())
}

/// A running node.
struct Node {
    events: Sender<Event>,
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
        let (state, conf_state) = recovered_state(&recovered)?;

        let (events, received) = crossbeam_channel::unbounded();
        let damaged = events.clone();
        storage::scrub::spawn(log.clone(), move |error| drop(damaged.send(Event::DiskFailed(error))))?;
        storage::disk_space::watch(log.dir().to_owned(), log.stats().clone(), options.segment_bytes)?;
        let hello = identity::hello(&config, data_dir.identity());
        let transport = Arc::new(start_transport(&config, hello, events.clone())?);
        let (leadership, leadership_seen) = watch::channel(LeaderView::default());
        let recent = RecentBatches::since_entry(state.applied_index() + 1);
        let batches = BatchReader::new(log.clone(), Arc::new(recent));
        let state = Arc::new(RwLock::new(state));
        let wakers = Arc::new(PartitionWakers::default());
        let group_wakers = Arc::new(GroupWakers::default());
        let time = Timekeeper::default();
        let steps = Arc::new(StepStats::default());
        let (roster, roster_seen) = watch::channel(config.file.cluster.nodes.clone().into());
        let handle = Handle::new(handle::Parts {
            node_id: config.node_id,
            file: config.file.clone(),
            started_at: now_rfc3339(),
            log: log.clone(),
            state_machine: Arc::clone(&state),
            batches: batches.clone(),
            wakers: Arc::clone(&wakers),
            group_wakers: Arc::clone(&group_wakers),
            time: time.clone(),
            steps: Arc::clone(&steps),
            events: events.clone(),
            leadership: leadership_seen,
            roster: roster_seen,
            transport: Arc::clone(&transport),
            backups: Backups::new(recovered.snapshots.clone()),
        });
        let (shutdown, stop) = watch::channel(false);
        let (done, ended) = oneshot::channel();
        serve(runtime, listeners, handle, stop)?;

        let thread_transport = Arc::clone(&transport);
        let thread_events = events.clone();
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
                state,
                batches,
                time,
                wakers,
                group_wakers,
                roster,
                leadership,
                steps,
                events: (thread_events, received),
            });
            let _ = done.send(outcome);
        })?;
        Ok(Self { events, ended, shutdown, raft, transport })
    }

    /// Waits for a signal, then drains; or waits for the end of the raft thread.
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
            let _ = self.events.send(Event::Input(Input::Stop));
            let ended = self.ended.await;
            self.shutdown.send_replace(true);
            ended
        };
        self.transport.stop();
        let _ = self.raft.join();
        outcome.unwrap_or_else(|_| bail!("the raft thread died; the reason stands above"))
    }
}

/// The state as of the snapshot, and the members if there is one.
fn recovered_state(recovered: &Recovered) -> Result<(StateMachine, Option<ConfState>)> {
    let Some(found) = &recovered.snapshot else { return Ok((StateMachine::default(), None)) };
    let Snapshot { state, conf_state } = Snapshot::decode(&found.payload)?;
    Ok((state, Some(conf_state)))
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
            "passed over a damaged snapshot: the start takes longer, nothing is lost"
        );
    }
    tracing::info!(
        node = config.node_id,
        snapshot = recovered.snapshot.as_ref().map(|snapshot| snapshot.index),
        last_index = log.last_index(),
        term = recovered.hard_state.term,
        data_dir = %config.data_dir().display(),
        "esnode {} starts",
        build_info().version
    );
    if !config.file.cluster.storage.wal_sync {
        tracing::warn!("wal_sync is false: acknowledged means written, not durable; a power cut loses it");
    }
}

/// Refuses a directory that has taken part in Raft but has no log. The node would vote as if it had never voted.
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

fn now_rfc3339() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}
