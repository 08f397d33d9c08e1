//! Produce: record batches into the log, as they are.
//!
//! A request is proposed before the next one of its connection is read, so that the log's order is the client's;
//! only the answer waits. acks=1 waits for the quorum like acks=all.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::errors;
use super::frame::{BadRequest, Outcome, ReplyTo, Request};
use super::new_leader::NewLeader;
use super::records::{self, Rules};
use super::session::Session;
use crate::entry::OVERHEAD;
use crate::replica::ProposeError;
use crate::runtime::Budget;
use crate::runtime::read_clocks;
use crate::state_machine::command::Reply;
use crate::state_machine::{StateMachine, Topic, TopicId, config};

/// How long a producer waits that does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// No producer waits longer; a longer timeout is a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// From this version on the answer tells who leads instead.
const NEW_LEADER_SINCE: i16 = 10;
/// Bytes of a request that are read through at once: it takes tens of microseconds.
const CHECKED_AT_ONCE: usize = 256 << 10;

/// Serves Produce. Whatever it waits for, the request is decoded and looked at once.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ProduceRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    if session.holds_producers(to.received) {
        return Ok(Answer::first(async move {
            session.hold_producer(to.received).await;
            begin(session, to, body)
        }));
    }
    Ok(begin(session, to, body))
}

fn begin(session: Arc<Session>, to: ReplyTo, body: ProduceRequest) -> Answer {
    let wait = match u64::try_from(body.timeout_ms) {
        Ok(ms) if ms > 0 => Duration::from_millis(ms).min(LONGEST_WAIT),
        _ => DEFAULT_WAIT,
    };
    let (acks, deadline) = (body.acks, Instant::now() + wait);
    let refusal = if !(-1..=1).contains(&acks) {
        Some(ResponseError::InvalidRequiredAcks)
    } else if !session.leadership().serving {
        Some(ResponseError::NotLeaderOrFollower)
    } else {
        None
    };
    let mut work = Work::default();
    match refusal {
        Some(error) => work.refuse_all(body, error),
        None => {
            let partitions = body.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
            session.node().look_at(partitions, |state_machine| work.gather(state_machine, body, to.version));
        }
    }
    if work.is_slow_to_check() {
        return Answer::first(async move {
            match checked(&session, work).await {
                Some(work) => propose(session, to, work, acks, deadline),
                None => Answer::Now(Outcome::Close),
            }
        });
    }
    work.validate();
    propose(session, to, work, acks, deadline)
}

/// Reads through what takes more than a moment to read, on a thread where nobody else waits; `None` when the node stops.
async fn checked(session: &Session, mut work: Work) -> Option<Work> {
    let _permit = session.shared.checks.acquire().await.ok()?;
    let work = spawn_blocking(move || {
        work.validate();
        work
    });
    work.await.ok()
}

/// Proposes the batches, now or when there is room, before any later request of the connection.
fn propose(session: Arc<Session>, to: ReplyTo, mut work: Work, acks: i16, deadline: Instant) -> Answer {
    if work.appends.is_empty() {
        return Answer::Now(work.outcome(to, acks, || NewLeader::known(&session)));
    }
    let bytes = work.appends.iter().map(Append::bytes).sum();
    match session.node().try_room(bytes) {
        Some(room) => proposed(&session, to, work, acks, (deadline, room)),
        None => Answer::first(async move {
            match timeout_at(deadline, session.node().room(bytes)).await {
                Ok(room) => proposed(&session, to, work, acks, (deadline, room)),
                Err(_) => {
                    for at in 0..work.appends.len() {
                        work.refuse(at, ResponseError::RequestTimedOut);
                    }
                    Answer::Now(work.outcome(to, acks, || NewLeader::known(&session)))
                }
            }
        }),
    }
}

fn proposed(
    session: &Arc<Session>,
    to: ReplyTo,
    mut work: Work,
    acks: i16,
    (deadline, mut room): (Instant, Budget),
) -> Answer {
    let (mut bytes, now) = (0, read_clocks().wall);
    let mut proposals = Vec::with_capacity(work.appends.len());
    for append in &mut work.appends {
        bytes += append.batch.len() as u64;
        let share = room.split(append.bytes());
        let place = (append.topic, append.partition);
        proposals.push(session.node().append(place, append.take_batch(now), share));
    }
    session.shared.metrics.produce_bytes.fetch_add(bytes, Relaxed);
    let session = Arc::clone(session);
    Answer::later(async move {
        for (at, proposal) in proposals.into_iter().enumerate() {
            match timeout_at(deadline, proposal).await.unwrap_or(Err(ProposeError::Busy)) {
                Ok(replies) => replies.iter().for_each(|reply| work.enter(at, reply)),
                Err(error) => work.refuse(at, errors::produce(error)),
            }
        }
        work.outcome(to, acks, || NewLeader::known(&session))
    })
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
    rules: Rules,
    /// The offset that the partition's next event would have got when the request came.
    next: i64,
    /// Whether its records get the time of their append.
    is_log_append_time: bool,
    /// That time, in ms since 1970, once they have it.
    append_time: Option<i64>,
}

impl Append {
    /// What is wanted of a partition of `topic`, if it has this partition.
    fn new(slot: (usize, usize), topic: &Topic, wanted: PartitionProduceData, rules: &Rules) -> Option<Self> {
        let partition = u32::try_from(wanted.index).ok()?;
        let next = topic.partitions.get(partition as usize)?.high_watermark();
        Some(Self {
            slot,
            topic: topic.id,
            partition,
            batch: wanted.records.unwrap_or_default(),
            rules: rules.clone(),
            next,
            is_log_append_time: config::is_log_append_time(topic),
            append_time: None,
        })
    }

    /// What it takes on its way through the log.
    fn bytes(&self) -> usize {
        self.batch.len() + OVERHEAD
    }

    /// What goes into the log at time `now`.
    fn take_batch(&mut self, now: i64) -> Bytes {
        let batch = std::mem::take(&mut self.batch);
        if !self.is_log_append_time {
            return batch;
        }
        self.append_time = Some(now);
        records::with_append_time(&batch, now)
    }
}

/// The records have the timestamps that they came with.
const NO_TIME: i64 = -1;
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
    fn gather(&mut self, state_machine: &StateMachine, body: ProduceRequest, version: i16) {
        let now = read_clocks().wall;
        let transactional = body.transactional_id.is_some();
        let mut seen = HashSet::new();
        for data in body.topic_data {
            let topic = state_machine.topic(&data.name);
            let rules = topic.map(|topic| Rules {
                version,
                largest: config::largest_batch(state_machine, topic),
                timestamps: config::timestamps(topic, now),
                transactional,
            });
            let mut partitions = Vec::with_capacity(data.partition_data.len());
            for wanted in data.partition_data {
                let (answer, place) = (slot(wanted.index), (self.topics.len(), partitions.len()));
                let found = topic.zip(rules.as_ref());
                partitions.push(
                    match found.and_then(|(topic, rules)| Append::new(place, topic, wanted, rules)) {
                        // Some of its batches could be refused, and others not.
                        Some(append) if !seen.insert((append.topic, append.partition)) => {
                            answer.with_error_code(ResponseError::InvalidRequest.code())
                        }
                        Some(append) => {
                            self.appends.push(append);
                            answer
                        }
                        None => answer.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
                    },
                );
            }
            self.topics.push(
                TopicProduceResponse::default().with_name(data.name).with_partition_responses(partitions),
            );
        }
    }

    fn is_slow_to_check(&self) -> bool {
        let bytes: usize = self.appends.iter().map(|append| append.batch.len()).sum();
        bytes > CHECKED_AT_ONCE || self.appends.iter().any(|append| records::is_compressed(&append.batch))
    }

    /// Refuses what the log cannot take.
    fn validate(&mut self) {
        for sent in std::mem::take(&mut self.appends) {
            match records::check(&sent.batch, &sent.rules) {
                Ok(()) => self.appends.push(sent),
                Err((error, why)) => {
                    let answer = self.answer(sent.slot);
                    answer.error_code = error.code();
                    answer.error_message = Some(StrBytes::from_string(why));
                }
            }
        }
    }

    fn refuse(&mut self, at: usize, error: ResponseError) {
        let slot = self.appends[at].slot;
        self.answer(slot).error_code = error.code();
    }

    fn enter(&mut self, at: usize, reply: &Reply) {
        let Append { slot, next, append_time, .. } = self.appends[at];
        let answer = self.answer(slot);
        match reply {
            Reply::Appended { base_offset, log_start_offset } => {
                answer.log_start_offset = *log_start_offset;
                answer.base_offset = *base_offset;
                // A batch that came again has the time when it came first, which nobody remembers.
                answer.log_append_time_ms = append_time.filter(|_| *base_offset >= next).unwrap_or(NO_TIME);
            }
            Reply::Refused(why) => answer.error_code = errors::refusal(*why).code(),
            _ => answer.error_code = ResponseError::UnknownServerError.code(),
        }
    }

    fn answer(&mut self, slot: (usize, usize)) -> &mut PartitionProduceResponse {
        &mut self.topics[slot.0].partition_responses[slot.1]
    }

    /// The answer. `leader` is asked who leads if a partition is led elsewhere.
    fn outcome(mut self, to: ReplyTo, acks: i16, leader: impl FnOnce() -> Option<NewLeader>) -> Outcome {
        let (mut failed, mut is_led_elsewhere) = (false, false);
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
            if partition.error_code != errors::NONE {
                partition.base_offset = -1;
                failed = true;
                is_led_elsewhere |= NewLeader::applies_to(partition.error_code);
            }
        }
        match (acks, failed) {
            (0, false) => Outcome::NoResponse,
            // Nobody reads an answer; losing the connection makes the client look for the leader again.
            (0, true) => Outcome::Close,
            _ => {
                let mut answer = ProduceResponse::default().with_responses(self.topics);
                if is_led_elsewhere && to.version >= NEW_LEADER_SINCE {
                    leader().into_iter().for_each(|leader| leader.add_to_produce(&mut answer));
                }
                to.send(&answer)
            }
        }
    }
}

fn slot(index: i32) -> PartitionProduceResponse {
    PartitionProduceResponse::default().with_index(index).with_base_offset(OPEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::new_leader::tests::other;
    use crate::net::kafka::tests::{batch_of, encodes};
    use crate::state_machine::command::Refusal;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::protocol::Decodable;

    fn rules() -> Rules {
        Rules { version: 9, largest: 1000, timestamps: i64::MIN..=i64::MAX, transactional: false }
    }

    /// Partitions 0, 1, ... of one topic, each with a batch of this size to append.
    fn work(batches: &[usize]) -> Work {
        let mut work = Work::default();
        for (partition, size) in (0..).zip(batches) {
            let (slot, batch) = ((0, partition as usize), Bytes::from(vec![0; *size]));
            work.appends.push(Append {
                slot,
                topic: 1,
                partition,
                batch,
                rules: rules(),
                next: 5,
                is_log_append_time: false,
                append_time: None,
            });
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
    fn each_partition_learns_what_became_of_its_own_batch() {
        let mut work = work(&[100, 100, 100]);
        work.enter(0, &appended(7));
        work.enter(1, &Reply::Refused(Refusal::OutOfOrderSequence));
        work.refuse(2, ResponseError::NotLeaderOrFollower);
        let to = to(9);
        assert!(matches!(
            Work { topics: work.topics.clone(), appends: vec![] }.outcome(to, 1, || None),
            Outcome::Send(_)
        ));
        assert_eq!(result(&work), [(0, 7), (45, -1), (6, -1)]);
        encodes(ApiKey::Produce, |_| ProduceResponse::default().with_responses(work.topics.clone()));
    }

    #[test]
    fn a_partition_named_twice_is_taken_once() {
        use kafka_protocol::messages::TopicName;
        use kafka_protocol::messages::produce_request::TopicProduceData;
        let mut state_machine = StateMachine::default();
        let mut payload = bytes::BytesMut::new();
        crate::net::kafka::topics::creation("t", 1, vec![]).encode(&mut payload);
        state_machine.apply(1, 1, &payload.freeze());
        let data = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partition_data(vec![PartitionProduceData::default(); 1000]);
        let mut work = Work::default();
        work.gather(&state_machine, ProduceRequest::default().with_topic_data(vec![data.clone(), data]), 9);
        assert_eq!(work.appends.len(), 1);
        assert_eq!(result(&work)[..2], [(0, -1), (42, -1)]);
    }

    #[test]
    fn acks_zero_is_silent_unless_something_failed() {
        let mut done = work(&[100]);
        done.enter(0, &appended(1));
        assert!(matches!(done.outcome(to(9), 0, || None), Outcome::NoResponse));
        let mut failed = work(&[100]);
        failed.refuse(0, ResponseError::NotLeaderOrFollower);
        assert!(matches!(failed.outcome(to(9), 0, || None), Outcome::Close));
        assert!(matches!(work(&[100]).outcome(to(9), 1, || None), Outcome::Send(_)));
    }

    #[test]
    fn an_invalid_batch_is_answered_and_never_proposed() {
        let mut work = work(&[100, 10]);
        work.validate();
        assert!(work.appends.is_empty());
        assert_eq!(result(&work), [(43, -1), (2, -1)]);
    }

    #[test]
    fn who_leads_instead_is_told_where_the_version_has_a_place_for_it() {
        for version in 3..=11 {
            let mut work = work(&[100, 100]);
            work.refuse(0, ResponseError::NotLeaderOrFollower);
            work.enter(1, &appended(1));
            let Outcome::Send(frame) = work.outcome(to(version), -1, || Some(other())) else { panic!() };
            let header = 8 + usize::from(version >= 9);
            let answer = ProduceResponse::decode(&mut frame.freeze().slice(header..), version).unwrap();
            let partitions = answer.responses[0].partition_responses.iter();
            let leaders: Vec<_> = partitions.map(|partition| partition.current_leader.leader_id.0).collect();
            let told = version >= NEW_LEADER_SINCE;
            assert_eq!(
                (leaders, answer.node_endpoints.len()),
                (vec![if told { 2 } else { -1 }, -1], usize::from(told))
            );
        }
    }

    #[test]
    fn a_topic_that_wants_it_gets_the_time_of_the_append() {
        let mut work = work(&[0, 0, 0]);
        let sent = batch_of(2);
        for (append, is_log_append_time) in work.appends.iter_mut().zip([true, false, true]) {
            (append.batch, append.is_log_append_time) = (sent.clone(), is_log_append_time);
        }
        let batches = work.appends.iter_mut().map(|append| append.take_batch(7)).collect::<Vec<_>>();
        assert_eq!((&batches[0], &batches[1]), (&records::with_append_time(&sent, 7), &sent));
        for (at, offset) in [5, 5, 4].into_iter().enumerate() {
            work.enter(at, &appended(offset));
        }
        let told = work.topics[0].partition_responses.iter().map(|partition| partition.log_append_time_ms);
        assert!(told.eq([7, -1, -1]), "the last one came again");
    }
}
