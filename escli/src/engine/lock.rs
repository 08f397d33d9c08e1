//! A lock on a file that lets only one operation run at a time. The system releases it however its holder ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// User and machine, e.g. `ada@host`.
    pub who: String,
    /// Name of the operation, e.g. `up`.
    pub operation: String,
    /// When it took the lock, RFC 3339.
    pub since: String,
    /// Id of its process.
    pub pid: u32,
}

/// Why a lock was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another operation holds it; `None` if its holder is not known yet.
    #[error("another operation is running on this cluster{}", described(.0.as_ref()))]
    Taken(Option<Holder>),
    /// The file cannot be created or locked.
    #[error("cannot lock {}: {reason}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the file system.
        reason: String,
    },
}

fn described(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |Holder { who, operation, since, pid }| {
        format!(": {operation} by {who} since {since} (pid {pid})")
    })
}

/// A lock, held as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` for `holder`.
    ///
    /// # Errors
    /// [`LockError::Taken`] if another operation holds it.
    pub fn take(path: &Path, holder: &Holder) -> Result<Self, LockError> {
        let broken = |error: io::Error| LockError::Io { path: path.to_owned(), reason: error.to_string() };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(broken)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(broken)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Taken(written(path))),
            Err(error) => return Err(broken(error.into())),
        }
        let line = serde_json::to_string(holder).unwrap_or_default();
        file.set_len(0).and_then(|()| writeln!(file, "{line}")).map_err(broken)?;
        Ok(Self { _file: file })
    }
}

/// Returns the current holder of the lock at `path`; `None` if it is free.
pub fn holder(path: &Path) -> Option<Holder> {
    let file = File::open(path).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => written(path),
        // The lock is free. Dropping this handle releases it at once.
        _ => None,
    }
}

fn written(path: &Path) -> Option<Holder> {
    fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(operation: &str) -> Holder {
        Holder {
            who: "ada@host".to_owned(),
            operation: operation.to_owned(),
            since: "2026-01-31T10:15:30Z".to_owned(),
            pid: 4711,
        }
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("local").join("lock");
        let first = Lock::take(&path, &holder("up")).unwrap();
        let error = Lock::take(&path, &holder("down")).unwrap_err();
        assert_eq!(error, LockError::Taken(Some(holder("up"))));
        assert!(
            error.to_string().ends_with(": up by ada@host since 2026-01-31T10:15:30Z (pid 4711)"),
            "{error}"
        );
        drop(first);
        Lock::take(&path, &holder("down")).unwrap();
    }
}
