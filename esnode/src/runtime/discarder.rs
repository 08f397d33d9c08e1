//! The thread that frees the memory of what nobody needs any more: of a thousand partitions that takes longer than the
//! raft thread has time for.

use std::io;
use std::thread;

use crossbeam_channel::Sender;

use crate::process::thread_priority::lower;
use crate::state_machine::Topic;

/// Starts the thread. It ends when the returned sender is dropped.
///
/// # Errors
/// If no thread can be started.
pub(super) fn spawn() -> io::Result<Sender<Vec<Topic>>> {
    let (sender, discarded) = crossbeam_channel::unbounded();
    thread::Builder::new().name("discarder".into()).spawn(move || {
        lower();
        discarded.into_iter().for_each(drop);
    })?;
    Ok(sender)
}
