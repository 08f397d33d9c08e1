//! Writes events to one topic, each of them once: an idempotent producer with one batch in flight for each partition.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jiff::Timestamp;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};

use super::client::{millis, topic_name};
use super::error::check;
use super::metadata::Topic;
use super::records::{self, BATCH_OVERHEAD, BatchHeader, NewEvent};
use super::{KafkaClient, KafkaError, TopicPartition, partitioner};

/// Acknowledged by all that count: a majority of the voters.
const ACKS_ALL: i16 = -1;
/// Largest batch, in bytes, where the topic takes larger ones.
const MAX_BATCH: usize = 1 << 20;
/// The topic's setting for its largest batch.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// What was acknowledged in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Number of events.
    pub count: u64,
    /// Offset of the first one, if it is known.
    pub first: Option<i64>,
    /// Offset of the last one, if it is known.
    pub last: Option<i64>,
}

/// A producer of one topic.
#[derive(Debug)]
pub struct Producer {
    topic: Topic,
    headers: Vec<(String, Bytes)>,
    spread: Spread,
    max_batch: usize,
    id: i64,
    epoch: i16,
    /// The next sequence number of each partition.
    sequences: BTreeMap<i32, i32>,
    written: BTreeMap<i32, Written>,
}

/// Which partitions events go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// All to this one.
    Pinned(i32),
    /// By key; those without a key in turns, of which this is the number.
    Turns(usize),
}

/// Events for one partition, in order.
type Batch = Vec<NewEvent>;

impl Producer {
    /// A producer of this topic; all events get `headers`, and go to partition `pinned` if there is one.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; those of [`KafkaClient::ask_any`].
    pub async fn open(
        client: &mut KafkaClient,
        topic: &str,
        pinned: Option<i32>,
        headers: Vec<(String, Bytes)>,
    ) -> Result<Self, KafkaError> {
        let topic = client.topic(topic).await?;
        if let Some(index) = pinned
            && topic.partitions.iter().all(|partition| partition.index != index)
        {
            let (partition, count) = (TopicPartition::new(&topic.name, index), topic.partitions.len());
            return Err(KafkaError::UnknownPartition { partition, count });
        }
        let configs = client.configs(std::slice::from_ref(&topic.name)).await?;
        let limit = configs.get(&topic.name).and_then(|configs| configs.get(MAX_MESSAGE_BYTES));
        let limit = limit.and_then(|limit| limit.value.parse().ok()).unwrap_or(MAX_BATCH);
        let (id, epoch) = client.producer_id().await?;
        Ok(Self {
            topic,
            headers,
            spread: pinned.map_or(Spread::Turns(0), Spread::Pinned),
            max_batch: limit.min(MAX_BATCH),
            id,
            epoch,
            sequences: BTreeMap::new(),
            written: BTreeMap::new(),
        })
    }

    /// Returns what was acknowledged, by partition.
    pub fn written(&self) -> &BTreeMap<i32, Written> {
        &self.written
    }

    /// Writes events, in order within each partition. Returns when all of them are acknowledged.
    ///
    /// # Errors
    /// Why some are not; [`Self::written`] says which are.
    pub async fn write(&mut self, client: &mut KafkaClient, events: Vec<NewEvent>) -> Result<(), KafkaError> {
        let mut queues = self.queues(events);
        while !queues.is_empty() {
            let round =
                queues.iter_mut().filter_map(|(partition, queue)| Some((*partition, queue.pop_front()?)));
            let round = round.collect();
            self.send(client, round).await?;
            queues.retain(|_, queue| !queue.is_empty());
        }
        Ok(())
    }

    /// The batches of each partition.
    fn queues(&mut self, events: Vec<NewEvent>) -> BTreeMap<i32, VecDeque<Batch>> {
        let mut queues = BTreeMap::<i32, Batch>::new();
        let turn = self.take_turn();
        let own_turn = self.topic.partitions.get(turn).map_or(0, |partition| partition.index);
        for event in events {
            let partition = match (self.spread, &event.key) {
                (Spread::Pinned(partition), _) => partition,
                (Spread::Turns(_), None) => own_turn,
                (Spread::Turns(_), Some(key)) => {
                    let index = partitioner::of_key(key, self.topic.partitions.len());
                    self.topic.partitions.get(index).map_or(0, |partition| partition.index)
                }
            };
            queues.entry(partition).or_default().push(event);
        }
        let split = |events| batches(events, &self.headers, self.max_batch);
        queues.into_iter().map(|(partition, events)| (partition, split(events))).collect()
    }

    /// The place of the partition whose turn it is.
    fn take_turn(&mut self) -> usize {
        let Spread::Turns(turn) = &mut self.spread else { return 0 };
        let place = *turn % self.topic.partitions.len().max(1);
        *turn = turn.wrapping_add(1);
        place
    }

    /// Sends a batch to each partition, and those again whose acknowledgement did not come.
    async fn send(
        &mut self,
        client: &mut KafkaClient,
        round: BTreeMap<i32, Batch>,
    ) -> Result<(), KafkaError> {
        let now = Timestamp::now().as_millisecond();
        let mut pending = BTreeMap::new();
        for (partition, events) in round {
            let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
            let header =
                BatchHeader { producer_id: self.id, producer_epoch: self.epoch, sequence, timestamp: now };
            let at = TopicPartition::new(&self.topic.name, partition);
            let encoded = records::encode(&events, &self.headers, &header)
                .map_err(|why| KafkaError::Unwritable { partition: at.clone(), why })?;
            pending.insert(at, (encoded, events.len()));
        }
        client
            .retried(async |client| {
                let wanted = pending.iter().map(|(at, (batch, _))| (at.clone(), batch.clone()));
                let mut result = Ok(());
                for (leader, batches) in client.by_leader(wanted.collect::<Vec<_>>()).await? {
                    let request = self.request(client, batches);
                    let response = client.ask(leader, 8..=9, &request).await?;
                    for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
                        let at = TopicPartition::new(&self.topic.name, answer.index);
                        match outcome(&at, answer) {
                            Ok(offset) => {
                                let count = pending.remove(&at).map_or(0, |(_, count)| count);
                                self.acknowledge(answer.index, offset, count);
                            }
                            Err(error) => result = Err(error),
                        }
                    }
                }
                match pending.keys().next() {
                    Some(at) if result.is_ok() => Err(KafkaError::NoLeader(at.clone())),
                    _ => result,
                }
            })
            .await
    }

    fn request(&self, client: &KafkaClient, batches: Vec<(TopicPartition, Bytes)>) -> ProduceRequest {
        let data = batches.into_iter().map(|(at, batch)| {
            PartitionProduceData::default().with_index(at.partition).with_records(Some(batch))
        });
        let topic = TopicProduceData::default()
            .with_name(topic_name(&self.topic.name))
            .with_partition_data(data.collect());
        ProduceRequest::default()
            .with_acks(ACKS_ALL)
            .with_timeout_ms(millis(client.limits().answer))
            .with_topic_data(vec![topic])
    }

    /// Counts a batch that was acknowledged; `first` is its first offset, if it is known.
    fn acknowledge(&mut self, partition: i32, first: Option<i64>, count: usize) {
        if count == 0 {
            return;
        }
        let next = self.sequences.entry(partition).or_default();
        *next = after(*next, count);
        let last = first.and_then(|first| first.checked_add(i64::try_from(count).ok()? - 1));
        let written = self.written.entry(partition).or_insert(Written { count: 0, first, last });
        written.count += count as u64;
        written.last = last.or(written.last);
    }
}

impl KafkaClient {
    /// Returns an id and an epoch for an idempotent producer.
    async fn producer_id(&mut self) -> Result<(i64, i16), KafkaError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(millis(self.limits().call));
        self.retried(async |client| {
            let response = client.ask_any(2..=4, &request).await?;
            check(response.error_code, None, || "a producer id".to_owned())?;
            Ok((response.producer_id.0, response.producer_epoch))
        })
        .await
    }
}

/// The first offset of an acknowledged batch, if the node still knows it.
fn outcome(at: &TopicPartition, answer: &PartitionProduceResponse) -> Result<Option<i64>, KafkaError> {
    // It is there already: this was the second attempt, after an acknowledgement that was lost.
    if answer.error_code != ResponseError::DuplicateSequenceNumber.code() {
        check(answer.error_code, answer.error_message.as_ref(), || format!("cannot write to {at}"))?;
    }
    Ok(Some(answer.base_offset).filter(|offset| *offset >= 0))
}

/// The sequence number that comes `count` later. After the largest one comes 0.
fn after(sequence: i32, count: usize) -> i32 {
    let sum = u64::try_from(sequence).unwrap_or_default() + count as u64;
    i32::try_from(sum & 0x7fff_ffff).unwrap_or_default()
}

/// Splits events into batches of at most `max` bytes. An event that is larger is a batch of its own: the node says what it
/// thinks of it.
fn batches(events: Vec<NewEvent>, headers: &[(String, Bytes)], max: usize) -> VecDeque<Batch> {
    let mut batches = VecDeque::new();
    let (mut batch, mut size) = (Vec::new(), BATCH_OVERHEAD);
    for event in events {
        let bytes = event.size(headers);
        if !batch.is_empty() && size + bytes > max {
            batches.push_back(std::mem::take(&mut batch));
            size = BATCH_OVERHEAD;
        }
        size += bytes;
        batch.push(event);
    }
    if !batch.is_empty() {
        batches.push_back(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::kafka::metadata::Partition;

    fn producer(partitions: i32, spread: Spread) -> Producer {
        let partition = |index| Partition { index, leader: Some(1), replicas: vec![1], in_sync: vec![1] };
        let partitions = (0..partitions).map(partition).collect();
        Producer {
            topic: Topic { name: "orders".to_owned(), id: Uuid::nil(), partitions },
            headers: Vec::new(),
            spread,
            max_batch: MAX_BATCH,
            id: 7,
            epoch: 0,
            sequences: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    fn event(key: Option<&str>, value: &str) -> NewEvent {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        NewEvent { key: key.map(bytes), value: Some(bytes(value)) }
    }

    fn partitions(producer: &mut Producer, events: Vec<NewEvent>) -> Vec<i32> {
        producer.queues(events).into_keys().collect()
    }

    #[test]
    fn a_key_decides_else_partitions_take_turns_unless_one_was_named() {
        let mut turns = producer(3, Spread::Turns(0));
        let without = || vec![event(None, "a"), event(None, "b")];
        assert_eq!(
            [0, 1, 2, 0].map(|turn| (turn, partitions(&mut turns, without()) == [turn])).map(|(_, is)| is),
            [true; 4]
        );
        let keyed = |key| vec![event(Some(key), "a")];
        let first = partitions(&mut turns, keyed("21"));
        assert_eq!(partitions(&mut turns, keyed("21")), first);
        let expected = i32::try_from(partitioner::of_key(b"21", 3)).unwrap();
        assert_eq!(first, [expected]);
        let mut pinned = producer(3, Spread::Pinned(2));
        assert_eq!(partitions(&mut pinned, [keyed("21"), without()].concat()), [2]);
    }

    #[test]
    fn batches_stay_below_the_limit_and_keep_the_order() {
        let events: Vec<_> = (0..100).map(|number| event(None, &format!("{number:0>200}"))).collect();
        let split = batches(events.clone(), &[], 1000);
        assert!(split.len() > 20 && split.iter().all(|batch| batch.len() <= 4));
        assert_eq!(split.into_iter().flatten().collect::<Vec<_>>(), events);
        let large =
            batches(vec![event(None, "a"), event(None, &"x".repeat(5000)), event(None, "b")], &[], 1000);
        assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(batches(Vec::new(), &[], 1000).is_empty());
    }

    #[test]
    fn sequence_numbers_go_on_and_begin_again_after_the_largest() {
        assert_eq!([after(0, 3), after(i32::MAX, 1), after(i32::MAX - 1, 3)], [3, 0, 1]);
        let mut producer = producer(1, Spread::Turns(0));
        producer.acknowledge(0, Some(10), 3);
        producer.acknowledge(0, None, 2);
        producer.acknowledge(0, Some(15), 1);
        assert_eq!(producer.sequences[&0], 6);
        assert_eq!(producer.written[&0], Written { count: 6, first: Some(10), last: Some(15) });
    }

    #[test]
    fn a_batch_that_is_there_already_counts_as_written() {
        let at = TopicPartition::new("orders", 0);
        let answer =
            |code, offset| PartitionProduceResponse::default().with_error_code(code).with_base_offset(offset);
        assert_eq!(outcome(&at, &answer(0, 12)), Ok(Some(12)));
        assert_eq!(outcome(&at, &answer(46, -1)), Ok(None));
        assert!(outcome(&at, &answer(6, -1)).unwrap_err().is_retriable());
        assert!(!outcome(&at, &answer(10, -1)).unwrap_err().is_retriable());
    }
}
