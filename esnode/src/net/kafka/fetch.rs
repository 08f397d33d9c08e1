//! Fetch: batches from the log, now or as soon as there are some.
//!
//! The log is read on a blocking thread: a read that misses the page cache must not hold up the acknowledgements
//! that share the async threads, and the hand-over costs microseconds.

use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::FetchableTopicResponse;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::futures::OwnedNotified;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::fetch_read;
use super::frame::{BadRequest, Outcome, Request};
use super::ids::{self, TopicKey};
use super::leader_epoch;
use super::memory::Held;
use super::new_leader::NewLeader;
use super::partition_read::{Isolation, PartitionRead, Room, State};
use super::session::Session;

/// Most bytes of events in one answer, whatever the client allows.
const MAX_ANSWER: usize = 8 << 20;
/// The same while too many answers are held in memory already.
const SMALL_ANSWER: usize = 64 << 10;
/// From this version on topics go by their ids.
const BY_ID: i16 = 13;
/// From this version on the answer tells who leads instead.
const NEW_LEADER_SINCE: i16 = 16;
/// No client is kept waiting longer for events.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Serves Fetch.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let mut body: FetchRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let (sessions, memory) = (&session.fetch_sessions, &session.shared.memory.fetch_sessions);
        let in_session = match sessions.take_request(&mut body, to.version >= BY_ID, memory) {
            Ok(in_session) => in_session,
            Err(error) => return to.send(&FetchResponse::default().with_error_code(error.code())),
        };
        let mut fetch = Fetch::new(&body, to.version);
        let wait = Duration::from_millis(u64::try_from(body.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
        if let Err(error) = fetch.gather(&session, Instant::now() + wait).await {
            tracing::error!(%error, peer = %session.peer, "a fetch failed");
            return Outcome::Close;
        }
        session.shared.metrics.fetch_bytes.fetch_add(fetch.room.taken as u64, Relaxed);
        let permit = fetch.permit.take();
        let mut answer = fetch.answer(&body);
        if to.version >= NEW_LEADER_SINCE && is_led_elsewhere(&answer) {
            NewLeader::known(&session).into_iter().for_each(|leader| leader.add_to_fetch(&mut answer));
        }
        if in_session {
            session.fetch_sessions.strip(&mut answer);
        }
        match (to.send(&answer), permit) {
            (Outcome::Send(frame), Some(permit)) => Outcome::SendHolding(frame, Held::Events(permit)),
            (outcome, _) => outcome,
        }
    }))
}

fn is_led_elsewhere(answer: &FetchResponse) -> bool {
    let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| NewLeader::applies_to(partition.error_code))
}

/// A fetch on its way.
struct Fetch {
    reads: Vec<PartitionRead>,
    min_bytes: usize,
    room: Room,
    /// Memory that counts as taken until the answer is sent.
    permit: Option<OwnedSemaphorePermit>,
}

impl Fetch {
    fn new(body: &FetchRequest, version: i16) -> Self {
        let limit = |bytes: i32| usize::try_from(bytes).unwrap_or(0).min(MAX_ANSWER);
        let isolation = Isolation::of(body.isolation_level);
        let mut seen = HashSet::new();
        let mut reads = Vec::new();
        for topic in &body.topics {
            let key = match version {
                BY_ID.. => TopicKey::Id(topic.topic_id),
                _ => TopicKey::Name(topic.topic.0.clone()),
            };
            for wanted in &topic.partitions {
                let room = limit(wanted.partition_max_bytes);
                // Each reads the log for itself, so a partition asked for a thousand times would be read as often.
                let again = !seen.insert((key.clone(), wanted.partition));
                reads.push(PartitionRead::new(key.clone(), wanted, room, isolation, again));
            }
        }
        Self {
            reads,
            min_bytes: limit(body.min_bytes),
            room: Room { bytes: limit(body.max_bytes), taken: 0 },
            permit: None,
        }
    }

    /// Reads until there is enough, something is wrong or time is up.
    async fn gather(&mut self, session: &Arc<Session>, deadline: Instant) -> io::Result<()> {
        let mut leadership = session.watch_leadership();
        let mut stopping = session.stopping.clone();
        let (mut growth, mut proven) = (None, false);
        loop {
            let now = *leadership.borrow_and_update();
            let high = self.look(session, now.serving.then(|| ids::leader_epoch(now.term)));
            self.read(session, high).await?;
            if !proven && self.reads.iter().any(|read| read.state.needs_proof()) {
                let proof = leader_epoch::prove(session).await;
                (proven, growth) = (true, None);
                match proof {
                    // What this node did not know yet, it does now.
                    Ok(_) => continue,
                    Err(error) => self.withhold(error),
                }
            }
            if self.is_enough() || Instant::now() >= deadline || *stopping.borrow() {
                return Ok(());
            }
            // Most fetches find something at once, so waiting is prepared only now; then look again, for something
            // may just have come.
            let Some(growing) = growth.take() else {
                growth = Some(growth_of(session, &self.reads));
                continue;
            };
            let woken = async {
                tokio::select! {
                    () = growing => {}
                    _ = leadership.changed() => {}
                    _ = stopping.wait_for(|stop| *stop) => {}
                }
            };
            if timeout_at(deadline, woken).await.is_err() {
                return Ok(());
            }
            growth = Some(growth_of(session, &self.reads));
        }
    }

    /// Compares with the state; gives the end of what may be read.
    fn look(&mut self, session: &Session, epoch: Option<i32>) -> u64 {
        session.node().look_at(self.reads.len(), |state_machine| {
            for read in &mut self.reads {
                read.look(state_machine, epoch, |source, offset| session.cursors.get(source, offset));
            }
            state_machine.applied_index() + 1
        })
    }

    /// Says `error` instead of what a client would give up, or go back, for.
    fn withhold(&mut self, error: ResponseError) {
        let doubtful = self.reads.iter_mut().filter(|read| read.state.needs_proof());
        doubtful.for_each(|read| read.state = State::Failed(error));
    }

    fn is_enough(&self) -> bool {
        let is_final = |read: &PartitionRead| {
            matches!(read.state, State::Failed(_) | State::Diverged(..) | State::Full(..))
        };
        self.room.taken >= self.min_bytes || self.reads.is_empty() || self.reads.iter().any(is_final)
    }

    async fn read(&mut self, session: &Arc<Session>, high: u64) -> io::Result<()> {
        if !self.reads.iter().any(|read| matches!(read.state, State::Behind(..))) {
            return Ok(());
        }
        self.reserve(session);
        let (mut reads, mut room, node) =
            (std::mem::take(&mut self.reads), self.room, session.node().clone());
        let work =
            spawn_blocking(move || (fetch_read::read(&node, &mut reads, &mut room, high), reads, room));
        let (read, reads, room) = work.await.map_err(io::Error::other)?;
        (self.reads, self.room) = (reads, room);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(self.room.taken)));
        }
        if let Err(error) = read {
            tracing::error!(%error, "the log could not be read for a Kafka client");
            for read in &mut self.reads {
                read.state = State::Failed(ResponseError::KafkaStorageError);
            }
        }
        for read in &self.reads {
            if let State::Behind(source, at) | State::Full(source, at) = &read.state {
                session.cursors.put(source, read.offset, *at);
            }
        }
        Ok(())
    }

    /// Accounts for the memory that a read may take. While slow clients hold too much, answers are small, but
    /// nobody waits for another.
    fn reserve(&mut self, session: &Session) {
        match (session.shared.memory.fetches.try_take(self.room.bytes), &mut self.permit) {
            (Some(more), Some(permit)) => permit.merge(more),
            (Some(permit), none) => *none = Some(permit),
            (None, _) => {
                session.shared.memory.fetches.evict();
                self.room.bytes = self.room.bytes.min(SMALL_ANSWER);
            }
        }
    }

    /// The answer: topics and partitions as asked for.
    fn answer(self, body: &FetchRequest) -> FetchResponse {
        let mut reads = self.reads.into_iter();
        let topics = body.topics.iter().map(|topic| {
            let partitions = reads.by_ref().take(topic.partitions.len()).map(PartitionRead::answer).collect();
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions)
        });
        FetchResponse::default().with_responses(topics.collect())
    }
}

/// Done when any of the partitions changes, counted from this call on.
fn growth_of(session: &Session, reads: &[PartitionRead]) -> impl Future<Output = ()> + Send + use<> {
    let mut changes: Vec<Pin<Box<OwnedNotified>>> = reads
        .iter()
        .filter_map(|read| match &read.state {
            State::Drained(source) | State::Behind(source, _) | State::Full(source, _) => {
                let change = session.node().partition_changes(source.topic, source.partition);
                let mut change = Box::pin(change.notified_owned());
                change.as_mut().enable();
                Some(change)
            }
            State::Failed(_) | State::Diverged(..) => None,
        })
        .collect();
    poll_fn(move |context| {
        // Every one is polled, for each must know whom to wake.
        let changed =
            changes.iter_mut().filter_map(|change| change.as_mut().poll(context).is_ready().then_some(()));
        if changed.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::{ApiKey, TopicName};
    use uuid::Uuid;

    use super::*;
    use crate::net::kafka::new_leader::tests::other;
    use crate::net::kafka::tests::encodes;

    #[test]
    fn a_partition_asked_for_again_and_again_is_read_once() {
        let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default(); 1000]);
        let fetch = Fetch::new(&FetchRequest::default().with_topics(vec![topic.clone(), topic]), 12);
        let mut reads = fetch.reads;
        reads.iter_mut().for_each(|read| read.look(&Default::default(), Some(1), |_, _| None));
        let again = State::Failed(ResponseError::InvalidRequest);
        assert_eq!(reads.iter().filter(|read| read.state == again).count(), 1999);
        assert_eq!(reads[0].state, State::Failed(ResponseError::UnknownTopicOrPartition));
    }

    #[test]
    fn topics_are_answered_as_they_were_named() {
        let id = Uuid::from_u128(7);
        let topic = |version| match version {
            BY_ID.. => FetchTopic::default().with_topic_id(id),
            _ => FetchTopic::default().with_topic(TopicName("t".into())),
        };
        encodes(ApiKey::Fetch, |version| {
            let wanted = topic(version).with_partitions(vec![FetchPartition::default()]);
            let body = FetchRequest::default().with_topics(vec![wanted]);
            let mut fetch = Fetch::new(&body, version);
            fetch.reads[0].look(&Default::default(), None, |_, _| None);
            let mut answer = fetch.answer(&body);
            assert_eq!(
                (&answer.responses[0].topic, answer.responses[0].topic_id),
                (&topic(version).topic, topic(version).topic_id)
            );
            assert!(is_led_elsewhere(&answer));
            if version >= NEW_LEADER_SINCE {
                other().add_to_fetch(&mut answer);
                let told = &answer.responses[0].partitions[0].current_leader;
                assert_eq!((told.leader_id.0, told.leader_epoch, answer.node_endpoints.len()), (2, 7, 1));
            }
            answer
        });
    }
}
