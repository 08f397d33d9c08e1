//! Partitions: their offsets, and the places of their batches in the log.

pub mod batch;
mod index;
mod terms;
mod transactions;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Refusal, Reply, Stored};
use super::producers::{Producer, Producers, SequenceCheck};
use super::transactions::{Ending, MARKER, TransactionError};
use crate::batch_index::BatchEntry;
use crate::batch_index::recent::RecentBatch;
use batch::BatchHeader;
use index::IndexEntry;
pub use index::Position;
use terms::Terms;
pub use transactions::AbortedTransaction;
use transactions::Transactions;

/// The on-disk format from which on rejected appends are kept in runs.
const REJECTED_RUNS_FORMAT: u16 = 2;

/// The offsets of a partition, and the places of its batches in the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Partition {
    start_offset: i64,
    #[serde(rename = "next_offset")]
    high_watermark: i64,
    max_timestamp: Option<i64>,
    /// Total size of all batches that ever got offsets.
    bytes: u64,
    /// Places of batches, in order, one per interval of the log.
    #[serde(rename = "points")]
    index: Vec<IndexEntry>,
    /// Index of the entry that holds the newest live batch.
    latest: Option<u64>,
    /// Appends that got no offsets, from the time before format 2: entry, and place among the commands of that entry.
    #[serde(rename = "voids")]
    rejected: BTreeSet<(u64, u32)>,
    /// Appends that got no offsets, since format 2, as runs: the first and last of those between two appends that got
    /// offsets. Leaders validate batches before they propose them, so there are few runs, and never more than batches.
    #[serde(default, rename = "void_runs")]
    rejected_runs: Vec<((u64, u32), (u64, u32))>,
    /// No batch has got offsets since the last run, so the run can be extended.
    #[serde(default)]
    run_is_open: bool,
    /// Shared with the clones that snapshots are made from, until it changes.
    producers: Arc<Producers>,
    /// The term of each event.
    #[serde(default)]
    terms: Terms,
    #[serde(default)]
    transactions: Transactions,
}

/// Identifies an append among the commands of the log, with what is needed to apply it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommandContext {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) ordinal: u32,
    /// Payload of all entries before this one, in bytes.
    pub(super) payload: u64,
    /// Least interval between two index entries, in bytes of log payload.
    pub(super) index_interval: u64,
    /// The on-disk format that the cluster's data is written in.
    pub(super) format: u16,
    /// Producers whose latest batch lies before this entry have expired; `None` before the log's clock has ticked.
    pub(super) unexpired: Option<u64>,
    /// What a batch of the command is read from.
    pub(super) stored: Stored,
}

impl CommandContext {
    /// The batch that the command has given a partition, which had offsets up to `base_offset` before; `None` if there is
    /// none.
    pub(super) fn batch(&self, base_offset: i64, partition: &Partition) -> Option<RecentBatch> {
        let records =
            u32::try_from(partition.high_watermark - base_offset).ok().filter(|records| *records > 0)?;
        let Stored { content, offset, length } = self.stored;
        let newest = partition.max_timestamp.unwrap_or(i64::MIN);
        let batch = BatchEntry { base_offset, records, newest, length, content };
        Some(RecentBatch { batch, entry: self.index, offset })
    }
}

impl Partition {
    /// Offset of the oldest event kept.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Offset that the next event will get. What is applied is committed, so this is Kafka's high watermark.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Offset before which no transaction is under way: where committed readers stop.
    pub fn last_stable_offset(&self) -> i64 {
        self.transactions.first_open().map_or(self.high_watermark, |first| first.max(self.start_offset))
    }

    /// First offset of the producer's transaction, if it has one under way here.
    pub fn transaction_start(&self, producer: i64) -> Option<i64> {
        self.transactions.first_of(producer)
    }

    /// The aborted transactions with events from `from` up to, but not including, `to`, by their first offsets; `to` is
    /// at most the last stable offset.
    pub fn aborted_between(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        self.transactions.aborted_between(from, to)
    }

    /// Returns where to start scanning for `offset` (start_offset <= offset < high_watermark).
    pub fn locate(&self, offset: i64) -> Option<Position> {
        if !(self.start_offset..self.high_watermark).contains(&offset) {
            return None;
        }
        let after = self.index.partition_point(|entry| entry.position.base_offset <= offset);
        self.index.get(after.checked_sub(1)?).map(|entry| entry.position)
    }

    /// Returns where to start scanning for the first batch with a record at or after `timestamp` (ms); `None` if all
    /// are older.
    pub fn locate_time(&self, timestamp: i64) -> Option<Position> {
        self.max_timestamp.filter(|newest| *newest >= timestamp)?;
        let after = self.index.partition_point(|entry| entry.before.is_none_or(|before| before < timestamp));
        // The batch with that timestamp may be deleted. Then the scan begins at the first event that is kept.
        let kept = self.index.partition_point(|entry| entry.position.base_offset <= self.start_offset);
        self.index.get(after.max(kept).saturating_sub(1)).map(|entry| entry.position)
    }

    /// Returns the last place in the log, up to entry `entry`, that is known, and the newest timestamp before it. `None` if all
    /// places are behind that entry: what it holds is deleted.
    pub fn place_up_to(&self, entry: u64) -> Option<(Position, Option<i64>)> {
        let after = self.index.partition_point(|known| known.position.index <= entry);
        after.checked_sub(1).map(|place| (self.index[place].position, self.index[place].before))
    }

    /// Newest timestamp (ms) of all events that there ever were.
    pub fn max_timestamp(&self) -> Option<i64> {
        self.max_timestamp
    }

    /// The term of the event at `offset`, or of the last one before it; `None` where that is not known.
    pub fn term_of(&self, offset: i64) -> Option<u64> {
        self.terms.of(offset)
    }

    /// Returns the last term up to `term` that has events here, and the offset at which they end. A consumer that has
    /// read further in `term` has read another log. If that offset is not known, a later one is returned.
    pub fn end_of_term(&self, term: u64) -> (u64, i64) {
        self.terms.end_of(term, self.high_watermark)
    }

    /// Returns the first offset of the oldest batches that may hold an event at or after `timestamp` (ms); the high
    /// watermark if none does.
    pub fn first_since(&self, timestamp: i64) -> i64 {
        self.locate_time(timestamp).map_or(self.high_watermark, |position| position.base_offset)
    }

    /// Returns the first offset of the oldest batches that may be in entry `index` or later; the high watermark if none
    /// is.
    pub fn first_from(&self, index: u64) -> i64 {
        if self.latest.is_none_or(|latest| latest < index) {
            return self.high_watermark;
        }
        let after = self.index.partition_point(|entry| entry.position.index <= index);
        after.checked_sub(1).map_or(self.start_offset, |place| self.index[place].position.base_offset)
    }

    /// Returns the first offset to keep so that at least the newest `bytes` are kept.
    pub fn first_within(&self, bytes: u64) -> i64 {
        let after = self.index.partition_point(|entry| self.bytes - entry.bytes >= bytes);
        after.checked_sub(1).map_or(self.start_offset, |place| self.index[place].position.base_offset)
    }

    /// The oldest entry of the log that holds events of the partition; `None` when it is empty.
    pub fn first_index(&self) -> Option<u64> {
        let only = |first: &&IndexEntry| {
            let second = self.index.get(1);
            first.position.base_offset <= self.start_offset
                && second.is_none_or(|second| second.position.base_offset > self.start_offset)
        };
        // Nearly always it is the first entry of the index.
        match self.index.first().filter(only) {
            Some(first) if self.start_offset < self.high_watermark => Some(first.position.index),
            _ => self.locate(self.start_offset).map(|position| position.index),
        }
    }

    /// Deletes the events before `offset`; all events if it is beyond the last one.
    pub(super) fn delete_records(&mut self, offset: i64) {
        self.start_offset = offset.min(self.high_watermark).max(self.start_offset);
        // The index entry before the first event stays, even if no event is left, because later batches may be in the
        // same entry of the log.
        let after = self.index.partition_point(|entry| entry.position.base_offset <= self.start_offset);
        self.index.drain(..after.saturating_sub(1));
        self.terms.delete_before(self.start_offset);
        self.transactions.delete_before(self.start_offset);
        if let Some(first) = self.index.first() {
            let kept = (first.position.index, 0);
            self.rejected = self.rejected.split_off(&kept);
            self.rejected_runs.retain(|(_, last)| *last >= kept);
        }
    }

    /// Returns whether the `ordinal`-th command of entry `index`, an append to this partition, was refused or found to
    /// be a duplicate, and so has no offsets.
    pub fn is_rejected(&self, index: u64, ordinal: u32) -> bool {
        let at = (index, ordinal);
        let before = self.rejected_runs.partition_point(|(first, _)| *first <= at);
        let run = before.checked_sub(1).map(|run| self.rejected_runs[run]);
        run.is_some_and(|(_, last)| at <= last) || self.rejected.contains(&at)
    }

    /// Compares a batch with what its producer has appended before, if it is an idempotent one.
    pub fn validate(&self, batch: &BatchHeader) -> SequenceCheck {
        if batch.producer_id < 0 {
            return SequenceCheck::New;
        }
        if !batch.is_transactional() && self.transactions.first_of(batch.producer_id).is_some() {
            // It would be read as part of the transaction.
            return SequenceCheck::Refused(TransactionError::InvalidState.into());
        }
        self.producers.validate(batch)
    }

    /// Bytes of the batches that are kept, and of some that are not but share an index interval with the oldest.
    pub fn kept_bytes(&self) -> u64 {
        let first = self.index.first().filter(|_| self.start_offset < self.high_watermark);
        first.map_or(0, |first| self.bytes - first.bytes)
    }

    /// The idempotent producers that are remembered, by id.
    pub fn producers(&self) -> impl ExactSizeIterator<Item = (i64, &Producer)> {
        self.producers.iter()
    }

    /// What is remembered of an idempotent producer.
    pub fn producer(&self, id: i64) -> Option<&Producer> {
        self.producers.get(id)
    }

    /// Gives a batch of `bytes` bytes its offsets, unless it is refused already.
    pub(super) fn append(
        &mut self,
        header: Result<BatchHeader, Refusal>,
        bytes: usize,
        context: CommandContext,
    ) -> Reply {
        let header = match header {
            Ok(header) => header,
            Err(refusal) => return self.reject(context, Reply::Refused(refusal)),
        };
        match self.validate(&header) {
            SequenceCheck::Refused(refusal) => self.reject(context, Reply::Refused(refusal)),
            SequenceCheck::Duplicate(base_offset) => self.reject(context, self.appended(base_offset)),
            SequenceCheck::New => {
                let base_offset = self.high_watermark;
                self.extend(header.records(), bytes, context);
                if header.producer_id >= 0 {
                    let producers = Arc::make_mut(&mut self.producers);
                    producers.remember(&header, base_offset, context.index, context.unexpired);
                }
                if header.is_transactional() {
                    self.transactions.appended(header.producer_id, base_offset);
                }
                self.max_timestamp = self.max_timestamp.max(Some(header.max_timestamp));
                self.appended(base_offset)
            }
        }
    }

    /// Adds the marker of a transaction.
    pub(super) fn end_transaction(&mut self, ending: &Ending, context: CommandContext) -> Reply {
        let offset = self.high_watermark;
        self.extend(1, MARKER, context);
        self.transactions.end(ending.producer.id, offset, ending.commit);
        Reply::Done
    }

    /// Remembers that an entry which names the partition puts no marker into it.
    pub(super) fn refuse_marker(&mut self, context: CommandContext) -> Reply {
        self.reject(context, Reply::Done)
    }

    /// The partition gets longer by so many records, which take so many bytes.
    fn extend(&mut self, records: i64, bytes: usize, context: CommandContext) {
        self.add_index_entry(context, self.high_watermark);
        self.run_is_open = false;
        self.terms.record(context.term, self.high_watermark);
        self.high_watermark += records;
        self.bytes += bytes as u64;
    }

    fn appended(&self, base_offset: i64) -> Reply {
        Reply::Appended { base_offset, log_start_offset: self.start_offset }
    }

    fn reject(&mut self, context: CommandContext, reply: Reply) -> Reply {
        let at = (context.index, context.ordinal);
        match self.rejected_runs.last_mut() {
            // Older programs would take these appends for events, so the old form is kept until the format is raised.
            _ if context.format < REJECTED_RUNS_FORMAT => drop(self.rejected.insert(at)),
            Some(run) if self.run_is_open => run.1 = at,
            _ => self.rejected_runs.push((at, at)),
        }
        self.run_is_open = context.format >= REJECTED_RUNS_FORMAT;
        reply
    }

    /// Adds an index entry for the batch, if the last one is far away or may be deleted from the log, and the batch is
    /// the partition's first live one in its log entry.
    fn add_index_entry(&mut self, context: CommandContext, base_offset: i64) {
        // A reader that starts at an index entry assumes that its offset is that of the log entry's first live batch.
        let first = self.latest != Some(context.index);
        let far =
            self.index.last().is_none_or(|last| context.payload - last.payload >= context.index_interval);
        let empty = self.start_offset == self.high_watermark;
        if (far || empty) && first {
            let position = Position { index: context.index, base_offset };
            let (before, bytes, payload) = (self.max_timestamp, self.bytes, context.payload);
            self.index.push(IndexEntry { position, before, bytes, payload });
        }
        self.latest = Some(context.index);
    }

    /// Length of the index.
    pub(super) fn index_entries(&self) -> usize {
        self.index.len()
    }

    /// Whether [`Partition::prune_index`] would remove anything.
    pub(super) fn has_dense_index(&self, index_interval: u64) -> bool {
        self.index.windows(2).any(|pair| pair[1].payload - pair[0].payload < index_interval)
    }

    /// Removes index entries that are nearer than `index_interval` to the one before.
    pub(super) fn prune_index(&mut self, index_interval: u64) {
        let mut last = None;
        self.index.retain(|entry| {
            let far = last.is_none_or(|last| entry.payload - last >= index_interval);
            last = if far { Some(entry.payload) } else { last };
            far
        });
    }

    /// Numbers that stand for the whole state, in a fixed order.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(i64)) {
        put(self.start_offset);
        put(self.high_watermark);
        put(self.max_timestamp.unwrap_or(i64::MIN));
        for (index, ordinal) in &self.rejected {
            put(index.cast_signed());
            put(i64::from(*ordinal));
        }
        for (first, last) in &self.rejected_runs {
            put(first.0.cast_signed());
            put(i64::from(first.1));
            put(last.0.cast_signed());
            put(i64::from(last.1));
        }
        self.producers.fingerprint(&mut put);
        self.transactions.fingerprint(put);
    }
}
