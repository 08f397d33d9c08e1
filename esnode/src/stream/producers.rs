//! Idempotent producers: what each has appended to one partition, so that a retry is not a second event.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::batch::BatchHeader;
use super::command::Refusal;

/// Batches remembered per producer: as many as a Kafka client may have in flight.
const REMEMBERED: usize = 5;
/// Producers remembered per partition; beyond it the longest silent tenth is forgotten.
const MAX_PRODUCERS: usize = 10_000;

/// The producers of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Producers {
    known: BTreeMap<i64, Producer>,
    /// Some producer was forgotten: an unknown one may be it.
    forgetful: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Producer {
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

/// What a batch is to the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    /// Appended before, at this offset.
    Duplicate(i64),
    Refused(Refusal),
}

impl Producers {
    /// Compares a batch with what its producer has appended before (Kafka's idempotent producer, KIP-98).
    pub(super) fn judge(&self, batch: &BatchHeader) -> Verdict {
        let Some(producer) = self.known.get(&batch.producer_id) else {
            // The first batch must be number 0: a later one overtook it, and to take it would lose the first. Only a
            // producer that was forgotten may go on where it was.
            let follows = batch.base_sequence == 0 || self.forgetful;
            return if follows { Verdict::New } else { Verdict::Refused(Refusal::OutOfOrderSequence) };
        };
        if batch.producer_epoch < producer.epoch {
            return Verdict::Refused(Refusal::FencedEpoch);
        }
        let (first, last) = sequences(batch);
        let expected = if batch.producer_epoch > producer.epoch {
            0
        } else {
            if let Some(before) =
                producer.batches.iter().find(|before| (before.first, before.last) == (first, last))
            {
                return Verdict::Duplicate(before.base_offset);
            }
            producer.batches.back().map_or(0, |latest| after(latest.last, 1))
        };
        if first == expected { Verdict::New } else { Verdict::Refused(Refusal::OutOfOrderSequence) }
    }

    /// Remembers a new batch of entry `index`.
    pub(super) fn remember(&mut self, batch: &BatchHeader, base_offset: i64, index: u64) {
        let (first, last) = sequences(batch);
        let fresh = Producer { epoch: batch.producer_epoch, batches: VecDeque::new(), seen: index };
        let producer = self.known.entry(batch.producer_id).or_insert_with(|| fresh.clone());
        if producer.epoch != batch.producer_epoch {
            *producer = fresh;
        }
        producer.seen = index;
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch { first, last, base_offset });
        if self.known.len() > MAX_PRODUCERS {
            self.forget_longest_silent();
        }
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
            assert_eq!(producers.judge(header), Verdict::New, "{header:?}");
            producers.remember(header, offset, 1);
            offset += header.records();
        }
        producers
    }

    #[test]
    fn a_retry_gets_its_first_offset_and_a_gap_is_refused() {
        let producers = with(&[batch(0, 0, 3), batch(0, 3, 2)]);
        assert_eq!(producers.judge(&batch(0, 0, 3)), Verdict::Duplicate(0));
        assert_eq!(producers.judge(&batch(0, 3, 2)), Verdict::Duplicate(3));
        assert_eq!(producers.judge(&batch(0, 6, 1)), Verdict::Refused(Refusal::OutOfOrderSequence));
        assert_eq!(producers.judge(&batch(0, 5, 1)), Verdict::New);
    }

    #[test]
    fn an_overtaken_first_batch_is_waited_for() {
        assert_eq!(
            Producers::default().judge(&batch(0, 4, 1)),
            Verdict::Refused(Refusal::OutOfOrderSequence)
        );
    }

    #[test]
    fn an_older_instance_is_fenced_and_a_newer_one_starts_over() {
        let producers = with(&[batch(1, 0, 1)]);
        assert_eq!(producers.judge(&batch(0, 1, 1)), Verdict::Refused(Refusal::FencedEpoch));
        assert_eq!(producers.judge(&batch(2, 1, 1)), Verdict::Refused(Refusal::OutOfOrderSequence));
        assert_eq!(producers.judge(&batch(2, 0, 1)), Verdict::New);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut producers = Producers::default();
        producers.remember(&batch(0, i32::MAX - 1, 3), 0, 1);
        assert_eq!(producers.judge(&batch(0, 1, 1)), Verdict::New);
        assert_eq!(producers.judge(&batch(0, i32::MAX - 1, 3)), Verdict::Duplicate(0));
    }

    #[test]
    fn the_longest_silent_are_forgotten_and_may_go_on() {
        let mut producers = Producers::default();
        for id in 0..=10_000 {
            let header = BatchHeader { producer_id: id, ..batch(0, 0, 1) };
            producers.remember(&header, id, u64::try_from(id).unwrap());
        }
        assert_eq!(producers.known.len(), 9001);
        let late = BatchHeader { producer_id: 0, ..batch(0, 1, 1) };
        assert_eq!(producers.judge(&late), Verdict::New);
    }
}
