//! Idempotent producers: what each has appended to one partition, so that a retry is not a second event.
//!
//! A producer that has appended nothing to the partition for [`EXPIRY_MS`], by the log's clock, is forgotten
//! (Kafka's producer.id.expiration.ms). One that is not known may begin with any sequence number, in a
//! partition that has forgotten some (KIP-360).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::command::Refusal;
use super::partitions::batch::BatchHeader;

/// Batches remembered per producer: as many as a Kafka client may have in flight.
const REMEMBERED: usize = 5;
/// Producers remembered per partition; beyond it the longest silent tenth is forgotten.
const MAX_PRODUCERS: usize = 10_000;

/// Time without an append after which a producer is forgotten, in ms: Kafka's default.
pub const EXPIRY_MS: i64 = 24 * 3_600_000;
/// Appends of idempotent producers between two looks at who has expired.
const EXPIRY_CHECK_APPENDS: u32 = 1000;

/// The producers of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Producers {
    known: BTreeMap<i64, Producer>,
    /// Some producer was forgotten: an unknown one may be it.
    forgetful: bool,
    /// Appends since somebody last looked for those who have expired.
    #[serde(default)]
    unlooked: u32,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Producer {
    epoch: i16,
    batches: VecDeque<Batch>,
    /// Entry of its latest batch.
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
    /// It is to be appended.
    New,
    /// Appended before, at this offset.
    Duplicate(i64),
    /// It must not be appended.
    Refused(Refusal),
}

impl Producer {
    /// One that has appended nothing yet, of the epoch of `batch`.
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

    /// Remembers a new batch, and those before it until [`Producer::forget`].
    pub fn remember(&mut self, batch: &BatchHeader, base_offset: i64) {
        if self.epoch != batch.producer_epoch {
            *self = Self::new(batch);
        }
        let (first, last) = sequences(batch);
        self.batches.push_back(Batch { first, last, base_offset });
    }

    /// The batch, which was remembered before, has this offset.
    pub fn set_base_offset(&mut self, batch: &BatchHeader, base_offset: i64) {
        let sequences = sequences(batch);
        let known = self.batches.iter_mut().find(|known| (known.first, known.last) == sequences);
        if let Some(known) = known.filter(|_| self.epoch == batch.producer_epoch) {
            known.base_offset = base_offset;
        }
    }

    /// Takes back the batch that was remembered last.
    pub fn take_back(&mut self) {
        self.batches.pop_back();
    }

    /// Forgets the oldest batches, but for as many as a retry may be of; `kept` more stay.
    pub fn forget(&mut self, kept: usize) {
        let surplus = self.batches.len().saturating_sub(REMEMBERED + kept);
        self.batches.drain(..surplus);
    }
}

impl Producers {
    /// Compares a batch with what its producer has appended before (Kafka's idempotent producer, KIP-98).
    pub(super) fn validate(&self, batch: &BatchHeader) -> SequenceCheck {
        match self.known.get(&batch.producer_id) {
            Some(producer) => producer.validate(batch),
            // The first batch must be number 0: a later one overtook it, and to take it would lose the first.
            // Only a producer that was forgotten may go on where it was.
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

    /// Remembers a new batch of entry `index`; a producer whose latest batch lies before
    /// entry `unexpired` has expired.
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

    /// Forgets those whose latest batch lies before entry `from`.
    fn expire(&mut self, from: u64) {
        let before = self.known.len();
        self.known.retain(|_, producer| producer.seen >= from);
        self.forgetful |= self.known.len() < before;
    }

    /// The same on every replica: depends on the log alone.
    fn forget_longest_silent(&mut self) {
        let mut seen: Vec<_> = self.known.iter().map(|(id, producer)| (producer.seen, *id)).collect();
        seen.sort_unstable();
        for (_, id) in &seen[..MAX_PRODUCERS / 10] {
            self.known.remove(id);
        }
        self.forgetful = true;
    }

    /// Numbers that stand for the whole state, in a fixed order.
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

/// First and last sequence number of a batch.
fn sequences(batch: &BatchHeader) -> (i32, i32) {
    (batch.base_sequence, after(batch.base_sequence, i64::from(batch.last_offset_delta)))
}

/// Sequence numbers go back to 0 after the largest i32.
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
