//! Incremental fetch sessions (KIP-227): after its first Fetch a client names only what it wants differently, and gets
//! only partitions of which there is news.
//!
//! A session lives in its connection and ends with it: whoever comes back begins another one, with a request that names
//! everything. That request is also what is left where there is no memory for sessions.

use std::collections::{HashMap, HashSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::memory::MemoryBudget;

/// Epoch of a request that begins a session.
const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request that is about no session, or ends it.
const FINAL_EPOCH: i32 = -1;
/// Bytes that a partition of a session takes, about, with its parts of the request, the read and the answer while there is
/// a Fetch: a request of thirty bytes asks for all of it.
const PARTITION_BYTES: usize = 1 << 10;
/// Largest session, in bytes. It leaves memory for the sessions of others.
const MAX_BYTES: usize = 8 << 20;

/// The session of one connection. Another one that is begun takes its place.
///
/// A connection's answers are made one after the other. So nothing comes between a request and its answer, and short
/// requests that wait are not yet the long ones that they are made into.
#[derive(Debug, Default)]
pub struct FetchSessions(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    last_id: i32,
    open: Option<(FetchSession, OwnedSemaphorePermit)>,
}

impl FetchSessions {
    /// Makes `request` name all that it is about, `by_id` if topics go by their ids in its version. Returns whether there
    /// is a session, for [`FetchSessions::strip`].
    ///
    /// # Errors
    /// [`ResponseError::FetchSessionIdNotFound`], [`ResponseError::InvalidFetchSessionEpoch`] and
    /// [`ResponseError::FetchSessionTopicIdError`], after each of which a client begins another session.
    pub fn take_request(
        &self,
        request: &mut FetchRequest,
        by_id: bool,
        memory: &MemoryBudget,
    ) -> Result<bool, ResponseError> {
        let mut sessions = self.0.lock();
        match request.session_epoch {
            FINAL_EPOCH => {
                sessions.open.take_if(|(session, _)| session.id == request.session_id);
                Ok(false)
            }
            INITIAL_EPOCH => {
                sessions.open = None;
                sessions.last_id = next(sessions.last_id);
                let session = FetchSession::new(sessions.last_id, request, by_id);
                Ok(sessions.keep(session, memory))
            }
            _ => {
                let (mut session, held) = sessions
                    .open
                    .take_if(|(session, _)| session.id == request.session_id)
                    .ok_or(ResponseError::FetchSessionIdNotFound)?;
                if let Err(error) = session.merge(request, by_id) {
                    sessions.open = Some((session, held));
                    return Err(error);
                }
                drop(held);
                Ok(sessions.keep(Some(session), memory))
            }
        }
    }

    /// Takes out of the answer to a request of the session what the client knows, and says which session it is.
    pub fn strip(&self, answer: &mut FetchResponse) {
        if let Some((session, _)) = &mut self.0.lock().open {
            session.strip(answer);
            answer.session_id = session.id;
        }
    }
}

impl Sessions {
    /// Keeps the session if there is memory for it. If not, the answer says that there is none any more.
    fn keep(&mut self, session: Option<FetchSession>, memory: &MemoryBudget) -> bool {
        self.open = session.and_then(|session| {
            let bytes = session.bytes();
            let held = memory.try_take(bytes).filter(|_| bytes <= MAX_BYTES)?;
            Some((session, held))
        });
        self.open.is_some()
    }
}

/// PURE: what one client wants, and what it knows.
#[derive(Debug)]
struct FetchSession {
    id: i32,
    /// Epoch of the next request.
    epoch: i32,
    by_id: bool,
    /// In the order in which they are served: whoever got events goes to the end.
    partitions: Vec<Wanted>,
}

/// One partition of a session.
#[derive(Debug)]
struct Wanted {
    topic: TopicName,
    topic_id: Uuid,
    partition: FetchPartition,
    /// `None` if the client was told nothing yet, or an error.
    known: Option<KnownOffsets>,
    /// There were events of it in the last answer.
    got_events: bool,
}

/// The offsets that a client was told last of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownOffsets {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
}

/// A partition as a request names it. Of name and id one is empty.
type Key<'a> = (&'a str, Uuid, i32);

impl FetchSession {
    /// A session about all that `request` names; `None` if it names anything twice, which is answered with an error each
    /// time.
    fn new(id: i32, request: &FetchRequest, by_id: bool) -> Option<Self> {
        let mut partitions = Vec::new();
        for topic in &request.topics {
            let name = owned(&topic.topic);
            partitions
                .extend(topic.partitions.iter().map(|wanted| Wanted::new(&name, topic.topic_id, wanted)));
        }
        let mut seen = HashSet::with_capacity(partitions.len());
        let is_new = partitions.iter().all(|wanted| seen.insert(wanted.key()));
        is_new.then(|| Self { id, epoch: next(INITIAL_EPOCH), by_id, partitions })
    }

    /// Adds what `request` says to what is wanted, and makes it name all of it.
    fn merge(&mut self, request: &mut FetchRequest, by_id: bool) -> Result<(), ResponseError> {
        if request.session_epoch != self.epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if by_id != self.by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        self.epoch = next(self.epoch);
        if !request.topics.is_empty() {
            self.update(&request.topics);
        }
        if !request.forgotten_topics_data.is_empty() {
            let forgotten = request.forgotten_topics_data.iter();
            let forgotten: HashSet<Key<'_>> = forgotten
                .flat_map(|topic| {
                    topic.partitions.iter().map(|number| (topic.topic.as_str(), topic.topic_id, *number))
                })
                .collect();
            self.partitions.retain(|wanted| !forgotten.contains(&wanted.key()));
        }
        request.topics = self.topics();
        Ok(())
    }

    /// Replaces what is wanted of partitions that are in the session, and adds the others at the end.
    fn update(&mut self, topics: &[FetchTopic]) {
        let places: HashMap<Key<'_>, usize> =
            self.partitions.iter().enumerate().map(|(place, wanted)| (wanted.key(), place)).collect();
        let (mut changed, mut added, mut new) = (Vec::new(), Vec::new(), HashMap::new());
        for topic in topics {
            let name = owned(&topic.topic);
            for partition in &topic.partitions {
                let key = (topic.topic.as_str(), topic.topic_id, partition.partition);
                let wanted = Wanted::new(&name, topic.topic_id, partition);
                match (places.get(&key), new.get(&key)) {
                    (Some(place), _) => changed.push((*place, wanted.partition)),
                    (None, Some(place)) => added[*place] = wanted,
                    (None, None) => {
                        new.insert(key, added.len());
                        added.push(wanted);
                    }
                }
            }
        }
        for (place, partition) in changed {
            self.partitions[place].partition = partition;
        }
        self.partitions.extend(added);
    }

    /// All that is wanted, as a request names it.
    fn topics(&self) -> Vec<FetchTopic> {
        let same_topic = |a: &Wanted, b: &Wanted| a.topic == b.topic && a.topic_id == b.topic_id;
        let topics = self.partitions.chunk_by(same_topic).map(|partitions| {
            FetchTopic::default()
                .with_topic(partitions[0].topic.clone())
                .with_topic_id(partitions[0].topic_id)
                .with_partitions(partitions.iter().map(|wanted| wanted.partition.clone()).collect())
        });
        topics.collect()
    }

    /// Takes what the client knows out of the answer to [`FetchSession::topics`].
    fn strip(&mut self, answer: &mut FetchResponse) {
        let mut wanted = self.partitions.iter_mut();
        for topic in &mut answer.responses {
            topic.partitions.retain(|partition| wanted.next().is_none_or(|wanted| wanted.tell(partition)));
        }
        answer.responses.retain(|topic| !topic.partitions.is_empty());
        // A stable sort: among those that got nothing, whoever has waited longest stays first.
        self.partitions.sort_by_key(|wanted| wanted.got_events);
    }

    /// Bytes that it takes, about. Names are counted for each of their partitions.
    fn bytes(&self) -> usize {
        self.partitions.iter().map(|wanted| PARTITION_BYTES + wanted.topic.len()).sum()
    }
}

impl Wanted {
    fn new(topic: &TopicName, topic_id: Uuid, partition: &FetchPartition) -> Self {
        let mut partition = partition.clone();
        // Nobody reads them, and they are pieces of the request's frame.
        partition.unknown_tagged_fields.clear();
        Self { topic: topic.clone(), topic_id, partition, known: None, got_events: false }
    }

    fn key(&self) -> Key<'_> {
        (self.topic.as_str(), self.topic_id, self.partition.partition)
    }

    /// Whether this part of an answer is news to the client, which knows it from then on.
    fn tell(&mut self, answer: &PartitionData) -> bool {
        let offsets = KnownOffsets {
            high_watermark: answer.high_watermark,
            last_stable_offset: answer.last_stable_offset,
            log_start_offset: answer.log_start_offset,
        };
        self.got_events = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        // Whatever the client does about these, it has to be told each time.
        let is_event = self.got_events
            || answer.error_code != 0
            || answer.diverging_epoch != EpochEndOffset::default()
            || answer.preferred_read_replica != BrokerId(-1);
        let is_news = is_event || self.known != Some(offsets);
        self.known = (answer.error_code == 0).then_some(offsets);
        is_news
    }
}

/// The epoch after this one. Those of a session are positive.
fn next(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// A copy: what was decoded is a piece of the request's frame, which would stay in memory with it.
fn owned(name: &TopicName) -> TopicName {
    TopicName(StrBytes::from_string(name.as_str().to_owned()))
}

#[cfg(test)]
mod tests;
