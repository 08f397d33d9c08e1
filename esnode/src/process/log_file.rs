//! Rotates the node's log if it is a file that another program has opened for it, as `escli` and a user's systemd do.
//! Nobody else limits its size, so the node moves it to `<name>.1` when it is large, and continues in a new file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::stdio::{dup2_stderr, dup2_stdout};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Size from which on the log is rotated, in bytes. The two files take twice as much.
const MAX_BYTES: u64 = 32 << 20;
/// Time between two checks of its size.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Checks the log until `stop` turns true.
pub async fn rotate(mut stop: watch::Receiver<bool>) {
    let mut interval = interval(POLL_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match rotate_if_large() {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("log rotated: earlier lines are in the file that ends in .1");
            }
            Err(error) => tracing::warn!(%error, "cannot rotate the log"),
        }
    }
}

fn rotate_if_large() -> io::Result<bool> {
    let file = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map(File::from);
    let log = file(rustix::stdio::stderr())?;
    let Some(next) = next(&log, MAX_BYTES)? else { return Ok(false) };
    if is_same(&file(rustix::stdio::stdout())?.metadata()?, &log.metadata()?) {
        dup2_stdout(&next)?;
    }
    dup2_stderr(&next)?;
    Ok(true)
}

/// Returns a new file to replace `log`, with its name and mode, if the log has at least `large` bytes. `None` if it is
/// smaller, is not a file, is not appended to, or has been deleted.
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
