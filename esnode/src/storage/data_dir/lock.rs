//! The lock of a data directory: either one process writes to it, or any number of processes read it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::IdentityError;
use crate::storage::files::named;

/// The locked file. It contains the id of the process that holds the lock.
const LOCK: &str = "lock";

/// Locks `dir` for this process alone. The system releases the lock when the process ends, for any reason.
///
/// # Errors
/// [`IdentityError::Locked`], and those of the file system.
pub(crate) fn exclusive(dir: &Path) -> Result<File, IdentityError> {
    let named = named(dir, LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(dir.join(LOCK)).map_err(named)?;
    file.try_lock().map_err(|error| refused(dir, &file, error))?;
    file.set_len(0).map_err(named)?;
    writeln!(file, "{}", std::process::id()).map_err(named)?;
    Ok(file)
}

/// Prevents nodes from using `dir` as long as the file is open. Changes nothing on disk.
///
/// # Errors
/// As [`exclusive`]; and if no node has ever used the directory.
pub(crate) fn shared(dir: &Path) -> Result<File, IdentityError> {
    let file = File::open(dir.join(LOCK)).map_err(named(dir, LOCK))?;
    file.try_lock_shared().map_err(|error| refused(dir, &file, error))?;
    Ok(file)
}

fn refused(dir: &Path, file: &File, error: TryLockError) -> IdentityError {
    match error {
        TryLockError::WouldBlock => IdentityError::Locked { dir: dir.to_owned(), holder: holder(file) },
        TryLockError::Error(error) => named(dir, LOCK)(error).into(),
    }
}

/// Returns the process that holds the lock, for messages. It may not have written its id yet.
fn holder(mut file: &File) -> String {
    let mut pid = String::new();
    let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    if known { format!("process {}", pid.trim()) } else { "process unknown".to_owned() }
}
