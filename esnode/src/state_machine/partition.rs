//! One partition: its offsets, and where in the log its batches are.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Position;
use super::batch::BatchHeader;
use super::command::{Refusal, Reply};
use super::producers::{Producer, Producers, Verdict};
use super::terms::Terms;

/// The on-disk format from which on what got no offsets is kept in runs.
const VOID_RUNS_FORMAT: u16 = 2;

/// A partition's offsets and where its batches are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Partition {
    start_offset: i64,
    next_offset: i64,
    max_timestamp: Option<i64>,
    /// Of all batches that ever got offsets.
    bytes: u64,
    points: Vec<Point>,
    /// Entry of the newest live batch.
    latest: Option<u64>,
    /// Appends of the log that got no offsets, of the time before format 2: (entry, place among its commands).
    voids: BTreeSet<(u64, u32)>,
    /// The same since then: first and last of those between two that got offsets. Leaders judge before they propose, so
    /// there are few; and there are never more than batches that are kept.
    #[serde(default)]
    void_runs: Vec<((u64, u32), (u64, u32))>,
    /// No batch got offsets since the last run.
    #[serde(default)]
    run_is_open: bool,
    /// Shared with the copies that checkpoints are made of, until it changes.
    producers: Arc<Producers>,
    /// Whose events these are.
    #[serde(default)]
    terms: Terms,
}

/// A place in the log where reading can start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "StoredPoint", into = "StoredPoint")]
struct Point {
    position: Position,
    /// Newest timestamp of all batches before it.
    before: Option<i64>,
    /// Bytes of all batches before it.
    bytes: u64,
    /// Log payload before its entry.
    payload: u64,
}

/// Without names, since there are many: index, base offset, newest timestamp before, bytes before, payload before.
type StoredPoint = (u64, i64, Option<i64>, u64, u64);

impl From<StoredPoint> for Point {
    fn from((index, base_offset, before, bytes, payload): StoredPoint) -> Self {
        Self { position: Position { index, base_offset }, before, bytes, payload }
    }
}

impl From<Point> for StoredPoint {
    fn from(Point { position: Position { index, base_offset }, before, bytes, payload }: Point) -> Self {
        (index, base_offset, before, bytes, payload)
    }
}

/// Which command of which entry an append is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) ordinal: u32,
    /// Payload of all entries before this one.
    pub(super) payload: u64,
    /// Log payload between two points of a partition, at least.
    pub(super) spacing: u64,
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

    /// Offset that the next event will get: the high watermark.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Where to start scanning for `offset` (start_offset <= offset < next_offset).
    pub fn locate(&self, offset: i64) -> Option<Position> {
        if !(self.start_offset..self.next_offset).contains(&offset) {
            return None;
        }
        let after = self.points.partition_point(|point| point.position.base_offset <= offset);
        self.points.get(after.checked_sub(1)?).map(|point| point.position)
    }

    /// Where to start scanning for the first batch with a record at or after `timestamp` (ms); None when all are older.
    pub fn locate_time(&self, timestamp: i64) -> Option<Position> {
        self.max_timestamp.filter(|newest| *newest >= timestamp)?;
        let after = self.points.partition_point(|point| point.before.is_none_or(|before| before < timestamp));
        // What made all of them late enough may be gone: then the first event kept is where to begin.
        self.points.get(after.saturating_sub(1)).map(|point| point.position)
    }

    /// Newest timestamp (ms) of all events that there ever were.
    pub fn max_timestamp(&self) -> Option<i64> {
        self.max_timestamp
    }

    /// The term of the event at `offset`, or of the last one before it; `None` where that is not known.
    pub fn term_of(&self, offset: i64) -> Option<u64> {
        self.terms.of(offset)
    }

    /// The last term up to `term` that has events here, and the offset behind them: a reader that has read on from
    /// there in `term` has read from another log. Where that is not known, a later offset.
    pub fn end_of_term(&self, term: u64) -> (u64, i64) {
        self.terms.end_of(term, self.next_offset)
    }

    /// First offset of the oldest batches that may hold an event since `timestamp` (ms); the next offset when none does.
    pub fn first_since(&self, timestamp: i64) -> i64 {
        self.locate_time(timestamp).map_or(self.next_offset, |position| position.base_offset)
    }

    /// First offset of the oldest batches that may stand in entry `index` or behind it; the next offset when none does.
    pub fn first_from(&self, index: u64) -> i64 {
        if self.latest.is_none_or(|latest| latest < index) {
            return self.next_offset;
        }
        let after = self.points.partition_point(|point| point.position.index <= index);
        after.checked_sub(1).map_or(self.start_offset, |place| self.points[place].position.base_offset)
    }

    /// First offset with which at least the newest `bytes` are kept.
    pub fn first_within(&self, bytes: u64) -> i64 {
        let after = self.points.partition_point(|point| self.bytes - point.bytes >= bytes);
        after.checked_sub(1).map_or(self.start_offset, |place| self.points[place].position.base_offset)
    }

    /// The oldest entry of the log that holds events of the partition; `None` when it is empty.
    pub fn first_index(&self) -> Option<u64> {
        self.locate(self.start_offset).map(|position| position.index)
    }

    /// Forgets the events before `offset`, or all when there are no more.
    pub(super) fn trim(&mut self, offset: i64) {
        self.start_offset = offset.min(self.next_offset).max(self.start_offset);
        // The point before the first event stays, even when none is left: later ones may share its entry.
        let after = self.points.partition_point(|point| point.position.base_offset <= self.start_offset);
        self.points.drain(..after.saturating_sub(1));
        self.terms.trim(self.start_offset);
        if let Some(first) = self.points.first() {
            let kept = (first.position.index, 0);
            self.voids = self.voids.split_off(&kept);
            self.void_runs.retain(|(_, last)| *last >= kept);
        }
    }

    /// Whether the `ordinal`-th command of entry `index`, an append to this partition, was refused or a duplicate
    /// when applied, and so has no offsets.
    pub fn is_void(&self, index: u64, ordinal: u32) -> bool {
        let at = (index, ordinal);
        let before = self.void_runs.partition_point(|(first, _)| *first <= at);
        let run = before.checked_sub(1).map(|run| self.void_runs[run]);
        run.is_some_and(|(_, last)| at <= last) || self.voids.contains(&at)
    }

    /// What a batch would be, were it appended now.
    pub fn judge(&self, batch: &BatchHeader) -> Verdict {
        self.producers.judge(batch)
    }

    /// What is remembered of an idempotent producer.
    pub fn producer(&self, id: i64) -> Option<&Producer> {
        self.producers.get(id)
    }

    /// Gives a batch its offsets.
    pub(super) fn append(&mut self, batch: &[u8], place: Place) -> Reply {
        let Some(header) = BatchHeader::parse(batch) else {
            return self.void(place, Reply::Refused(Refusal::InvalidBatch));
        };
        let idempotent = header.producer_id >= 0;
        let verdict = if idempotent { self.producers.judge(&header) } else { Verdict::New };
        match verdict {
            Verdict::Refused(refusal) => self.void(place, Reply::Refused(refusal)),
            Verdict::Duplicate(base_offset) => self.void(place, self.appended(base_offset)),
            Verdict::New => {
                let base_offset = self.next_offset;
                self.mark(place, base_offset);
                if idempotent {
                    let producers = Arc::make_mut(&mut self.producers);
                    producers.remember(&header, base_offset, place.index, place.unexpired);
                }
                self.run_is_open = false;
                self.terms.note(place.term, base_offset);
                self.next_offset += header.records();
                self.bytes += batch.len() as u64;
                self.max_timestamp = self.max_timestamp.max(Some(header.max_timestamp));
                self.appended(base_offset)
            }
        }
    }

    fn appended(&self, base_offset: i64) -> Reply {
        Reply::Appended { base_offset, log_start_offset: self.start_offset }
    }

    fn void(&mut self, place: Place, reply: Reply) -> Reply {
        let at = (place.index, place.ordinal);
        match self.void_runs.last_mut() {
            // A program that reads only the format before would take them for events.
            _ if place.format < VOID_RUNS_FORMAT => drop(self.voids.insert(at)),
            Some(run) if self.run_is_open => run.1 = at,
            _ => self.void_runs.push((at, at)),
        }
        self.run_is_open = place.format >= VOID_RUNS_FORMAT;
        reply
    }

    /// A point for the entry, when the last one is far or may have left the log, and this is the partition's first live
    /// batch in the entry.
    fn mark(&mut self, place: Place, base_offset: i64) {
        // A reader that starts at a point takes the point's offset for the entry's first live batch.
        let first = self.latest != Some(place.index);
        let far = self.points.last().is_none_or(|last| place.payload - last.payload >= place.spacing);
        let empty = self.start_offset == self.next_offset;
        if (far || empty) && first {
            let position = Position { index: place.index, base_offset };
            let (before, bytes, payload) = (self.max_timestamp, self.bytes, place.payload);
            self.points.push(Point { position, before, bytes, payload });
        }
        self.latest = Some(place.index);
    }

    /// How many points there are.
    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    /// Lets go of points that are nearer than `spacing` to the one before.
    pub(super) fn thin(&mut self, spacing: u64) {
        let mut last = None;
        self.points.retain(|point| {
            let far = last.is_none_or(|last| point.payload - last >= spacing);
            last = if far { Some(point.payload) } else { last };
            far
        });
    }

    /// Numbers that stand for the whole state, in a fixed order.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(i64)) {
        put(self.start_offset);
        put(self.next_offset);
        put(self.max_timestamp.unwrap_or(i64::MIN));
        for (index, ordinal) in &self.voids {
            put(index.cast_signed());
            put(i64::from(*ordinal));
        }
        for (first, last) in &self.void_runs {
            put(first.0.cast_signed());
            put(i64::from(first.1));
            put(last.0.cast_signed());
            put(i64::from(last.1));
        }
        self.producers.fingerprint(put);
    }
}
