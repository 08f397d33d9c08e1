//! One operation at a time: a lock on a file, which the system frees whatever becomes of its holder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

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

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` for `holder`.
    ///
    /// # Errors
    /// [`Exit::Locked`] naming the holder, when it is taken; a plain failure when the file cannot be made.
    pub fn take(path: &Path, holder: &Holder) -> Result<Self, Failure> {
        let broken = |error: io::Error| Failure::failed(format!("cannot lock {}: {error}", path.display()));
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
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(path)),
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

fn taken(path: &Path) -> Failure {
    let holder = written(path);
    let message = holder.map_or_else(
        || "another operation is running on this cluster".to_owned(),
        |holder| {
            format!(
                "another operation is running on this cluster: {} by {} since {} (pid {})",
                holder.operation, holder.who, holder.since, holder.pid
            )
        },
    );
    Failure::new(Exit::Locked, message)
        .hint("wait until it is done, then try again; escli watch shows how far it is")
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
        assert_eq!(error.exit, Exit::Locked);
        assert!(error.message.contains("up by ada@host since 2026-01-31T10:15:30Z (pid 4711)"), "{error}");
        drop(first);
        Lock::take(&path, &holder("down")).unwrap();
    }
}
