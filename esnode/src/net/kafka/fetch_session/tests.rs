//! Sessions as a client of KIP-227 meets them, one request after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::fetch_response::FetchableTopicResponse;
use proptest::prelude::*;

use super::*;

/// Id where there is no session.
const NO_SESSION: i32 = 0;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn memory(bytes: usize) -> MemoryBudget {
    MemoryBudget::new(bytes, Duration::ZERO)
}

/// A client of topic `t`, with offset and limit by partition, and a node with a high watermark for each partition.
struct Lab {
    sessions: FetchSessions,
    memory: MemoryBudget,
    session_id: i32,
    epoch: i32,
    wanted: BTreeMap<i32, i32>,
    sent: BTreeMap<i32, i32>,
    known: BTreeMap<i32, i64>,
    high_watermarks: BTreeMap<i32, i64>,
}

impl Lab {
    fn new(partitions: i32) -> Self {
        Self {
            sessions: FetchSessions::default(),
            memory: memory(1 << 20),
            session_id: NO_SESSION,
            epoch: INITIAL_EPOCH,
            wanted: (0..partitions).map(|number| (number, 100)).collect(),
            sent: BTreeMap::new(),
            known: BTreeMap::new(),
            high_watermarks: BTreeMap::new(),
        }
    }

    /// The next request, as a client of KIP-227 makes it.
    fn request(&self) -> FetchRequest {
        let differs = |(number, limit): &(&i32, &i32)| self.sent.get(*number) != Some(*limit);
        let partition = |(number, limit): (&i32, &i32)| {
            FetchPartition::default().with_partition(*number).with_partition_max_bytes(*limit)
        };
        let changed: Vec<_> = self.wanted.iter().filter(differs).map(partition).collect();
        let gone: Vec<_> =
            self.sent.keys().filter(|number| !self.wanted.contains_key(number)).copied().collect();
        let topic = FetchTopic::default().with_topic(name("t"));
        let forgotten = ForgottenTopic::default().with_topic(name("t"));
        FetchRequest::default()
            .with_session_id(self.session_id)
            .with_session_epoch(self.epoch)
            .with_topics(some(changed, |changed| topic.with_partitions(changed)))
            .with_forgotten_topics_data(some(gone, |gone| forgotten.with_partitions(gone)))
    }

    /// Sends the next request. Returns the partitions in the answer.
    fn fetch(&mut self) -> Vec<i32> {
        let mut request = self.request();
        let in_session = match self.sessions.take_request(&mut request, false, &self.memory) {
            Ok(in_session) => in_session,
            Err(error) => {
                assert_eq!(error, ResponseError::FetchSessionIdNotFound);
                self.begin();
                return self.fetch();
            }
        };
        let named = request.topics.iter().flat_map(|topic| &topic.partitions);
        let named: BTreeMap<_, _> =
            named.map(|wanted| (wanted.partition, wanted.partition_max_bytes)).collect();
        assert_eq!(named, self.wanted, "the node hears of all that is wanted");
        let mut answer = self.answer(&request);
        if in_session {
            self.sessions.strip(&mut answer);
        }
        self.sent.clone_from(&self.wanted);
        self.known.retain(|number, _| self.wanted.contains_key(number));
        let told = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let told: Vec<_> = told.map(|part| (part.partition_index, part.high_watermark)).collect();
        self.known.extend(told.iter().copied());
        for number in self.wanted.keys() {
            let high_watermark = self.high_watermarks.get(number).copied().unwrap_or(0);
            assert_eq!(self.known.get(number), Some(&high_watermark), "the client hears of all there is");
        }
        match answer.session_id {
            NO_SESSION => self.begin(),
            id => (self.session_id, self.epoch) = (id, next(self.epoch)),
        }
        told.into_iter().map(|(number, _)| number).collect()
    }

    fn begin(&mut self) {
        (self.session_id, self.epoch) = (NO_SESSION, INITIAL_EPOCH);
        self.sent.clear();
    }

    /// What the node finds: events where there are more than the client knows of.
    fn answer(&self, request: &FetchRequest) -> FetchResponse {
        let part = |wanted: &FetchPartition| {
            let high_watermark = self.high_watermarks.get(&wanted.partition).copied().unwrap_or(0);
            let known = self.known.get(&wanted.partition).copied().unwrap_or(0);
            let events = if known < high_watermark { &b"events"[..] } else { b"" };
            let error = if high_watermark < 0 { ResponseError::OffsetOutOfRange.code() } else { 0 };
            PartitionData::default()
                .with_partition_index(wanted.partition)
                .with_error_code(error)
                .with_high_watermark(high_watermark)
                .with_records(Some(Bytes::from_static(events)))
        };
        let topics = request.topics.iter().map(|topic| {
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_partitions(topic.partitions.iter().map(part).collect())
        });
        FetchResponse::default().with_responses(topics.collect())
    }
}

fn some<T, U>(list: Vec<T>, make: impl FnOnce(Vec<T>) -> U) -> Vec<U> {
    if list.is_empty() { Vec::new() } else { vec![make(list)] }
}

#[test]
fn after_the_first_answer_only_news_is_told() {
    let mut lab = Lab::new(3);
    assert_eq!((lab.fetch(), lab.fetch()), (vec![0, 1, 2], vec![]));
    lab.high_watermarks.insert(1, 5);
    assert_eq!((lab.fetch(), lab.fetch()), (vec![1], vec![]));
    assert!(lab.request().topics.is_empty(), "nor does the client name anything");
}

#[test]
fn an_error_is_told_each_time_and_so_is_its_end() {
    let mut lab = Lab::new(2);
    lab.fetch();
    lab.high_watermarks.insert(1, -1);
    assert_eq!((lab.fetch(), lab.fetch()), (vec![1], vec![1]));
    lab.high_watermarks.insert(1, 0);
    assert_eq!((lab.fetch(), lab.fetch()), (vec![1], vec![]));
}

#[test]
fn what_is_wanted_may_change() {
    let mut lab = Lab::new(3);
    lab.fetch();
    lab.wanted.remove(&0);
    lab.wanted.insert(1, 7);
    lab.wanted.insert(9, 100);
    assert_eq!(lab.fetch(), [9]);
    lab.wanted.insert(0, 100);
    assert_eq!(lab.fetch(), [0], "what was forgotten is told anew");
}

#[test]
fn whoever_got_events_is_served_last() {
    let mut lab = Lab::new(4);
    lab.fetch();
    let order = |lab: &Lab| -> Vec<i32> {
        let sessions = lab.sessions.0.lock();
        let (session, _) = sessions.open.as_ref().unwrap();
        session.partitions.iter().map(|wanted| wanted.partition.partition).collect()
    };
    lab.high_watermarks.extend([(0, 1), (2, 1)]);
    lab.fetch();
    assert_eq!(order(&lab), [1, 3, 0, 2]);
    lab.high_watermarks.extend([(3, 1)]);
    lab.fetch();
    assert_eq!(order(&lab), [1, 0, 2, 3]);
}

#[test]
fn a_session_is_found_by_its_id_and_goes_by_its_epochs() {
    let mut lab = Lab::new(1);
    lab.fetch();
    let asked = |lab: &Lab, id: i32, epoch: i32, by_id: bool| {
        let mut request = FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
        lab.sessions.take_request(&mut request, by_id, &lab.memory)
    };
    let id = lab.session_id;
    assert_eq!(asked(&lab, id + 1, 1, false), Err(ResponseError::FetchSessionIdNotFound));
    assert_eq!(asked(&lab, NO_SESSION, 1, false), Err(ResponseError::FetchSessionIdNotFound));
    assert_eq!(asked(&lab, id, 2, false), Err(ResponseError::InvalidFetchSessionEpoch));
    assert_eq!(asked(&lab, id, 1, true), Err(ResponseError::FetchSessionTopicIdError));
    assert_eq!(asked(&lab, NO_SESSION, FINAL_EPOCH, false), Ok(false), "about no session");
    assert_eq!(asked(&lab, id, 1, false), Ok(true), "it is still there");
    assert_eq!(asked(&lab, id, FINAL_EPOCH, false), Ok(false), "the end of it");
    assert_eq!(asked(&lab, id, 2, false), Err(ResponseError::FetchSessionIdNotFound));
    assert_eq!((next(1), next(i32::MAX)), (2, 1));
}

#[test]
fn without_memory_there_is_no_session_and_all_is_told() {
    let mut lab = Lab::new(3);
    lab.memory = memory(3 * PARTITION_BYTES);
    assert_eq!((lab.fetch(), lab.session_id), (vec![0, 1, 2], NO_SESSION), "names take some, too");
    lab.memory = memory(4 * PARTITION_BYTES);
    assert_eq!((lab.fetch(), lab.fetch()), (vec![0, 1, 2], vec![]));
    lab.wanted.extend([(3, 100), (4, 100)]);
    assert_eq!((lab.fetch(), lab.session_id), (vec![0, 1, 2, 3, 4], NO_SESSION), "it has grown too large");
    lab.wanted.retain(|number, _| *number < 3);
    assert_eq!((lab.fetch(), lab.fetch()), (vec![0, 1, 2], vec![]), "its memory is free again");
    lab.sessions = FetchSessions::default();
    assert!(lab.memory.try_take(4 * PARTITION_BYTES).is_some(), "it ends with its connection");
    let mut large = Lab::new(i32::try_from(MAX_BYTES / PARTITION_BYTES).unwrap());
    large.memory = memory(4 * MAX_BYTES);
    large.fetch();
    assert_eq!(large.session_id, NO_SESSION, "one client gets a part of it");
}

#[test]
fn nothing_is_named_twice_in_a_session() {
    let twice =
        FetchTopic::default().with_topic(name("t")).with_partitions(vec![FetchPartition::default(); 2]);
    let mut request =
        FetchRequest::default().with_session_epoch(INITIAL_EPOCH).with_topics(vec![twice.clone()]);
    let sessions = FetchSessions::default();
    assert_eq!(sessions.take_request(&mut request, false, &memory(1 << 20)), Ok(false));
    let mut session = FetchSession::new(1, &FetchRequest::default(), false).unwrap();
    let mut request = request.with_session_epoch(1);
    session.merge(&mut request, false).unwrap();
    assert_eq!(request.topics[0].partitions.len(), 1, "the last time counts");
}

#[derive(Clone, Debug)]
enum Step {
    Want(i32, i32),
    Forget(i32),
    Append(i32),
    Fail(i32),
    Reconnect,
    Fetch,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..6i32;
    prop_oneof![
        (number.clone(), 1..3i32).prop_map(|(number, limit)| Step::Want(number, limit)),
        number.clone().prop_map(Step::Forget),
        number.clone().prop_map(Step::Append),
        number.prop_map(Step::Fail),
        Just(Step::Reconnect),
        Just(Step::Fetch),
        Just(Step::Fetch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Node and client agree on what is wanted and what is there, whatever happens between two requests.
    #[test]
    fn client_and_node_agree(steps in proptest::collection::vec(step(), 0..60), room in 2..9usize) {
        let mut lab = Lab::new(3);
        lab.memory = memory(room * PARTITION_BYTES);
        for step in steps {
            match step {
                Step::Want(number, limit) => drop(lab.wanted.insert(number, limit)),
                Step::Forget(number) => drop(lab.wanted.remove(&number)),
                Step::Append(number) => *lab.high_watermarks.entry(number).or_default() += 2,
                Step::Fail(number) => drop(lab.high_watermarks.insert(number, -1)),
                Step::Reconnect => lab.sessions = FetchSessions::default(),
                Step::Fetch => drop(lab.fetch()),
            }
        }
        lab.fetch();
    }
}
