//! The writer's thread: takes all batches that have queued up, writes them, syncs once, reports. While one
//! sync runs, the next group gathers: group commit without a timer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::snapshot::Snapshots;
use super::transfer::{Staged, install};
use super::{Batch, Wal};
use crate::entry::HardState;

/// What became of batches.
#[derive(Debug)]
pub enum WalEvent {
    /// This batch and all sent before it are durable (as far as [`super::Options::sync`] asks) and visible.
    Persisted {
        /// The number sent with the batch.
        number: u64,
    },
    /// Nothing can be written any more, and what was not reported as persisted may be lost: the node must
    /// exit.
    Failed(io::Error),
}

/// What the writer does next.
#[derive(Clone, Debug)]
pub enum WalRequest {
    /// Write it, with whatever else waits, and sync.
    Write(Batch),
    /// Say that what follows may be written in this on-disk format.
    Adopt(u16),
    /// Put it behind or in the place of the log, by itself; with it, a new persistent state.
    Install(Arc<Staged>, Option<HardState>),
}

/// WalRequest, with its number if somebody waits until it is durable.
pub type NumberedRequest = (Option<u64>, WalRequest);

/// Handle of the thread.
pub struct Writer {
    sender: Sender<NumberedRequest>,
    thread: JoinHandle<()>,
}

/// Starts the thread. `adopt` and `on_event` are called on it: the one makes [`WalRequest::Adopt`] durable,
/// the other must not wait for anything. After [`WalEvent::Failed`] there are no more events.
///
/// # Errors
/// The system refuses another thread.
pub fn spawn(
    wal: Wal,
    snapshots: Snapshots,
    adopt: impl FnMut(u16) -> io::Result<()> + Send + 'static,
    on_event: impl FnMut(WalEvent) + Send + 'static,
) -> io::Result<Writer> {
    // Unbounded: the sender is the raft thread, which never waits; what is in flight is bounded by proposals.
    let (sender, receiver) = unbounded();
    let thread = thread::Builder::new()
        .name("wal".into())
        .spawn(move || run(wal, &snapshots, &receiver, adopt, on_event))?;
    Ok(Writer { sender, thread })
}

impl Writer {
    /// Where to send work; a number is higher than any before it.
    pub fn sender(&self) -> &Sender<NumberedRequest> {
        &self.sender
    }

    /// Writes what was sent, ends the log in good order, and ends the thread. Clones of the sender must be
    /// gone, or this waits for them.
    pub fn close(self) {
        drop(self.sender);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(
    mut wal: Wal,
    snapshots: &Snapshots,
    receiver: &Receiver<NumberedRequest>,
    mut adopt: impl FnMut(u16) -> io::Result<()>,
    mut on_event: impl FnMut(WalEvent),
) {
    while let Ok(first) = receiver.recv() {
        // What arrives from now on belongs to the next group: a busy sender must not keep this one from its
        // sync.
        let queued = receiver.len();
        let group = std::iter::once(first).chain(receiver.try_iter().take(queued));
        wal.stats().busy.store(true, Relaxed);
        match write_group(&mut wal, snapshots, &mut adopt, group) {
            Ok(Some(number)) => on_event(WalEvent::Persisted { number }),
            Ok(None) => {}
            Err(error) => return on_event(WalEvent::Failed(error)),
        }
        wal.stats().busy.store(false, Relaxed);
        if receiver.is_empty()
            && let Err(error) = wal.mark()
        {
            return on_event(WalEvent::Failed(error));
        }
    }
    if let Err(error) = wal.close() {
        on_event(WalEvent::Failed(error));
    }
}

/// Returns the highest number: what has none stands before and behind what has one, and takes nothing back.
fn write_group(
    wal: &mut Wal,
    snapshots: &Snapshots,
    adopt: &mut impl FnMut(u16) -> io::Result<()>,
    group: impl Iterator<Item = NumberedRequest>,
) -> io::Result<Option<u64>> {
    let mut highest = None;
    for (number, work) in group {
        match work {
            WalRequest::Write(batch) => wal.write(&batch)?,
            WalRequest::Adopt(format) => adopt(format)?,
            WalRequest::Install(staged, hard_state) => install(wal, snapshots, &staged, hard_state)?,
        }
        highest = highest.max(number);
    }
    wal.sync()?;
    Ok(highest)
}
