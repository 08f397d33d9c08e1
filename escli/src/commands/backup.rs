//! `escli backup`: saves a backup that a node sends, preferably a follower.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::api::ClusterStatus;
use shared::backup::Manifest;
use shared::ids::NodeId;
use tokio::sync::mpsc;

use super::target::file_of;
use crate::admin_client::AdminClient;
use crate::admin_client::connect::admin;
use crate::backup::{BackupError, save};
use crate::cli::backup::Args;
use crate::cluster_file;
use crate::cluster_file::known_cluster::KnownCluster;
use crate::engine::interrupt::Interrupt;
use crate::engine::observe::observe_api;
use crate::failure::{Exit, Failure};
use crate::plan::agreement;
use crate::plan::facts::Facts;
use crate::plan::identity::{self, Intent};
use crate::settings::Settings;
use crate::view::{self, backup};

/// Longest time without data from the node, after which the backup is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Number of chunks that wait to be written.
const MAX_BUFFERED_CHUNKS: usize = 8;

/// Takes a backup.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; if something exists at the path already, no node can
/// send a backup, or the stream ends early.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let began = Instant::now();
    let loaded = cluster_file::load(settings)?;
    let spec = loaded.spec;
    let name = &spec.cluster.name;
    let path = args.path.clone().unwrap_or_else(|| {
        PathBuf::from(format!("eventstream-{name}-{}.tar", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")))
    });
    let path = settings.env.path(&path);
    if path.is_file() || path.read_dir().is_ok_and(|mut files| files.next().is_some()) {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} already exists; nothing was written", path.display()),
        )
        .hint("write elsewhere:  escli backup PATH"));
    }
    let client = admin(settings, &spec)?;
    let facts = observe_api(&spec, &client, settings.concurrency).await;
    let file = file_of(&loaded.source, spec.is_local());
    let remembered = KnownCluster::of(&settings.env.state_dir, name, file.as_deref()).recall();
    // A backup of another cluster under this one's name would later be taken for this one's.
    let facts = Facts { remembered, ..facts };
    identity::refuse(&spec, &facts, &Intent::default())?;
    let statuses: Vec<_> = facts.statuses().map(|(_, status)| status.clone()).collect();
    let node = source(&statuses, spec.cluster.nodes.len(), args.node)?;
    // Everything that was acknowledged by now is committed, and the leader knows that it is.
    let covers = statuses.iter().map(|status| status.commit_index).max().unwrap_or_default();
    if settings.dry_run {
        view::remark(settings, &format!("would copy the log of n{node} to {}", path.display()));
        return Ok(Exit::Ok);
    }
    let interrupt =
        Interrupt::listen().map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    let manifest = tokio::select! {
        taken = take(settings, &client, node, covers, &path) => taken?,
        () = interrupt.reached(1) => {
            return Err(Failure::new(Exit::Interrupted, "interrupted; nothing was kept"));
        }
    };
    let document = backup::document(&path, &manifest, began.elapsed());
    view::show(settings, &document, |paint| backup::text(&document, paint));
    Ok(Exit::Ok)
}

/// Returns the node that sends the backup: `named` if given, else the first follower that has caught up, else the
/// leader.
fn source(statuses: &[ClusterStatus], members: usize, named: Option<NodeId>) -> Result<NodeId, Failure> {
    if let Some(id) = named {
        return Ok(id);
    }
    let voters = agreement::voters(statuses, members);
    let leader = agreement::leader(statuses, voters).map_err(|reason| {
        Failure::new(Exit::Refused, "no leader can confirm what was acknowledged; nothing was written")
            .detail(reason)
            .hint("see what is wrong:                 escli health")
            .hint("back up one node anyway:           escli backup --node ID")
    })?;
    let mut healthy = agreement::healthy(statuses, voters);
    healthy.sort_unstable();
    Ok(healthy.into_iter().find(|id| *id != leader.leader).unwrap_or(leader.leader))
}

async fn take(
    settings: &Settings,
    client: &AdminClient,
    node: NodeId,
    covers: u64,
    path: &Path,
) -> Result<Manifest, Failure> {
    let mut answer = client.backup(node, covers, STALL_TIMEOUT).await?;
    let (pieces, received) = mpsc::channel(MAX_BUFFERED_CHUNKS);
    let place = path.to_owned();
    let written =
        tokio::task::spawn_blocking(move || save(Incoming { pieces: received, rest: Vec::new() }, &place));
    let meter = view::backup::Meter::new(settings);
    loop {
        let piece = match tokio::time::timeout(STALL_TIMEOUT, answer.chunk()).await {
            Ok(Ok(Some(piece))) => Ok(piece.to_vec()),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                Err(io::Error::other(format!("the transfer from n{node} was cut off: {error}")))
            }
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("n{node} sent nothing for {STALL_TIMEOUT:?}"),
            )),
        };
        meter.add(piece.as_ref().map_or(0, Vec::len));
        let is_end = piece.is_err();
        // The writer has stopped because of an error, which it reports itself.
        if pieces.send(piece).await.is_err() || is_end {
            break;
        }
    }
    drop(pieces);
    let written = written.await.map_err(|error| Failure::failed(format!("writing the backup: {error}")))?;
    written.map_err(|error| {
        let again = Failure::failed(format!("no backup was kept: {error}"));
        match error {
            BackupError::Damaged(_) => again.hint("try another node:  escli backup --node ID"),
            BackupError::Io(_) => {
                again.hint("check the free space here, and whether the node still answers:  escli status")
            }
        }
    })
}

/// The chunks that arrive from the node, as a reader.
struct Incoming {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    rest: Vec<u8>,
}

impl Read for Incoming {
    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        buffer.write_all(&self.rest[..length])?;
        self.rest.drain(..length);
        Ok(length)
    }
}
