//! A copy of the log for somebody to keep: which, when it may begin, and how it becomes a stream.
//!
//! The stream is a tar of a data directory without an identity, and of what [`shared::backup`] tells at its end.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::backup::{self, File, MANIFEST, Manifest, SUM};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use crate::process::thread_priority::lower;
use crate::storage::copy::{CopiedFile, Copy};
use crate::storage::{Checkpoints, Log};

/// Bytes read and sent at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the client.
const AHEAD: usize = 4;
/// A copy begins within this time of being asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// A piece is taken within this time, or the copy breaks off: no other can begin meanwhile.
const SLOWEST: Duration = Duration::from_secs(30);
/// The same once somebody else has asked for a copy.
const SLOWEST_WANTED: Duration = Duration::from_secs(1);
/// Between two looks at whether somebody has.
const GLANCE: Duration = Duration::from_millis(100);
/// Between two looks at the newest checkpoint.
const LOOK: Duration = Duration::from_millis(20);

/// The copy, piece by piece; ends with an error when it breaks off.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// One at a time.
    #[error("another backup is being taken from this node")]
    Busy,
    /// This node is no part of a cluster yet.
    #[error("this node is no member of a cluster yet")]
    NoCluster,
    /// It does not have it.
    #[error("entry {0} is in no checkpoint of this node after {PATIENCE:?}: it lags, or its disk is full")]
    Behind(u64),
    /// The system's.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Takes copies, one at a time.
#[derive(Clone, Debug)]
pub struct Backups {
    checkpoints: Checkpoints,
    free: Arc<Semaphore>,
    /// Somebody has asked for one while another was being taken.
    wanted: Arc<AtomicBool>,
}

impl Backups {
    /// Of the log that these checkpoints belong to.
    pub fn new(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, free: Arc::new(Semaphore::new(1)), wanted: Arc::default() }
    }

    /// Begins a copy of everything up to entry `covers`, at least. `hurry` asks for a checkpoint; `describe` completes
    /// what the copy says of itself.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin(
        &self,
        log: &Log,
        covers: u64,
        hurry: impl Fn(),
        describe: impl FnOnce() -> Option<Manifest>,
    ) -> Result<Pieces, BackupError> {
        let Ok(permit) = self.free.clone().try_acquire_owned() else {
            self.wanted.store(true, Relaxed);
            return Err(BackupError::Busy);
        };
        self.wanted.store(false, Relaxed);
        let end = Instant::now() + PATIENCE;
        while self.checkpoints.newest_index() < Some(covers.max(1)) {
            if Instant::now() > end {
                return Err(BackupError::Behind(covers));
            }
            hurry();
            sleep(LOOK).await;
        }
        let manifest = describe().ok_or(BackupError::NoCluster)?;
        let (log, checkpoints) = (log.clone(), self.checkpoints.clone());
        let (pieces, received) = mpsc::channel(AHEAD);
        let outlet = Outlet { pieces, runtime: Handle::current(), wanted: Arc::clone(&self.wanted) };
        thread::Builder::new().name("backup".into()).spawn(move || {
            lower();
            send(&log, &checkpoints, manifest, outlet);
            drop(permit);
        })?;
        Ok(received)
    }
}

fn send(log: &Log, checkpoints: &Checkpoints, manifest: Manifest, outlet: Outlet) {
    let gathered = Copy::gather(log, checkpoints).and_then(|copy| copy.ok_or(io::ErrorKind::NotFound.into()));
    let pieces = outlet.pieces.clone();
    let outlet = io::BufWriter::with_capacity(CHUNK, outlet);
    match gathered.and_then(|copy| write(&copy, manifest, outlet)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::debug!("a backup was not taken to its end");
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            tracing::warn!(%error, "a backup breaks off; take it again, nearer to the node");
        }
        Err(error) => {
            tracing::error!(%error, "a backup breaks off");
            // Whoever took it may be gone; then nobody is left to tell.
            let _ = pieces.blocking_send(Err(error));
        }
        Ok(()) => {}
    }
}

/// Writes the copy as a tar, what it says of itself last.
fn write(copy: &Copy, mut manifest: Manifest, outlet: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(outlet);
    let Copy { first_index, last_index, last_term, .. } = *copy;
    (manifest.first_index, manifest.last_index, manifest.last_term) = (first_index, last_index, last_term);
    for file in &copy.files {
        manifest.files.push(append(&mut tar, file)?);
    }
    let text = serde_json::to_vec_pretty(&manifest)?;
    tar.append_data(&mut header(text.len() as u64), MANIFEST, &text[..])?;
    let sum = backup::sum(&hex(&Sha256::digest(&text)));
    tar.append_data(&mut header(sum.len() as u64), SUM, sum.as_bytes())?;
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<impl Write>, file: &CopiedFile) -> io::Result<File> {
    let mut hashing =
        Hashing { reader: BufReader::with_capacity(CHUNK, file.reader()), hasher: Sha256::new() };
    tar.append_data(&mut header(file.bytes), &file.path, &mut hashing)?;
    let sha256 = hex(&hashing.hasher.finalize());
    Ok(File { path: file.path.clone(), bytes: file.bytes, sha256 })
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
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
            piece = match self.runtime.block_on(self.pieces.send_timeout(piece, GLANCE)) {
                Ok(()) => return Ok(bytes.len()),
                Err(SendTimeoutError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(SendTimeoutError::Timeout(piece)) => piece,
            };
            let wanted = self.wanted.load(Relaxed);
            let patience = if wanted { SLOWEST_WANTED } else { SLOWEST };
            if began.elapsed() > patience {
                let others = if wanted { " while another one was asked for" } else { "" };
                let why = format!("its reader took no {CHUNK} bytes within {patience:?}{others}");
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
        let (pieces, _unread) = mpsc::channel(AHEAD);
        let wanted = Arc::new(AtomicBool::new(wanted));
        let mut outlet = Outlet { pieces, runtime: Handle::current(), wanted };
        let writing = tokio::task::spawn_blocking(move || {
            let began = std::time::Instant::now();
            let error = (0..=AHEAD).find_map(|_| outlet.write(&[0; 8]).err()).unwrap();
            (error.kind(), began.elapsed())
        });
        writing.await.unwrap()
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_makes_way_for_another() {
        let (kind, took) = untaken(true).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(took >= SLOWEST_WANTED && took < SLOWEST_WANTED * 5, "{took:?}");
    }
}
