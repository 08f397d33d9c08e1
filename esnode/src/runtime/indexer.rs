//! The thread that makes the indexes of sealed segments.
//!
//! Most are made of what is known of recent batches. After a start, and for segments that came from another node or an
//! earlier version, the log itself is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::select;
use parking_lot::RwLock;

use super::background_thread::BackgroundThread;
use super::log_scan::Scan;
use crate::batch_index::recent::RecentBatch;
use crate::batch_index::{IndexedBatch, PartitionKey};
use crate::state_machine::StateMachine;
use crate::storage::Log;
use crate::storage::batch_reader::BatchReader;
use crate::storage::log::segment_indexes::Unindexed;

/// Pause after each mebibyte of the log that is read: a terabyte of an earlier version leaves most of the disk to others.
const SCAN_PAUSE: Duration = Duration::from_millis(15);
/// Time after which a segment is looked at again whose entries were not applied yet, or that could not be indexed; the
/// latter the later, the more often it has failed.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The thread.
pub struct Indexer {
    _thread: BackgroundThread,
}

impl Indexer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn spawn(log: Log, batches: BatchReader, state: Arc<RwLock<StateMachine>>) -> io::Result<Self> {
        let run = move |stopped| {
            let scan = Scan {
                log: log.clone(),
                batches: batches.clone(),
                state: Arc::clone(&state),
                pause: SCAN_PAUSE,
                stopped,
            };
            Work { log, batches, state, scan }.run();
        };
        Ok(Self { _thread: BackgroundThread::spawn("indexer", run)? })
    }
}

struct Work {
    log: Log,
    batches: BatchReader,
    state: Arc<RwLock<StateMachine>>,
    scan: Scan,
}

/// Why no index was made.
#[derive(Debug)]
pub(super) enum Postponed {
    /// The node stops.
    Stopped,
    /// It may work later.
    Failed(io::Error),
}

impl From<io::Error> for Postponed {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Work {
    fn run(&self) {
        let sealed = self.log.sealed();
        let mut pause = AGAIN;
        loop {
            let again = match self.index_all() {
                Ok(done) => {
                    pause = AGAIN;
                    if done { crossbeam_channel::never() } else { crossbeam_channel::after(AGAIN) }
                }
                Err(Postponed::Stopped) => return,
                Err(Postponed::Failed(error)) => {
                    tracing::warn!(%error, "a segment has no index yet; its events are found more slowly");
                    let again = crossbeam_channel::after(pause);
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    again
                }
            };
            select! {
                recv(sealed) -> _ => {}
                recv(again) -> _ => {}
                recv(self.scan.stopped) -> _ => return,
            }
        }
    }

    /// Indexes all segments that can be, and what comes before the recent batches. Returns whether nothing is left.
    fn index_all(&self) -> Result<bool, Postponed> {
        let (mut failed, mut scanned) = (None, 0);
        loop {
            let (to_scan, done) = self.index_known(scanned)?;
            let Some(segment) = to_scan else {
                let extended = self.extend_recent();
                return failed.map_or(extended.map(|()| done), |error| Err(Postponed::Failed(error)));
            };
            scanned = segment.sequence();
            match self.scan.entries(segment.entries.clone(), |found| found.indexed) {
                Ok(indexed) => {
                    self.log.write_index(&segment, &indexed)?;
                    self.forget(*segment.entries.end());
                }
                // Those after it may be indexed all the same.
                Err(Postponed::Failed(error)) => drop(failed.get_or_insert(error)),
                Err(Postponed::Stopped) => return Err(Postponed::Stopped),
            }
        }
    }

    /// Indexes the segments whose batches are among the recent ones, which would need more and more memory. Returns the
    /// first of the others after the one of sequence number `scanned`, and whether all entries are applied.
    fn index_known(&self, scanned: u32) -> Result<(Option<Unindexed>, bool), Postponed> {
        let (mut after, mut to_scan) = (0, None);
        while let Some(segment) = self.log.next_unindexed(after) {
            after = segment.sequence();
            let last = *segment.entries.end();
            if last > self.state.read().applied_index() {
                return Ok((to_scan, false));
            }
            if self.log.open_index(&segment) {
                self.forget(last);
            } else if let Some(known) = self.known(&segment) {
                self.log.write_index(&segment, &known)?;
                self.forget(last);
            } else if after > scanned {
                to_scan.get_or_insert(segment);
            }
        }
        Ok((to_scan, true))
    }

    fn forget(&self, last: u64) {
        self.batches.recent().forget(last);
        self.log.forget_positions(last);
    }

    /// The batches of a segment, if all of them are among the recent ones.
    fn known(&self, segment: &Unindexed) -> Option<Vec<(PartitionKey, Vec<IndexedBatch>)>> {
        let recent = self.batches.recent();
        let has_all = || recent.since() <= *segment.entries.start();
        if !has_all() {
            return None;
        }
        let mut known = recent.of_entries(&segment.entries);
        known.sort_unstable_by_key(|(key, _)| *key);
        let indexed = known.into_iter().map(|(key, batches)| Some((key, self.resolve(&batches)?))).collect();
        // Else another node's log may have taken the place of this one meanwhile.
        if has_all() { indexed } else { None }
    }

    fn resolve(&self, recent: &[RecentBatch]) -> Option<Vec<IndexedBatch>> {
        let places = self.log.resolve(recent.iter().map(|recent| (recent.entry, recent.offset)))?;
        let placed = recent.iter().zip(places);
        let indexed =
            placed.map(|(recent, (_, position, term))| IndexedBatch { batch: recent.batch, term, position });
        Some(indexed.collect())
    }

    /// After a start the recent batches begin in the middle of the last segment: adds those before.
    fn extend_recent(&self) -> Result<(), Postponed> {
        let recent = self.batches.recent();
        let first = self.log.first_unsealed().max(self.batches.first_unpacked());
        let since = recent.since();
        if first >= since || since - 1 > self.log.last_index() {
            return Ok(());
        }
        recent.extend_back(first, since, self.scan.entries(first..=since - 1, |found| found.recent)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
