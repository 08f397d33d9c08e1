//! Produce: record batches into the log, as they are.
//!
//! A request is proposed before the next one of its connection is read, so that the log's order is the client's;
//! only the answer waits. acks=1 waits for the quorum like acks=all.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use tokio::time::{Instant, timeout_at};

use super::apis::Answer;
use super::errors;
use super::frame::{BadRequest, Outcome, ReplyTo, Request};
use super::records::{self, Rules};
use super::session::Session;
use crate::entry::MAX_PAYLOAD;
use crate::handle::{Handle, ProposeError};
use crate::stream::command::{Command, Reply};
use crate::stream::{Stream, TopicId};

/// How long a producer waits that does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// No producer waits longer; a longer timeout is a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Serves Produce.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    if session.holds_producers(request.to.received) {
        return Ok(Answer::Busy);
    }
    let body: ProduceRequest = request.decode()?;
    let (acks, timeout_ms) = (body.acks, body.timeout_ms);
    let refusal = if !(-1..=1).contains(&acks) {
        Some(ResponseError::InvalidRequiredAcks)
    } else if body.transactional_id.is_some() {
        Some(ResponseError::InvalidRequest)
    } else if !session.leadership().serving {
        Some(ResponseError::NotLeaderOrFollower)
    } else {
        None
    };
    let mut work = Work::default();
    match refusal {
        Some(error) => work.refuse_all(body, error),
        None => work.gather(&session.node().stream(), body),
    }
    work.validate();
    let bytes: usize = work.appends.iter().map(|append| append.batch.len()).sum();
    let Some(proposals) = propose(session.node(), &mut work) else { return Ok(Answer::Busy) };
    session.shared.metrics.produce_bytes.fetch_add(bytes as u64, Relaxed);
    let wait = match u64::try_from(timeout_ms) {
        Ok(ms) if ms > 0 => Duration::from_millis(ms).min(LONGEST_WAIT),
        _ => DEFAULT_WAIT,
    };
    let deadline = Instant::now() + wait;
    let to = request.to;
    if proposals.is_empty() {
        return Ok(Answer::Now(work.outcome(to, acks)));
    }
    Ok(Answer::later(async move {
        for (first, proposal) in proposals {
            match timeout_at(deadline, proposal).await {
                Ok(replies) => work.settle(first, replies.map_err(errors::produce)),
                Err(_) => work.settle(first, Err(ResponseError::RequestTimedOut)),
            }
        }
        work.outcome(to, acks)
    }))
}

type Proposal = Pin<Box<dyn Future<Output = Result<Vec<Reply>, ProposeError>> + Send>>;

/// Proposes all appends, in as few entries as they fit in; each proposal comes with the number of its first append.
/// `None` when the node was too busy for the first one, so that nothing has happened.
fn propose(node: &Handle, work: &mut Work) -> Option<Vec<(usize, Proposal)>> {
    let mut proposals = Vec::new();
    let mut first = 0;
    while first < work.appends.len() {
        let next = work.fitting(first);
        let commands: Vec<Command> = work.appends[first..next].iter().map(Append::command).collect();
        let mut proposal: Proposal = Box::pin(node.propose(&commands));
        // The node says at once when it is too busy; asking once costs nothing, whoever waits asks again.
        match proposal.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(ProposeError::Busy)) if first == 0 => return None,
            Poll::Ready(replies) => work.settle(first, replies.map_err(errors::produce)),
            Poll::Pending => proposals.push((first, proposal)),
        }
        first = next;
    }
    Some(proposals)
}

/// One request on its way: the answer, as far as it is known, and the batches to append.
#[derive(Default)]
struct Work {
    topics: Vec<TopicProduceResponse>,
    appends: Vec<Append>,
}

/// A batch, and the place in the answer for what becomes of it.
struct Append {
    slot: (usize, usize),
    topic: TopicId,
    partition: u32,
    batch: Bytes,
}

impl Append {
    fn command(&self) -> Command {
        Command::Append { topic: self.topic, partition: self.partition, batch: self.batch.clone() }
    }
}

/// What a command adds to its batch in an entry, at most.
const OVERHEAD: usize = 64;

/// Neither appended nor refused yet.
const OPEN: i64 = -1;

impl Work {
    fn refuse_all(&mut self, body: ProduceRequest, error: ResponseError) {
        for topic in body.topic_data {
            let partitions = topic
                .partition_data
                .iter()
                .map(|data| slot(data.index).with_error_code(error.code()))
                .collect();
            self.topics.push(
                TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions),
            );
        }
    }

    /// Finds the partitions. The batches are looked at later, when the state's lock is free again.
    fn gather(&mut self, stream: &Stream, body: ProduceRequest) {
        for data in body.topic_data {
            let known = stream.topic(&data.name);
            let mut partitions = Vec::with_capacity(data.partition_data.len());
            for wanted in data.partition_data {
                let found = known.and_then(|topic| {
                    let partition = u32::try_from(wanted.index).ok()?;
                    topic.partitions.get(partition as usize)?;
                    Some((topic.id, partition))
                });
                let answer = slot(wanted.index);
                partitions.push(match found {
                    Some((topic, partition)) => {
                        let slot = (self.topics.len(), partitions.len());
                        let batch = wanted.records.unwrap_or_default();
                        self.appends.push(Append { slot, topic, partition, batch });
                        answer
                    }
                    None => answer.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
                });
            }
            self.topics.push(
                TopicProduceResponse::default().with_name(data.name).with_partition_responses(partitions),
            );
        }
    }

    /// Splits what was sent for each partition into batches and refuses what the log cannot take; all of a
    /// partition's batches or none.
    fn validate(&mut self) {
        for sent in std::mem::take(&mut self.appends) {
            let largest = MAX_PAYLOAD - OVERHEAD;
            let rules = Rules { version: 9, largest, timestamps: i64::MIN..=i64::MAX };
            match records::check(&sent.batch, &rules) {
                Ok(()) => self.appends.push(sent),
                Err((error, _)) => self.answer(sent.slot).error_code = error.code(),
            }
        }
    }

    /// The number of the append behind the last that fits in one entry together with `first`.
    fn fitting(&self, first: usize) -> usize {
        let mut room = MAX_PAYLOAD;
        let fit = self.appends[first..].iter().take_while(|append| {
            let left = room.checked_sub(append.batch.len() + OVERHEAD);
            room = left.unwrap_or(0);
            left.is_some()
        });
        first + fit.count().max(1)
    }

    /// Enters the replies to the appends from `first` on.
    fn settle(&mut self, first: usize, replies: Result<Vec<Reply>, ResponseError>) {
        match replies {
            Ok(replies) => {
                for (at, reply) in (first..self.appends.len()).zip(replies) {
                    self.enter(at, &reply);
                }
            }
            Err(error) => {
                for at in first..self.fitting(first) {
                    let slot = self.appends[at].slot;
                    self.answer(slot).error_code = error.code();
                }
            }
        }
    }

    fn enter(&mut self, at: usize, reply: &Reply) {
        let slot = self.appends[at].slot;
        let answer = self.answer(slot);
        match reply {
            Reply::Appended { base_offset, log_start_offset } => {
                answer.log_start_offset = *log_start_offset;
                if answer.base_offset == OPEN {
                    answer.base_offset = *base_offset;
                }
            }
            Reply::Refused(why) => answer.error_code = errors::refusal(*why).code(),
            _ => answer.error_code = ResponseError::UnknownServerError.code(),
        }
    }

    fn answer(&mut self, slot: (usize, usize)) -> &mut PartitionProduceResponse {
        &mut self.topics[slot.0].partition_responses[slot.1]
    }

    fn outcome(mut self, to: ReplyTo, acks: i16) -> Outcome {
        let mut failed = false;
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
            if partition.error_code != errors::NONE {
                partition.base_offset = -1;
                failed = true;
            }
        }
        match (acks, failed) {
            (0, false) => Outcome::Silence,
            // Nobody reads an answer; losing the connection makes the client look for the leader again.
            (0, true) => Outcome::Close,
            _ => to.send(&ProduceResponse::default().with_responses(self.topics)),
        }
    }
}

fn slot(index: i32) -> PartitionProduceResponse {
    PartitionProduceResponse::default().with_index(index).with_base_offset(OPEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::tests::encodes;
    use crate::stream::command::Refusal;
    use kafka_protocol::messages::ApiKey;

    /// Partitions 0, 1, ... of one topic, each with batches of these sizes to append.
    fn work(batches: &[&[usize]]) -> Work {
        let mut work = Work::default();
        for (partition, sizes) in (0..).zip(batches) {
            for size in *sizes {
                let batch = Bytes::from(vec![0; *size]);
                work.appends.push(Append { slot: (0, partition as usize), topic: 1, partition, batch });
            }
        }
        let partitions = (0..).take(batches.len()).map(slot).collect();
        work.topics = vec![TopicProduceResponse::default().with_partition_responses(partitions)];
        work
    }

    fn appended(base_offset: i64) -> Reply {
        Reply::Appended { base_offset, log_start_offset: 3 }
    }

    fn result(work: &Work) -> Vec<(i16, i64)> {
        let partitions = &work.topics[0].partition_responses;
        partitions.iter().map(|partition| (partition.error_code, partition.base_offset)).collect()
    }

    fn to(version: i16) -> ReplyTo {
        ReplyTo { key: ApiKey::Produce, version, correlation: 1, received: std::time::Instant::now() }
    }

    #[test]
    fn each_partition_learns_what_became_of_its_own_batches() {
        let mut work = work(&[&[100], &[100, 100], &[100]]);
        let out_of_order = Reply::Refused(Refusal::OutOfOrderSequence);
        work.settle(0, Ok(vec![appended(7), appended(20), appended(21), out_of_order]));
        assert_eq!(result(&work), [(0, 7), (0, 20), (45, -1)]);
        encodes(ApiKey::Produce, |_| ProduceResponse::default().with_responses(work.topics.clone()));
    }

    #[test]
    fn a_proposal_that_fails_takes_only_its_own_batches_with_it() {
        let half = MAX_PAYLOAD / 2;
        let mut work = work(&[&[half - 100], &[half - 100], &[half]]);
        assert_eq!((work.fitting(0), work.fitting(2)), (2, 3));
        work.settle(0, Err(ResponseError::NotLeaderOrFollower));
        work.settle(2, Ok(vec![appended(5)]));
        assert_eq!(result(&work), [(6, -1), (6, -1), (0, 5)]);
    }

    #[test]
    fn a_batch_larger_than_an_entry_still_makes_progress() {
        assert_eq!(work(&[&[MAX_PAYLOAD], &[1]]).fitting(0), 1);
    }

    #[test]
    fn acks_zero_is_silent_unless_something_failed() {
        let mut done = work(&[&[100]]);
        done.settle(0, Ok(vec![appended(1)]));
        assert!(matches!(done.outcome(to(9), 0), Outcome::Silence));
        let mut failed = work(&[&[100]]);
        failed.settle(0, Err(ResponseError::NotLeaderOrFollower));
        assert!(matches!(failed.outcome(to(9), 0), Outcome::Close));
        assert!(matches!(work(&[&[100]]).outcome(to(9), 1), Outcome::Send(_)));
    }

    #[test]
    fn an_invalid_batch_is_answered_and_never_proposed() {
        let mut work = work(&[&[100], &[10]]);
        work.validate();
        assert!(work.appends.is_empty());
        assert_eq!(result(&work), [(43, -1), (2, -1)]);
    }
}
