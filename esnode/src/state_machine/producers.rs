//! Idempotent producers: what each has appended to one partition, so that a retried batch is not appended twice.
//!
//! A producer is forgotten once it has appended nothing to the partition for [`EXPIRY_MS`], by the log's clock (Kafka's
//! producer.id.expiration.ms). A producer that is not known may begin with any sequence number if the partition has
//! ever forgotten one (KIP-360).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::command::Refusal;
use super::partitions::batch::BatchHeader;

/// Number of batches remembered for each producer: as many as a Kafka client may have in flight.
const REMEMBERED: usize = 5;
/// Largest number of producers remembered for each partition. When there are more, the tenth that has been silent
/// longest is forgotten.
const MAX_PRODUCERS: usize = 10_000;

/// Time without an append after which a producer is forgotten, in ms: Kafka's default.
pub const EXPIRY_MS: i64 = 24 * 3_600_000;
/// Number of appends by idempotent producers after which expired producers are searched for.
const EXPIRY_CHECK_APPENDS: u32 = 1000;

/// The producers of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Producers {
    known: BTreeMap<i64, Producer>,
    /// Some producer was forgotten. An unknown one may be one of those, and may continue with any sequence number.
    forgetful: bool,
    /// Number of appends since expired producers were last searched for.
    #[serde(default)]
    unlooked: u32,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Producer {
    epoch: i16,
    batches: VecDeque<Batch>,
    /// Index of the entry that holds its latest batch.
    seen: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Batch {
    first: i32,
    last: i32,
    base_offset: i64,
}

/// What the sequence number of a batch says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is the next batch, and is to be appended.
    New,
    /// It was appended before, at this offset.
    Duplicate(i64),
    /// It must not be appended.
    Refused(Refusal),
}

impl Producer {
    /// Returns a producer that has appended nothing yet, in the epoch of `batch`.
    pub fn new(batch: &BatchHeader) -> Self {
        Self { epoch: batch.producer_epoch, batches: VecDeque::new(), seen: 0 }
    }

    /// Its epoch.
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The last sequence number that it has used; none before its first batch.
    pub fn last_sequence(&self) -> Option<i32> {
        self.batches.back().map(|batch| batch.last)
    }

    /// The entry of its latest batch.
    pub fn last_index(&self) -> u64 {
        self.seen
    }

    /// Compares a batch with those it has appended before.
    pub fn validate(&self, batch: &BatchHeader) -> SequenceCheck {
        if batch.producer_epoch < self.epoch {
            return SequenceCheck::Refused(Refusal::FencedEpoch);
        }
        let (first, last) = sequences(batch);
        let expected = if batch.producer_epoch > self.epoch {
            0
        } else {
            let mut remembered = self.batches.iter().rev().take(REMEMBERED);
            if let Some(before) = remembered.find(|before| (before.first, before.last) == (first, last)) {
                return SequenceCheck::Duplicate(before.base_offset);
            }
            self.batches.back().map_or(first, |latest| after(latest.last, 1))
        };
        if first == expected {
            SequenceCheck::New
        } else {
            SequenceCheck::Refused(Refusal::OutOfOrderSequence)
        }
    }

    /// Remembers a batch that was appended at `base_offset`. No batch is dropped until [`Producer::forget`].
    pub fn remember(&mut self, batch: &BatchHeader, base_offset: i64) {
        if self.epoch != batch.producer_epoch {
            *self = Self::new(batch);
        }
        let (first, last) = sequences(batch);
        self.batches.push_back(Batch { first, last, base_offset });
    }

    /// Corrects the offset of a batch that was remembered before.
    pub fn set_base_offset(&mut self, batch: &BatchHeader, base_offset: i64) {
        let sequences = sequences(batch);
        let known = self.batches.iter_mut().find(|known| (known.first, known.last) == sequences);
        if let Some(known) = known.filter(|_| self.epoch == batch.producer_epoch) {
            known.base_offset = base_offset;
        }
    }

    /// Removes a batch that was not appended after all.
    pub fn take_out(&mut self, batch: &BatchHeader) {
        let sequences = sequences(batch);
        let is_same = |known: &Batch| (known.first, known.last) == sequences;
        self.batches.retain(|known| self.epoch != batch.producer_epoch || !is_same(known));
    }

    /// Removes the batch that was remembered last.
    pub fn take_back(&mut self) {
        self.batches.pop_back();
    }

    /// Drops the oldest batches, except the newest ones, which may be retried, and `kept` more.
    pub fn forget(&mut self, kept: usize) {
        let surplus = self.batches.len().saturating_sub(REMEMBERED + kept);
        self.batches.drain(..surplus);
    }
}

impl Producers {
    /// Compares a batch with those that its producer has appended before (KIP-98).
    pub(super) fn validate(&self, batch: &BatchHeader) -> SequenceCheck {
        match self.known.get(&batch.producer_id) {
            Some(producer) => producer.validate(batch),
            // A new producer begins with sequence number 0. A higher number means that this batch has overtaken an
            // earlier one, which would be lost if this one was appended first. Only a producer that was forgotten may
            // continue where it was.
            None if batch.base_sequence == 0 || self.forgetful => SequenceCheck::New,
            None => SequenceCheck::Refused(Refusal::OutOfOrderSequence),
        }
    }

    /// All of them, by id.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    /// What is remembered of a producer.
    pub(super) fn get(&self, id: i64) -> Option<&Producer> {
        self.known.get(&id)
    }

    /// Remembers a batch that was appended in entry `index` at `base_offset`. Producers whose latest batch lies before
    /// entry `unexpired` have expired; `None` means that none has.
    pub(super) fn remember(
        &mut self,
        batch: &BatchHeader,
        base_offset: i64,
        index: u64,
        unexpired: Option<u64>,
    ) {
        let producer = self.known.entry(batch.producer_id).or_insert_with(|| Producer::new(batch));
        producer.remember(batch, base_offset);
        producer.forget(0);
        producer.seen = index;
        if let Some(from) = unexpired {
            self.unlooked += 1;
            if self.unlooked >= EXPIRY_CHECK_APPENDS || self.known.len() > MAX_PRODUCERS {
                self.unlooked = 0;
                self.expire(from);
            }
        }
        if self.known.len() > MAX_PRODUCERS {
            self.forget_longest_silent();
        }
    }

    /// Forgets the producers whose latest batch lies before entry `from`.
    fn expire(&mut self, from: u64) {
        let before = self.known.len();
        self.known.retain(|_, producer| producer.seen >= from);
        self.forgetful |= self.known.len() < before;
    }

    /// Forgets the tenth of the producers that has been silent longest. The choice depends on the log alone, so it is
    /// the same on every replica.
    fn forget_longest_silent(&mut self) {
        let mut seen: Vec<_> = self.known.iter().map(|(id, producer)| (producer.seen, *id)).collect();
        seen.sort_unstable();
        for (_, id) in &seen[..MAX_PRODUCERS / 10] {
            self.known.remove(id);
        }
        self.forgetful = true;
    }

    /// Passes the whole state to `put` as numbers, in a fixed order, for the digest that replicas compare.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(i64)) {
        put(i64::from(self.forgetful));
        put(i64::from(self.unlooked));
        for (id, producer) in &self.known {
            put(*id);
            put(i64::from(producer.epoch));
            for batch in &producer.batches {
                put(i64::from(batch.first));
                put(i64::from(batch.last));
                put(batch.base_offset);
            }
        }
    }
}

/// Returns the first and the last sequence number of a batch.
fn sequences(batch: &BatchHeader) -> (i32, i32) {
    (batch.base_sequence, after(batch.base_sequence, i64::from(batch.last_offset_delta)))
}

/// Returns the sequence number that comes `by` after `sequence`. Behind the largest i32 they begin again at 0.
fn after(sequence: i32, by: i64) -> i32 {
    let next = (i64::from(sequence) + by) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, count: i32) -> BatchHeader {
        BatchHeader {
            last_offset_delta: count - 1,
            producer_id: 1,
            producer_epoch: epoch,
            base_sequence: first,
            ..BatchHeader::default()
        }
    }

    fn with(batches: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = 0;
        for header in batches {
            assert_eq!(producers.validate(header), SequenceCheck::New, "{header:?}");
            producers.remember(header, offset, 1, None);
            offset += header.records();
        }
        producers
    }

    #[test]
    fn a_retry_gets_its_first_offset_and_a_gap_is_refused() {
        let producers = with(&[batch(0, 0, 3), batch(0, 3, 2)]);
        assert_eq!(producers.validate(&batch(0, 0, 3)), SequenceCheck::Duplicate(0));
        assert_eq!(producers.validate(&batch(0, 3, 2)), SequenceCheck::Duplicate(3));
        assert_eq!(producers.validate(&batch(0, 6, 1)), SequenceCheck::Refused(Refusal::OutOfOrderSequence));
        assert_eq!(producers.validate(&batch(0, 5, 1)), SequenceCheck::New);
    }

    #[test]
    fn an_overtaken_first_batch_is_waited_for() {
        assert_eq!(
            Producers::default().validate(&batch(0, 4, 1)),
            SequenceCheck::Refused(Refusal::OutOfOrderSequence)
        );
    }

    #[test]
    fn an_older_instance_is_fenced_and_a_newer_one_starts_over() {
        let producers = with(&[batch(1, 0, 1)]);
        assert_eq!(producers.validate(&batch(0, 1, 1)), SequenceCheck::Refused(Refusal::FencedEpoch));
        assert_eq!(producers.validate(&batch(2, 1, 1)), SequenceCheck::Refused(Refusal::OutOfOrderSequence));
        assert_eq!(producers.validate(&batch(2, 0, 1)), SequenceCheck::New);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut producers = Producers::default();
        producers.remember(&batch(0, i32::MAX - 1, 3), 0, 1, None);
        assert_eq!(producers.validate(&batch(0, 1, 1)), SequenceCheck::New);
        assert_eq!(producers.validate(&batch(0, i32::MAX - 1, 3)), SequenceCheck::Duplicate(0));
    }

    #[test]
    fn the_longest_silent_are_forgotten_and_may_go_on() {
        let mut producers = Producers::default();
        for id in 0..=10_000 {
            let header = BatchHeader { producer_id: id, ..batch(0, 0, 1) };
            producers.remember(&header, id, u64::try_from(id).unwrap(), None);
        }
        assert_eq!(producers.known.len(), 9001);
        let late = BatchHeader { producer_id: 0, ..batch(0, 1, 1) };
        assert_eq!(producers.validate(&late), SequenceCheck::New);
    }

    #[test]
    fn whoever_is_silent_for_too_long_is_forgotten_and_may_go_on() {
        let mut producers = Producers::default();
        let of = |id, first| BatchHeader { producer_id: id, ..batch(0, first, 1) };
        producers.remember(&of(1, 0), 0, 10, Some(11));
        for number in 0..i32::try_from(EXPIRY_CHECK_APPENDS).unwrap() {
            producers.remember(&of(2, number), 1, 20, Some(11));
        }
        assert!(producers.get(1).is_none() && producers.get(2).is_some());
        assert_eq!(
            producers.validate(&of(1, 1)),
            SequenceCheck::New,
            "as Kafka takes one that it does not know"
        );
        assert_eq!(producers.validate(&of(2, 5)), SequenceCheck::Refused(Refusal::OutOfOrderSequence));
    }
}
