//! One operation at a time: a lock on a file, which the system frees whatever becomes of its holder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// E.g. `ada@host`.
    pub who: String,
    /// The operation, e.g. `up`.
    pub operation: String,
    /// RFC 3339.
    pub since: String,
    /// The process.
    pub pid: u32,
}

/// Why a lock was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("another operation is running on this cluster{}", described(.0.as_ref()))]
    Taken(Option<Holder>),
    /// The file cannot be made or locked.
    #[error("cannot lock {}: {reason}", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

fn described(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |Holder { who, operation, since, pid }| {
        format!(": {operation} by {who} since {since} (pid {pid})")
    })
}

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` for `holder`.
    ///
    /// # Errors
    /// [`LockError::Taken`] when somebody else holds it.
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

/// Who holds the lock at `path` just now; nobody when it is free.
pub fn holder(path: &Path) -> Option<Holder> {
    let file = File::open(path).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => written(path),
        // Free; this handle gives it back at once.
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
