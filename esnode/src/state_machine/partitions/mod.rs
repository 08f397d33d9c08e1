//! Partitions: their offsets, and where in the log their batches are.

pub mod batch;
mod index;
mod terms;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Refusal, Reply};
use super::producers::{Producer, Producers, SequenceCheck};
use batch::BatchHeader;
use index::IndexEntry;
pub use index::Position;
use terms::Terms;

/// The on-disk format from which on rejected appends are kept in runs.
const REJECTED_RUNS_FORMAT: u16 = 2;

/// A partition's offsets and where its batches are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Partition {
    start_offset: i64,
    #[serde(rename = "next_offset")]
    high_watermark: i64,
    max_timestamp: Option<i64>,
    /// Of all batches that ever got offsets.
    bytes: u64,
    /// Every so many bytes of log the place of a batch, in order.
    #[serde(rename = "points")]
    index: Vec<IndexEntry>,
    /// Entry of the newest live batch.
    latest: Option<u64>,
    /// Appends of the log that got no offsets, of the time before format 2: (entry, place among its
    /// commands).
    #[serde(rename = "voids")]
    rejected: BTreeSet<(u64, u32)>,
    /// The same since then: first and last of those between two that got offsets. Leaders validate before
    /// they propose, so there are few; and there are never more than batches that are kept.
    #[serde(default, rename = "void_runs")]
    rejected_runs: Vec<((u64, u32), (u64, u32))>,
    /// No batch got offsets since the last run.
    #[serde(default)]
    run_is_open: bool,
    /// Shared with the copies that snapshots are made of, until it changes.
    producers: Arc<Producers>,
    /// Whose events these are.
    #[serde(default)]
    terms: Terms,
}

/// Which command of which entry an append is.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommandContext {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) ordinal: u32,
    /// Payload of all entries before this one.
    pub(super) payload: u64,
    /// Log payload between two index entries of a partition, at least, in bytes.
    pub(super) index_interval: u64,
    /// The on-disk format that the cluster's data is written in.
    pub(super) format: u16,
    /// Producers whose latest batch lies before this entry have expired; `None` while the log has no time.
    pub(super) unexpired: Option<u64>,
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

    /// Where to start scanning for `offset` (start_offset <= offset < high_watermark).
    pub fn locate(&self, offset: i64) -> Option<Position> {
        if !(self.start_offset..self.high_watermark).contains(&offset) {
            return None;
        }
        let after = self.index.partition_point(|entry| entry.position.base_offset <= offset);
        self.index.get(after.checked_sub(1)?).map(|entry| entry.position)
    }

    /// Where to start scanning for the first batch with a record at or after `timestamp` (ms); None when all
    /// are older.
    pub fn locate_time(&self, timestamp: i64) -> Option<Position> {
        self.max_timestamp.filter(|newest| *newest >= timestamp)?;
        let after = self.index.partition_point(|entry| entry.before.is_none_or(|before| before < timestamp));
        // What made all of them late enough may be gone: then the first event kept is where to begin.
        self.index.get(after.saturating_sub(1)).map(|entry| entry.position)
    }

    /// Newest timestamp (ms) of all events that there ever were.
    pub fn max_timestamp(&self) -> Option<i64> {
        self.max_timestamp
    }

    /// The term of the event at `offset`, or of the last one before it; `None` where that is not known.
    pub fn term_of(&self, offset: i64) -> Option<u64> {
        self.terms.of(offset)
    }

    /// The last term up to `term` that has events here, and the offset behind them: a reader that has read on
    /// from there in `term` has read from another log. Where that is not known, a later offset.
    pub fn end_of_term(&self, term: u64) -> (u64, i64) {
        self.terms.end_of(term, self.high_watermark)
    }

    /// First offset of the oldest batches that may hold an event since `timestamp` (ms); the next offset when
    /// none does.
    pub fn first_since(&self, timestamp: i64) -> i64 {
        self.locate_time(timestamp).map_or(self.high_watermark, |position| position.base_offset)
    }

    /// First offset of the oldest batches that may stand in entry `index` or behind it; the next offset when
    /// none does.
    pub fn first_from(&self, index: u64) -> i64 {
        if self.latest.is_none_or(|latest| latest < index) {
            return self.high_watermark;
        }
        let after = self.index.partition_point(|entry| entry.position.index <= index);
        after.checked_sub(1).map_or(self.start_offset, |place| self.index[place].position.base_offset)
    }

    /// First offset with which at least the newest `bytes` are kept.
    pub fn first_within(&self, bytes: u64) -> i64 {
        let after = self.index.partition_point(|entry| self.bytes - entry.bytes >= bytes);
        after.checked_sub(1).map_or(self.start_offset, |place| self.index[place].position.base_offset)
    }

    /// The oldest entry of the log that holds events of the partition; `None` when it is empty.
    pub fn first_index(&self) -> Option<u64> {
        self.locate(self.start_offset).map(|position| position.index)
    }

    /// Deletes the events before `offset`, or all when there are no more.
    pub(super) fn delete_records(&mut self, offset: i64) {
        self.start_offset = offset.min(self.high_watermark).max(self.start_offset);
        // The point before the first event stays, even when none is left: later ones may share its entry.
        let after = self.index.partition_point(|entry| entry.position.base_offset <= self.start_offset);
        self.index.drain(..after.saturating_sub(1));
        self.terms.delete_before(self.start_offset);
        if let Some(first) = self.index.first() {
            let kept = (first.position.index, 0);
            self.rejected = self.rejected.split_off(&kept);
            self.rejected_runs.retain(|(_, last)| *last >= kept);
        }
    }

    /// Whether the `ordinal`-th command of entry `index`, an append to this partition, was refused or a
    /// duplicate when applied, and so has no offsets.
    pub fn is_rejected(&self, index: u64, ordinal: u32) -> bool {
        let at = (index, ordinal);
        let before = self.rejected_runs.partition_point(|(first, _)| *first <= at);
        let run = before.checked_sub(1).map(|run| self.rejected_runs[run]);
        run.is_some_and(|(_, last)| at <= last) || self.rejected.contains(&at)
    }

    /// Compares a batch with what its producer has appended before.
    pub fn validate(&self, batch: &BatchHeader) -> SequenceCheck {
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

    /// Gives a batch its offsets.
    pub(super) fn append(&mut self, batch: &[u8], context: CommandContext) -> Reply {
        let Some(header) = BatchHeader::parse(batch) else {
            return self.reject(context, Reply::Refused(Refusal::InvalidBatch));
        };
        let idempotent = header.producer_id >= 0;
        let check = if idempotent { self.producers.validate(&header) } else { SequenceCheck::New };
        match check {
            SequenceCheck::Refused(refusal) => self.reject(context, Reply::Refused(refusal)),
            SequenceCheck::Duplicate(base_offset) => self.reject(context, self.appended(base_offset)),
            SequenceCheck::New => {
                let base_offset = self.high_watermark;
                self.add_index_entry(context, base_offset);
                if idempotent {
                    let producers = Arc::make_mut(&mut self.producers);
                    producers.remember(&header, base_offset, context.index, context.unexpired);
                }
                self.run_is_open = false;
                self.terms.record(context.term, base_offset);
                self.high_watermark += header.records();
                self.bytes += batch.len() as u64;
                self.max_timestamp = self.max_timestamp.max(Some(header.max_timestamp));
                self.appended(base_offset)
            }
        }
    }

    fn appended(&self, base_offset: i64) -> Reply {
        Reply::Appended { base_offset, log_start_offset: self.start_offset }
    }

    fn reject(&mut self, context: CommandContext, reply: Reply) -> Reply {
        let at = (context.index, context.ordinal);
        match self.rejected_runs.last_mut() {
            // A program that reads only the format before would take them for events.
            _ if context.format < REJECTED_RUNS_FORMAT => drop(self.rejected.insert(at)),
            Some(run) if self.run_is_open => run.1 = at,
            _ => self.rejected_runs.push((at, at)),
        }
        self.run_is_open = context.format >= REJECTED_RUNS_FORMAT;
        reply
    }

    /// A point for the entry, when the last one is far or may have left the log, and this is the partition's
    /// first live batch in the entry.
    fn add_index_entry(&mut self, context: CommandContext, base_offset: i64) {
        // A reader that starts at a point takes the point's offset for the entry's first live batch.
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
        self.producers.fingerprint(put);
    }
}
