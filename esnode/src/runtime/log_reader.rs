//! The thread that reads old entries for lagging followers.

use std::io;
use std::thread;

use crossbeam_channel::Sender;

use super::Event;
use crate::consensus::LogRead;
use crate::replica::Input;
use crate::storage::Log;

/// Starts the thread. It ends when the returned sender is dropped.
///
/// # Errors
/// If no thread can be started.
pub(super) fn spawn(log: Log, events: Sender<Event>) -> io::Result<Sender<LogRead>> {
    let (sender, reads) = crossbeam_channel::unbounded::<LogRead>();
    thread::Builder::new().name("log-reader".into()).spawn(move || {
        for read in reads {
            let event = match log.entries(read.low, read.high, read.max_bytes) {
                Ok(entries) => Event::Input(Input::LogRead(read, entries)),
                // The entries were deleted, or replaced by another node's log, after they were asked for. Raft notices
                // that too when it tries again.
                Err(_) if read.low < log.first_index() => Event::Input(Input::LogRead(read, Vec::new())),
                Err(error) => Event::DiskFailed(error),
            };
            if events.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}
