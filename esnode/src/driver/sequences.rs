//! What idempotent producers have in flight. The leader knows what the state will be once all that it has proposed is
//! applied, and so what becomes of a batch before it proposes it: one that would change nothing leaves no trace in the
//! log, for nobody must pay for ever for what was refused.

use std::collections::HashMap;

use super::input::{Claim, ReplyTo};
use crate::node::handle::{Budget, ProposeError};
use crate::state_machine::command::{Refusal, Reply};
use crate::state_machine::{Producer, StateMachine, TopicId, Verdict};

/// The offset of what has none yet.
const IN_FLIGHT: i64 = -1;

/// Every producer with batches proposed and not applied, by partition and id.
#[derive(Default)]
pub(super) struct Sequences {
    producers: HashMap<(TopicId, u32, i64), Flight>,
}

struct Flight {
    /// As it will be.
    producer: Producer,
    /// Batches in flight.
    batches: usize,
    /// Who sent one of them again.
    again: Vec<(Claim, ReplyTo, Budget)>,
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

impl Sequences {
    /// What becomes of a batch that is proposed now; one that is to be appended is taken for proposed.
    pub(super) fn judge(&mut self, stream: &StateMachine, claim: &Claim) -> Prospect {
        let found = stream.topic_numbered(claim.topic);
        let Some(partition) = found.and_then(|topic| topic.partitions.get(claim.partition as usize)) else {
            return Prospect::Refused(Refusal::UnknownTopic);
        };
        let flight = self.producers.get(&claim.key());
        let verdict = flight
            .map_or_else(|| partition.judge(&claim.header), |flight| flight.producer.judge(&claim.header));
        match verdict {
            Verdict::Refused(refusal) => Prospect::Refused(refusal),
            Verdict::Duplicate(IN_FLIGHT) => Prospect::Again,
            Verdict::Duplicate(base_offset) => {
                Prospect::Known(Reply::Appended { base_offset, log_start_offset: partition.start_offset() })
            }
            Verdict::New => {
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
    pub(super) fn wait(&mut self, claim: Claim, reply: ReplyTo, budget: Budget) {
        if let Some(flight) = self.producers.get_mut(&claim.key()) {
            flight.again.push((claim, reply, budget));
        }
    }

    /// A batch that was to be appended is applied, with this reply.
    pub(super) fn applied(&mut self, claim: &Claim, reply: &Reply) {
        let Some(flight) = self.producers.get_mut(&claim.key()) else { return };
        for (_, waiting, _budget) in flight.again.extract_if(.., |(again, ..)| again.repeats(claim)) {
            // Whoever asked may be gone; then nobody is left to tell.
            let _ = waiting.send(Ok(vec![reply.clone()]));
        }
        if let Reply::Appended { base_offset, .. } = reply {
            flight.producer.settle(&claim.header, *base_offset);
        }
        flight.batches -= 1;
        flight.producer.forget(flight.batches);
        if flight.batches == 0 {
            self.producers.remove(&claim.key());
        }
    }

    /// The batches, which were to be appended last and in this order, could not be proposed.
    pub(super) fn take_back<'a>(&mut self, claims: impl DoubleEndedIterator<Item = &'a Claim>) {
        for claim in claims.rev() {
            let Some(flight) = self.producers.get_mut(&claim.key()) else { continue };
            flight.producer.take_back();
            flight.batches -= 1;
            for (_, waiting, _budget) in flight.again.extract_if(.., |(again, ..)| again.repeats(claim)) {
                let _ = waiting.send(Err(ProposeError::Busy));
            }
            if flight.batches == 0 {
                self.producers.remove(&claim.key());
            }
        }
    }

    /// Nothing is known of what is in flight.
    pub(super) fn lost_leadership(&mut self) {
        for (_, waiting, _budget) in self.producers.drain().flat_map(|(_, flight)| flight.again) {
            let _ = waiting.send(Err(ProposeError::Unknown));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::sync::oneshot;

    use super::*;
    use crate::state_machine::batch::BatchHeader;
    use crate::state_machine::command::Command;
    use crate::state_machine::tests::batch;

    fn stream() -> StateMachine {
        let mut stream = StateMachine::default();
        apply(
            &mut stream,
            1,
            &Command::CreateTopic { name: "t".into(), partitions: 2, configs: Default::default() },
        );
        stream
    }

    fn apply(stream: &mut StateMachine, index: u64, command: &Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode(&mut payload);
        stream.apply(index, 1, &payload.freeze()).replies.remove(0)
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

    const OUT_OF_ORDER: Prospect = Prospect::Refused(Refusal::OutOfOrderSequence);

    /// What is told in advance is what happens, for random producers, and with some of it in flight.
    #[test]
    fn the_prospect_is_what_becomes_of_it() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let (mut stream, mut sequences) = (stream(), Sequences::default());
            let (mut in_flight, mut index) = (std::collections::VecDeque::new(), 1);
            let mut twin = stream.clone();
            for _ in 0..200 {
                if random.u8(..) < 100
                    && let Some(claim) = in_flight.pop_front()
                {
                    index += 1;
                    let reply = apply(&mut stream, index, &append(&claim));
                    assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
                    sequences.applied(&claim, &reply);
                }
                let claim = claim(random.i16(0..2), 2 * random.i32(0..20));
                let truth = apply(&mut twin, 1000, &append(&claim));
                match sequences.judge(&stream, &claim) {
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
                sequences.applied(&claim, &apply(&mut stream, index, &append(&claim)));
            }
            assert!(sequences.producers.is_empty());
            assert_eq!(
                stream.topic("t").unwrap().partitions[0].next_offset(),
                twin.topic("t").unwrap().partitions[0].next_offset()
            );
        }
    }

    #[test]
    fn what_is_sent_again_while_it_is_in_flight_gets_the_same_answer() {
        let (stream, mut sequences) = (stream(), Sequences::default());
        assert_eq!(sequences.judge(&stream, &claim(0, 0)), Prospect::Appends);
        assert_eq!(sequences.judge(&stream, &claim(0, 0)), Prospect::Again);
        let (reply, mut answer) = oneshot::channel();
        sequences.wait(claim(0, 0), reply, Budget::none());
        for number in 1..9 {
            assert_eq!(sequences.judge(&stream, &claim(0, 2 * number)), Prospect::Appends);
        }
        assert!(answer.try_recv().is_err());
        sequences.applied(&claim(0, 0), &appended(40));
        assert_eq!(answer.try_recv().unwrap(), Ok(vec![appended(40)]));
    }

    #[test]
    fn what_could_not_be_proposed_may_come_again() {
        let (stream, mut sequences) = (stream(), Sequences::default());
        assert_eq!(sequences.judge(&stream, &claim(0, 0)), Prospect::Appends);
        let lost: Vec<_> = (1..9).map(|number| claim(0, 2 * number)).collect();
        for claim in &lost {
            assert_eq!(sequences.judge(&stream, claim), Prospect::Appends);
        }
        sequences.take_back(lost.iter());
        assert_eq!(sequences.judge(&stream, &claim(0, 4)), OUT_OF_ORDER);
        assert_eq!(sequences.judge(&stream, &claim(0, 0)), Prospect::Again);
        assert_eq!(sequences.judge(&stream, &claim(0, 2)), Prospect::Appends);
        sequences.lost_leadership();
        assert_eq!(sequences.judge(&stream, &claim(0, 2)), OUT_OF_ORDER);
    }
}
