//! The WAL thread: takes whatever has queued up, writes it, syncs once.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};

use super::{Batch, Wal};

/// Work taken in one go; bounds how long the first of it waits for the sync.
const MAX_BATCHES: usize = 1024;

/// What the disk has to say.
#[derive(Debug)]
pub enum WalEvent {
    /// Everything up to this number is durable.
    Persisted {
        /// The highest number written.
        number: u64,
    },
    /// The disk failed; nothing more will be written.
    Failed(io::Error),
}

/// Starts the thread. Work is numbered in ascending order; number 0 asks for no answer. The thread ends when the
/// sender is dropped and everything is written.
pub fn spawn_writer(
    mut wal: Wal,
    mut on_event: impl FnMut(WalEvent) + Send + 'static,
) -> io::Result<(Sender<(u64, Batch)>, JoinHandle<()>)> {
    let (sender, work) = crossbeam_channel::unbounded();
    let thread = thread::Builder::new().name("wal".into()).spawn(move || {
        while let Ok(first) = work.recv() {
            match write_all(&mut wal, first, &work) {
                Ok(0) => {}
                Ok(number) => on_event(WalEvent::Persisted { number }),
                Err(error) => return on_event(WalEvent::Failed(error)),
            }
        }
    })?;
    Ok((sender, thread))
}

fn write_all(wal: &mut Wal, first: (u64, Batch), work: &Receiver<(u64, Batch)>) -> io::Result<u64> {
    let mut newest = first.0;
    wal.write(&first.1)?;
    for (number, batch) in work.try_iter().take(MAX_BATCHES) {
        wal.write(&batch)?;
        newest = newest.max(number);
    }
    wal.sync()?;
    Ok(newest)
}
