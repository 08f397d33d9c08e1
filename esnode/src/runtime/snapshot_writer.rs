//! The thread that encodes and writes snapshots. The raft thread itself only clones the state, which is cheap.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Event, SnapshotStates};
use crate::process::thread_priority::lower;
use crate::replica::{Input, Snapshot};
use crate::storage::is_full;
use crate::storage::{Log, Snapshots};

/// A snapshot and the term of its last entry.
type Job = (u64, Box<Snapshot>);

/// The thread.
pub(super) struct SnapshotWriter(Option<(Sender<Job>, JoinHandle<()>)>);

impl SnapshotWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn spawn(
        snapshots: Snapshots,
        log: Log,
        states: SnapshotStates,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let (sender, jobs) = bounded(1);
        let thread = thread::Builder::new().name("snapshot".into()).spawn(move || {
            lower();
            run(&snapshots, &log, &jobs, &states, &events);
        })?;
        Ok(Self(Some((sender, thread))))
    }

    /// Writes a snapshot. The replica asks for the next one only after this one is written.
    pub(super) fn write(&self, term: u64, snapshot: Box<Snapshot>) {
        // The thread ends before this one only if it has reported an error.
        let sender = self.0.as_ref().map(|(sender, _)| sender);
        let _ = sender.map(|sender| sender.send((term, snapshot)));
    }
}

impl Drop for SnapshotWriter {
    /// Waits until the current snapshot is written, because another process may use the directory next.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            // If the thread has panicked, that was already reported.
            drop(thread.join());
        }
    }
}

fn run(
    snapshots: &Snapshots,
    log: &Log,
    jobs: &Receiver<Job>,
    states: &SnapshotStates,
    events: &Sender<Event>,
) {
    for (term, snapshot) in jobs {
        let index = snapshot.state.applied_index();
        let state = snapshot.state.clone();
        let payload = snapshot.encode().map_err(io::Error::from);
        let event = match payload.and_then(|payload| snapshots.write(log, index, term, &payload)) {
            Err(error) if is_full(&error) => {
                tracing::warn!(index, %error, "no room for a snapshot; the next one is tried later");
                Event::Input(Input::SnapshotWritten(false))
            }
            Err(error) => Event::DiskFailed(error),
            Ok(()) => {
                tracing::debug!(index, "wrote a snapshot");
                // Else another node's snapshot was installed meanwhile, which this one must not be taken for.
                if snapshots.newest_index() == Some(index) {
                    states.put(state);
                }
                Event::Input(Input::SnapshotWritten(true))
            }
        };
        if events.send(event).is_err() {
            return;
        }
    }
}
