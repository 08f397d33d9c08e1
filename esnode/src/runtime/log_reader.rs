//! The durable log as consensus reads it, and the thread that reads old entries for lagging followers.

use std::io;
use std::thread;

use crossbeam_channel::Sender;

use super::input::Input;
use crate::consensus::{Durable, Fetch, ReadFailed};
use crate::entry::Entry;
use crate::storage::Log;

impl Durable for Log {
    fn first_index(&self) -> u64 {
        Log::first_index(self)
    }

    fn last_index(&self) -> u64 {
        Log::last_index(self)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
        Log::term(self, index).map_err(failed)
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
        Log::entries(self, low, high, max_bytes).map_err(failed)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "taken by map_err")]
fn failed(error: io::Error) -> ReadFailed {
    ReadFailed(error.to_string())
}

/// Starts the reader. It ends when the returned sender is dropped.
pub(super) fn spawn_reader(log: Log, inputs: Sender<Input>) -> io::Result<Sender<Fetch>> {
    let (sender, fetches) = crossbeam_channel::unbounded::<Fetch>();
    thread::Builder::new().name("log-reader".into()).spawn(move || {
        for fetch in fetches {
            let input = match log.entries(fetch.low, fetch.high, fetch.max_bytes) {
                Ok(entries) => Input::Fetched(fetch, entries),
                // Retired, or given up for another node's log, since they were asked for: Raft sees that too when it tries
                // again.
                Err(_) if fetch.low < log.first_index() => Input::Fetched(fetch, Vec::new()),
                Err(error) => Input::DiskFailed(error),
            };
            if inputs.send(input).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}
