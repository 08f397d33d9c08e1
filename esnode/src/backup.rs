//! A copy of the log for somebody to keep: which, when it may begin, and how it becomes a stream.
//!
//! The stream is a tar of a data directory without an identity, and of what [`shared::backup`] tells at its end.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::backup::{self, File, MANIFEST, Manifest, SUM};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use crate::nice::give_way;
use crate::storage::copy::{CopiedFile, Copy};
use crate::storage::{Checkpoints, Log};

/// Bytes read and sent at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the client.
const AHEAD: usize = 4;
/// A copy begins within this time of being asked for.
const PATIENCE: Duration = Duration::from_secs(30);
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
}

impl Backups {
    /// Of the log that these checkpoints belong to.
    pub fn new(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, free: Arc::new(Semaphore::new(1)) }
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
        let permit = self.free.clone().try_acquire_owned().map_err(|_| BackupError::Busy)?;
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
        thread::Builder::new().name("backup".into()).spawn(move || {
            give_way();
            send(&log, &checkpoints, manifest, &pieces);
            drop(permit);
        })?;
        Ok(received)
    }
}

fn send(log: &Log, checkpoints: &Checkpoints, manifest: Manifest, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    let gathered = Copy::gather(log, checkpoints).and_then(|copy| copy.ok_or(io::ErrorKind::NotFound.into()));
    let outlet = io::BufWriter::with_capacity(CHUNK, Outlet(pieces.clone()));
    match gathered.and_then(|copy| write(&copy, manifest, outlet)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::debug!("a backup was not taken to its end");
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

/// Sends what is written; waits for a client that is slower.
struct Outlet(mpsc::Sender<io::Result<Bytes>>);

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
