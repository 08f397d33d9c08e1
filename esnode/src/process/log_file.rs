//! The node's log where it is a file that somebody else opened: `escli` and a user's systemd do. Nobody but the node
//! itself can keep it from growing: it moves it to `<name>.1` when it is large, and goes on in a new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::stdio::{dup2_stderr, dup2_stdout};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Bytes from which on a log goes on in a new file; the two take twice as much.
const LARGE: u64 = 32 << 20;
/// How often to look at its size.
const EVERY: Duration = Duration::from_secs(10);

/// Runs until `stop` says so.
pub async fn rotate(mut stop: watch::Receiver<bool>) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match rotate_if_large() {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("the log goes on here; what was logged before is in the file that ends in .1");
            }
            Err(error) => tracing::warn!(%error, "the log is large, and cannot go on in a new file"),
        }
    }
}

fn rotate_if_large() -> io::Result<bool> {
    let file = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map(File::from);
    let log = file(rustix::stdio::stderr())?;
    let Some(next) = next(&log, LARGE)? else { return Ok(false) };
    if is_same(&file(rustix::stdio::stdout())?.metadata()?, &log.metadata()?) {
        dup2_stdout(&next)?;
    }
    dup2_stderr(&next)?;
    Ok(true)
}

/// The file that takes the place of `log`, if that has at least `large` bytes: it is created with its name and rights.
/// `None` for what is no file, or one that is not appended to, or that has no name any more.
fn next(log: &File, large: u64) -> io::Result<Option<File>> {
    let of_log = log.metadata()?;
    if !of_log.is_file() || of_log.len() < large || !rustix::fs::fcntl_getfl(log)?.contains(OFlags::APPEND) {
        return Ok(None);
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", log.as_raw_fd()))?;
    if !fs::metadata(&path).is_ok_and(|named| is_same(&named, &of_log)) {
        return Ok(None);
    }
    let mut old = path.clone().into_os_string();
    old.push(".1");
    fs::rename(&path, old)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(of_log.mode() & 0o777).open(&path).map(Some)
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_large_log_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        fs::write(&old, "older still").unwrap();
        let mut log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        log.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        log.write_all(b"0123456789").unwrap();
        assert!(next(&log, 11).unwrap().is_none());
        let mut next_file = next(&log, 10).unwrap().unwrap();
        next_file.write_all(b"new").unwrap();
        assert_eq!(
            (fs::read(&old).unwrap(), fs::read(&path).unwrap()),
            (b"0123456789".into(), b"new".into())
        );
        assert_eq!(next_file.metadata().unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_not_appended_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        assert!(next(&log, 0).unwrap().is_none());
        fs::remove_file(dir.path().join("log")).unwrap();
        assert!(next(&log, 0).unwrap().is_none());
    }
}
