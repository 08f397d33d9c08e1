//! What idempotent producers have in flight. The leader knows what the state will be once all that it has proposed is
//! applied, and so what becomes of a batch before it proposes it: one that would change nothing leaves no trace in the
//! log, for nobody must pay for ever for what was refused.

use std::collections::HashMap;

use super::input::Claim;
use super::response::{ProposeError, Response, Responses};
use crate::state_machine::command::{Refusal, Reply};
use crate::state_machine::{Producer, SequenceCheck, StateMachine, TopicId};

/// The offset of what has none yet.
const IN_FLIGHT: i64 = -1;

/// Every producer with batches proposed and not applied, by partition and id.
pub(super) struct Sequences<W> {
    producers: HashMap<(TopicId, u32, i64), Flight<W>>,
}

struct Flight<W> {
    /// Its state once everything in flight is applied.
    producer: Producer,
    /// Batches in flight.
    batches: usize,
    /// Those who sent one of them again.
    again: Vec<(Claim, W)>,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// It is to be proposed.
    Appends,
    /// It is known already.
    Known(Reply),
    /// It is in flight: [`Sequences::wait`].
    Again,
    /// It would be refused, if this node still leads.
    Refused(Refusal),
}

impl<W> Default for Sequences<W> {
    fn default() -> Self {
        Self { producers: HashMap::new() }
    }
}

impl<W> Sequences<W> {
    /// What becomes of a batch that is proposed now; one that is to be appended is taken for proposed.
    pub(super) fn prospect(&mut self, state: &StateMachine, claim: &Claim) -> Prospect {
        let found = state.topic_by_id(claim.topic);
        let Some(partition) = found.and_then(|topic| topic.partitions.get(claim.partition as usize)) else {
            return Prospect::Refused(Refusal::UnknownTopic);
        };
        if let Err(refusal) = state.check_transaction(claim.topic, claim.partition, &claim.header) {
            return Prospect::Refused(refusal);
        }
        let flight = self.producers.get(&claim.key());
        let verdict = flight.map_or_else(
            || partition.validate(&claim.header),
            |flight| flight.producer.validate(&claim.header),
        );
        match verdict {
            SequenceCheck::Refused(refusal) => Prospect::Refused(refusal),
            SequenceCheck::Duplicate(IN_FLIGHT) => Prospect::Again,
            SequenceCheck::Duplicate(base_offset) => {
                Prospect::Known(Reply::Appended { base_offset, log_start_offset: partition.start_offset() })
            }
            SequenceCheck::New => {
                let flight = self.producers.entry(claim.key()).or_insert_with(|| {
                    let known = partition.producer(claim.header.producer_id).cloned();
                    let producer = known.unwrap_or_else(|| Producer::new(&claim.header));
                    Flight { producer, batches: 0, again: Vec::new() }
                });
                flight.producer.remember(&claim.header, IN_FLIGHT);
                flight.batches += 1;
                Prospect::Appends
            }
        }
    }

    /// Answers when the batch that this one repeats is applied.
    pub(super) fn wait(&mut self, claim: Claim, waiter: W) {
        if let Some(flight) = self.producers.get_mut(&claim.key()) {
            flight.again.push((claim, waiter));
        }
    }

    /// A batch that was to be appended is applied, with this reply.
    pub(super) fn applied(&mut self, claim: &Claim, reply: &Reply, responses: &mut Responses<W>) {
        let Some(flight) = self.producers.get_mut(&claim.key()) else { return };
        let again = flight.again.extract_if(.., |(again, _)| again.repeats(claim));
        responses.extend(again.map(|(_, waiter)| (waiter, Response::Proposed(Ok(vec![reply.clone()])))));
        match reply {
            Reply::Appended { base_offset, .. } => {
                flight.producer.set_base_offset(&claim.header, *base_offset);
            }
            // Its transaction has ended meanwhile, or its topic is gone.
            _ => flight.producer.take_out(&claim.header),
        }
        flight.batches -= 1;
        flight.producer.forget(flight.batches);
        if flight.batches == 0 {
            self.producers.remove(&claim.key());
        }
    }

    /// The batches, which were to be appended last and in this order, could not be proposed.
    pub(super) fn take_back<'a>(
        &mut self,
        claims: impl DoubleEndedIterator<Item = &'a Claim>,
        responses: &mut Responses<W>,
    ) {
        for claim in claims.rev() {
            let Some(flight) = self.producers.get_mut(&claim.key()) else { continue };
            flight.producer.take_back();
            flight.batches -= 1;
            let again = flight.again.extract_if(.., |(again, _)| again.repeats(claim));
            responses.extend(again.map(|(_, waiter)| (waiter, Response::Proposed(Err(ProposeError::Busy)))));
            if flight.batches == 0 {
                self.producers.remove(&claim.key());
            }
        }
    }

    /// Forgets what is in flight: its outcome is unknown.
    pub(super) fn clear(&mut self, responses: &mut Responses<W>) {
        let again = self.producers.drain().flat_map(|(_, flight)| flight.again);
        responses.extend(again.map(|(_, waiter)| (waiter, Response::Proposed(Err(ProposeError::Unknown)))));
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::state_machine::batch::BatchHeader;
    use crate::state_machine::command::Command;
    use crate::state_machine::tests::batch;

    /// A state with one topic.
    fn topic() -> StateMachine {
        let mut state = StateMachine::default();
        apply(
            &mut state,
            1,
            &Command::CreateTopic { name: "t".into(), partitions: 2, configs: Default::default() },
        );
        state
    }

    fn apply(state: &mut StateMachine, index: u64, command: &Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode(&mut payload);
        state.apply(index, 1, &payload.freeze()).replies.remove(0)
    }

    fn claim(epoch: i16, sequence: i32) -> Claim {
        let header = BatchHeader::read(&batch(2, 0, Some((7, epoch, sequence)))).unwrap();
        Claim { topic: 1, partition: 0, header }
    }

    fn append(claim: &Claim) -> Command {
        let (epoch, sequence) = (claim.header.producer_epoch, claim.header.base_sequence);
        Command::Append { topic: 1, partition: 0, batch: batch(2, 0, Some((7, epoch, sequence))) }
    }

    fn appended(base_offset: i64) -> Reply {
        Reply::Appended { base_offset, log_start_offset: 0 }
    }

    /// Waiters are numbers here.
    fn sequences() -> Sequences<u8> {
        Sequences::default()
    }

    const OUT_OF_ORDER: Prospect = Prospect::Refused(Refusal::OutOfOrderSequence);

    /// What is told in advance is what happens, for random producers, and with some of it in flight.
    #[test]
    fn the_prospect_is_what_becomes_of_it() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let (mut state, mut sequences) = (topic(), sequences());
            let (mut in_flight, mut index) = (std::collections::VecDeque::new(), 1);
            let mut twin = state.clone();
            for _ in 0..200 {
                if random.u8(..) < 100
                    && let Some(claim) = in_flight.pop_front()
                {
                    index += 1;
                    let reply = apply(&mut state, index, &append(&claim));
                    assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
                    sequences.applied(&claim, &reply, &mut Vec::new());
                }
                let claim = claim(random.i16(0..2), 2 * random.i32(0..20));
                let truth = apply(&mut twin, 1000, &append(&claim));
                match sequences.prospect(&state, &claim) {
                    Prospect::Appends => {
                        assert!(matches!(truth, Reply::Appended { .. }));
                        in_flight.push_back(claim);
                    }
                    Prospect::Known(reply) => assert_eq!(reply, truth),
                    Prospect::Again => assert!(matches!(truth, Reply::Appended { .. })),
                    Prospect::Refused(refusal) => assert_eq!(Reply::Refused(refusal), truth),
                }
            }
            while let Some(claim) = in_flight.pop_front() {
                index += 1;
                let reply = apply(&mut state, index, &append(&claim));
                sequences.applied(&claim, &reply, &mut Vec::new());
            }
            assert!(sequences.producers.is_empty());
            assert_eq!(
                state.topic("t").unwrap().partitions[0].high_watermark(),
                twin.topic("t").unwrap().partitions[0].high_watermark()
            );
        }
    }

    #[test]
    fn what_is_sent_again_while_it_is_in_flight_gets_the_same_answer() {
        let (state, mut sequences) = (topic(), sequences());
        assert_eq!(sequences.prospect(&state, &claim(0, 0)), Prospect::Appends);
        assert_eq!(sequences.prospect(&state, &claim(0, 0)), Prospect::Again);
        sequences.wait(claim(0, 0), 5);
        for number in 1..9 {
            assert_eq!(sequences.prospect(&state, &claim(0, 2 * number)), Prospect::Appends);
        }
        let mut responses = Vec::new();
        sequences.applied(&claim(0, 0), &appended(40), &mut responses);
        assert_eq!(responses, [(5, Response::Proposed(Ok(vec![appended(40)])))]);
    }

    #[test]
    fn what_could_not_be_proposed_may_come_again() {
        let (state, mut sequences) = (topic(), sequences());
        assert_eq!(sequences.prospect(&state, &claim(0, 0)), Prospect::Appends);
        let lost: Vec<_> = (1..9).map(|number| claim(0, 2 * number)).collect();
        for claim in &lost {
            assert_eq!(sequences.prospect(&state, claim), Prospect::Appends);
        }
        sequences.take_back(lost.iter(), &mut Vec::new());
        assert_eq!(sequences.prospect(&state, &claim(0, 4)), OUT_OF_ORDER);
        assert_eq!(sequences.prospect(&state, &claim(0, 0)), Prospect::Again);
        assert_eq!(sequences.prospect(&state, &claim(0, 2)), Prospect::Appends);
        sequences.clear(&mut Vec::new());
        assert_eq!(sequences.prospect(&state, &claim(0, 2)), OUT_OF_ORDER);
    }
}
