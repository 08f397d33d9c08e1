//! Online backups: when one may begin, and how a [`BackupSource`] becomes a stream of bytes.
//!
//! The stream is a tar of a data directory without an identity, and of what [`shared::backup`] tells at its
//! end.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::backup::{self, File, MANIFEST, Manifest, SUM};
use shared::hex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use crate::process::thread_priority::lower;
use crate::storage::{BackupSource, Log, Snapshots, SourceFile};

/// Bytes read and sent at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the client.
const MAX_CHUNKS_AHEAD: usize = 4;
/// A backup begins within this time of the request.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// The client takes a chunk within this time, or the backup is aborted: no other can begin meanwhile.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The same once another client has asked for a backup.
const CLIENT_TIMEOUT_CONTENDED: Duration = Duration::from_secs(1);
/// Time between two checks whether another client has.
const CONTENTION_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two checks of the newest snapshot.
const SNAPSHOT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The copy, piece by piece; ends with an error when it breaks off.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Why no backup can be taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// One at a time.
    #[error("another backup is being taken from this node")]
    Busy,
    /// This node is no part of a cluster yet.
    #[error("this node is not a member of a cluster yet")]
    NoCluster,
    /// It does not have it.
    #[error(
        "this node has no snapshot that covers entry {0} after {SNAPSHOT_TIMEOUT:?}: it lags, or its disk is full"
    )]
    Behind(u64),
    /// The system's.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Takes copies, one at a time.
#[derive(Clone, Debug)]
pub struct Backups {
    snapshots: Snapshots,
    free: Arc<Semaphore>,
    /// Somebody has asked for one while another was being taken.
    wanted: Arc<AtomicBool>,
}

impl Backups {
    /// Of the log that these snapshots belong to.
    pub fn new(snapshots: Snapshots) -> Self {
        Self { snapshots, free: Arc::new(Semaphore::new(1)), wanted: Arc::default() }
    }

    /// Begins a copy of everything up to entry `covers`, at least. `request_snapshot` asks for a snapshot;
    /// `describe` completes what the copy says of itself.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin(
        &self,
        log: &Log,
        covers: u64,
        request_snapshot: impl Fn(),
        describe: impl FnOnce() -> Option<Manifest>,
    ) -> Result<Pieces, BackupError> {
        let Ok(permit) = self.free.clone().try_acquire_owned() else {
            self.wanted.store(true, Relaxed);
            return Err(BackupError::Busy);
        };
        self.wanted.store(false, Relaxed);
        let end = Instant::now() + SNAPSHOT_TIMEOUT;
        while self.snapshots.newest_index() < Some(covers.max(1)) {
            if Instant::now() > end {
                return Err(BackupError::Behind(covers));
            }
            request_snapshot();
            sleep(SNAPSHOT_POLL_INTERVAL).await;
        }
        let manifest = describe().ok_or(BackupError::NoCluster)?;
        let (log, snapshots) = (log.clone(), self.snapshots.clone());
        let (pieces, received) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let outlet = Outlet { pieces, runtime: Handle::current(), wanted: Arc::clone(&self.wanted) };
        thread::Builder::new().name("backup".into()).spawn(move || {
            lower();
            send(&log, &snapshots, manifest, outlet);
            drop(permit);
        })?;
        Ok(received)
    }
}

fn send(log: &Log, snapshots: &Snapshots, manifest: Manifest, outlet: Outlet) {
    let gathered =
        BackupSource::gather(log, snapshots).and_then(|copy| copy.ok_or(io::ErrorKind::NotFound.into()));
    let pieces = outlet.pieces.clone();
    let outlet = io::BufWriter::with_capacity(CHUNK, outlet);
    match gathered.and_then(|copy| write(&copy, manifest, outlet)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::debug!("the client closed the connection before the end of a backup");
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            tracing::warn!(%error, "backup aborted; take it again from a host that is nearer to the node");
        }
        Err(error) => {
            tracing::error!(%error, "backup aborted");
            // Whoever took it may be gone; then nobody is left to tell.
            let _ = pieces.blocking_send(Err(error));
        }
        Ok(()) => {}
    }
}

/// Writes the copy as a tar, what it says of itself last.
fn write(source: &BackupSource, mut manifest: Manifest, outlet: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(outlet);
    let BackupSource { first_index, last_index, last_term, .. } = *source;
    (manifest.first_index, manifest.last_index, manifest.last_term) = (first_index, last_index, last_term);
    for file in &source.files {
        manifest.files.push(append(&mut tar, file)?);
    }
    let text = serde_json::to_vec_pretty(&manifest)?;
    tar.append_data(&mut header(text.len() as u64), MANIFEST, &text[..])?;
    let sum = backup::sum(&hex::encode(&Sha256::digest(&text)));
    tar.append_data(&mut header(sum.len() as u64), SUM, sum.as_bytes())?;
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<impl Write>, file: &SourceFile) -> io::Result<File> {
    let mut hashing =
        Hashing { reader: BufReader::with_capacity(CHUNK, file.reader()), hasher: Sha256::new() };
    tar.append_data(&mut header(file.bytes), &file.path, &mut hashing)?;
    let sha256 = hex::encode(&hashing.hasher.finalize());
    Ok(File { path: file.path.clone(), bytes: file.bytes, sha256 })
}

fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    // It is everybody's events.
    header.set_mode(0o600);
    header
}

/// Hashes what is read through it.
struct Hashing<R> {
    reader: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Sends what is written; waits for a client that is slower, within reason.
struct Outlet {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
    wanted: Arc<AtomicBool>,
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut piece = Ok(Bytes::copy_from_slice(bytes));
        let began = std::time::Instant::now();
        loop {
            piece = match self.runtime.block_on(self.pieces.send_timeout(piece, CONTENTION_POLL_INTERVAL)) {
                Ok(()) => return Ok(bytes.len()),
                Err(SendTimeoutError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(SendTimeoutError::Timeout(piece)) => piece,
            };
            let wanted = self.wanted.load(Relaxed);
            let timeout = if wanted { CLIENT_TIMEOUT_CONTENDED } else { CLIENT_TIMEOUT };
            if began.elapsed() > timeout {
                let others = if wanted { " while another client waits" } else { "" };
                let why = format!("the client took no {CHUNK} bytes within {timeout:?}{others}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a reader that takes nothing keeps the copy from ending, and how long.
    async fn untaken(wanted: bool) -> (io::ErrorKind, Duration) {
        let (pieces, _unread) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let wanted = Arc::new(AtomicBool::new(wanted));
        let mut outlet = Outlet { pieces, runtime: Handle::current(), wanted };
        let writing = tokio::task::spawn_blocking(move || {
            let began = std::time::Instant::now();
            let error = (0..=MAX_CHUNKS_AHEAD).find_map(|_| outlet.write(&[0; 8]).err()).unwrap();
            (error.kind(), began.elapsed())
        });
        writing.await.unwrap()
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_makes_way_for_another() {
        let (kind, took) = untaken(true).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(took >= CLIENT_TIMEOUT_CONTENDED && took < CLIENT_TIMEOUT_CONTENDED * 5, "{took:?}");
    }
}
