//! Reads the events of one topic, without a group and without committing anything.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest};

use super::client::{millis, topic_name};
use super::error::check;
use super::offsets::{OffsetRange, OffsetSpec, READ_COMMITTED};
use super::position::Position;
use super::records::{self, Event, Fault, Fetched};
use super::{KafkaClient, KafkaError, TopicPartition};

/// How long a node waits for new events before it answers without any.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// Bytes that one fetch brings, in all and of one partition, unless a batch is larger.
const MAX_BYTES: i32 = 16 << 20;
const MAX_PARTITION_BYTES: i32 = 4 << 20;

/// Which events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Isolation {
    /// All events, also of transactions that are under way or were aborted.
    ReadUncommitted,
    /// Those of no transaction or a committed one, up to the first event of a transaction under way.
    ReadCommitted,
}

/// A consumer of some partitions of one topic.
#[derive(Debug)]
pub struct Consumer {
    /// The next offset of each partition.
    positions: BTreeMap<TopicPartition, i64>,
    /// Where each ends; nothing ends when `None`.
    ends: Option<BTreeMap<TopicPartition, i64>>,
    isolation: Isolation,
    /// Where each partition can be read up to that has more, held back by a transaction under way.
    held: BTreeMap<TopicPartition, i64>,
}

/// What one look at a partition brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which partition.
    pub partition: i32,
    /// The events, in order.
    pub events: Vec<Event>,
    /// Offsets that could not be read, from the first to before the second: their events were deleted.
    pub skipped: Option<(i64, i64)>,
}

impl Consumer {
    /// A consumer that starts `from` a position. Unless it follows, it ends where the partitions end now.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; those of [`KafkaClient::offsets`].
    pub async fn open(
        client: &mut KafkaClient,
        topic: &str,
        only: &[i32],
        from: Position,
        follow: bool,
        isolation: Isolation,
    ) -> Result<Self, KafkaError> {
        let topic = client.topic(topic).await?;
        let all = topic.partitions.iter().map(|partition| partition.index);
        let chosen = if only.is_empty() { all.collect() } else { only.to_vec() };
        let partitions: Vec<_> =
            chosen.into_iter().map(|index| TopicPartition::new(&topic.name, index)).collect();
        let ranges = client.ranges(&partitions).await?;
        let ends = match isolation {
            Isolation::ReadUncommitted => ranges.iter().map(|(at, range)| (at.clone(), range.end)).collect(),
            Isolation::ReadCommitted => client.offsets(&partitions, OffsetSpec::LastStable).await?,
        };
        let at_time = match from.time(Timestamp::now()) {
            Some(time) => client.offsets(&partitions, OffsetSpec::At(time)).await?,
            None => BTreeMap::new(),
        };
        let positions = starts(&ranges, &ends, from, &at_time);
        let held = held(&ranges, &ends);
        Ok(Self { positions, ends: (!follow).then_some(ends), isolation, held })
    }

    /// Returns whether everything was read that was there at the beginning.
    pub fn is_finished(&self) -> bool {
        self.unfinished().next().is_none()
    }

    /// A partition that is read up to where a transaction under way holds back the rest, and that offset.
    pub fn held_back(&self) -> Option<(&TopicPartition, i64)> {
        let reached = |(at, offset): &(&TopicPartition, &i64)| {
            self.positions.get(*at).is_some_and(|position| position >= *offset)
        };
        self.held.iter().find(reached).map(|(at, offset)| (at, *offset))
    }

    fn unfinished(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        let ends = self.ends.as_ref();
        let goes_on = move |at: &TopicPartition, position: i64| {
            ends.is_none_or(|ends| ends.get(at).is_some_and(|end| position < *end))
        };
        let positions = self.positions.iter().map(|(at, position)| (at, *position));
        positions.filter(move |(at, position)| goes_on(at, *position))
    }

    /// Waits a moment for events, and returns those that there are.
    ///
    /// # Errors
    /// `Unreadable`, `NoLeader`; those of [`KafkaClient::ask`].
    pub async fn next(&mut self, client: &mut KafkaClient) -> Result<Vec<Batch>, KafkaError> {
        client
            .retried(async |client| {
                let mut batches = Vec::new();
                match self.fetch(client, &mut batches).await {
                    // What was taken is not fetched again; what is wrong comes up again.
                    Err(error) if batches.is_empty() => Err(error),
                    _ => Ok(batches),
                }
            })
            .await
    }

    async fn fetch(&mut self, client: &mut KafkaClient, batches: &mut Vec<Batch>) -> Result<(), KafkaError> {
        let wanted = self.unfinished().map(|(at, position)| (at.clone(), position));
        for (leader, wanted) in client.by_leader(wanted.collect::<Vec<_>>()).await? {
            let wait = MAX_WAIT.min(client.limits().answer / 2);
            let request = request(wanted, wait, self.isolation);
            let response = client.ask(leader, 11..=12, &request).await?;
            check(response.error_code, None, || "cannot read".to_owned())?;
            for topic in response.responses {
                for data in topic.partitions {
                    let at = TopicPartition::new(&topic.topic, data.partition_index);
                    batches.extend(self.take(client, at, data).await?);
                }
            }
        }
        Ok(())
    }

    /// Takes what came of one partition, and moves its position.
    async fn take(
        &mut self,
        client: &mut KafkaClient,
        at: TopicPartition,
        data: PartitionData,
    ) -> Result<Option<Batch>, KafkaError> {
        let Some(position) = self.positions.get(&at).copied() else { return Ok(None) };
        if data.error_code == ResponseError::OffsetOutOfRange.code() {
            let ranges = client.ranges(std::slice::from_ref(&at)).await?;
            let to = ranges.get(&at).map_or(position, |range| range.closest(position));
            self.positions.insert(at.clone(), to);
            let skipped = (to > position).then_some((position, to));
            return Ok(Some(Batch { partition: at.partition, events: Vec::new(), skipped }));
        }
        check(data.error_code, None, || format!("cannot read {at}"))?;
        if self.isolation == Isolation::ReadCommitted {
            let (stable, end) = (data.last_stable_offset, data.high_watermark);
            // Most transactions end soon. Here the node has waited for a moment, and this one has not.
            if stable < end && position == stable {
                self.held.insert(at.clone(), stable);
            } else {
                self.held.retain(|held, offset| *held != at || *offset == stable);
            }
        }
        let aborted = data.aborted_transactions.unwrap_or_default().into_iter();
        let aborted = aborted.map(|each| (each.first_offset, each.producer_id.0)).collect();
        let records = data.records.unwrap_or_default();
        let has_some = !records.is_empty();
        let unreadable =
            |Fault { offset, next, why }| KafkaError::Unreadable { partition: at.clone(), offset, next, why };
        let Fetched { mut events, next } = records::decode(records, position, aborted).map_err(unreadable)?;
        match next {
            Some(next) => {
                self.positions.insert(at.clone(), next);
            }
            None if has_some => {
                let why = "the batch came cut".to_owned();
                return Err(unreadable(Fault { offset: position, next: position + 1, why }));
            }
            None => {}
        }
        if let Some(end) = self.ends.as_ref().and_then(|ends| ends.get(&at)) {
            events.retain(|event| event.offset < *end);
        }
        Ok((!events.is_empty()).then_some(Batch { partition: at.partition, events, skipped: None }))
    }
}

/// Where those partitions end for readers of committed events that do not end there.
fn held(
    ranges: &BTreeMap<TopicPartition, OffsetRange>,
    ends: &BTreeMap<TopicPartition, i64>,
) -> BTreeMap<TopicPartition, i64> {
    let is_held =
        |(at, end): &(&TopicPartition, &i64)| ranges.get(*at).is_some_and(|range| **end < range.end);
    ends.iter().filter(is_held).map(|(at, end)| (at.clone(), *end)).collect()
}

/// Where to begin in each partition, which is to be read up to its end of these. That is before the partition's own end
/// where a transaction is under way: what is behind it can be read once it is decided.
fn starts(
    ranges: &BTreeMap<TopicPartition, OffsetRange>,
    ends: &BTreeMap<TopicPartition, i64>,
    from: Position,
    at_time: &BTreeMap<TopicPartition, i64>,
) -> BTreeMap<TopicPartition, i64> {
    let start = |(at, range): (&TopicPartition, &OffsetRange)| {
        let start = match from {
            Position::Beginning => range.start,
            Position::End => ends.get(at).copied().unwrap_or(range.end),
            Position::Offset(offset) => range.closest(offset),
            Position::Time(_) | Position::Age(_) => at_time.get(at).copied().unwrap_or(range.end),
        };
        (at.clone(), start)
    };
    ranges.iter().map(start).collect()
}

fn request(wanted: Vec<(TopicPartition, i64)>, wait: Duration, isolation: Isolation) -> FetchRequest {
    let isolation = if isolation == Isolation::ReadCommitted { READ_COMMITTED } else { 0 };
    let mut topics = BTreeMap::<String, Vec<FetchPartition>>::new();
    for (TopicPartition { topic, partition }, offset) in wanted {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(MAX_PARTITION_BYTES);
        topics.entry(topic).or_default().push(wanted);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        FetchTopic::default().with_topic(topic_name(&name)).with_partitions(partitions)
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(millis(wait))
        .with_min_bytes(1)
        .with_max_bytes(MAX_BYTES)
        .with_isolation_level(isolation)
        .with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_one_in_each_partition() {
        let at = |partition| TopicPartition::new("orders", partition);
        let range = |start, end| OffsetRange { start, end };
        let ranges = BTreeMap::from([(at(0), range(10, 20)), (at(1), range(0, 5))]);
        let ends = BTreeMap::from([(at(0), 20), (at(1), 5)]);
        let at_time = BTreeMap::from([(at(0), 14)]);
        let starts = |from: &str| {
            starts(&ranges, &ends, from.parse().unwrap(), &at_time).into_values().collect::<Vec<_>>()
        };
        assert_eq!(starts("beginning"), [10, 0]);
        assert_eq!(starts("end"), [20, 5]);
        assert_eq!(starts("7"), [10, 5]);
        assert_eq!(starts("12"), [12, 5]);
        assert_eq!(starts("1h"), [14, 5], "a partition without an event since then begins at its end");
    }

    #[test]
    fn an_offset_behind_a_transaction_under_way_is_one_to_begin_at() {
        let at = |partition| TopicPartition::new("orders", partition);
        let ranges = BTreeMap::from([(at(0), OffsetRange { start: 10, end: 20 })]);
        let ends = BTreeMap::from([(at(0), 14)]);
        let starts = |from: &str| starts(&ranges, &ends, from.parse().unwrap(), &BTreeMap::new())[&at(0)];
        assert_eq!((starts("17"), starts("30"), starts("12")), (17, 20, 12));
        assert_eq!(starts("end"), 14, "what is not decided yet comes after what is");
        assert_eq!(starts("1h"), 20, "no event is that young");
    }

    #[test]
    fn whoever_has_read_up_to_a_transaction_under_way_is_held_back_there() {
        let at = |partition| TopicPartition::new("orders", partition);
        let ranges = [(at(0), OffsetRange { start: 0, end: 20 }), (at(1), OffsetRange { start: 0, end: 20 })];
        let ends = BTreeMap::from([(at(0), 20), (at(1), 14)]);
        let held = held(&ranges.into(), &ends);
        assert_eq!(held, [(at(1), 14)].into());
        let positions = BTreeMap::from([(at(0), 20), (at(1), 13)]);
        let isolation = Isolation::ReadCommitted;
        let mut consumer = Consumer { positions, ends: Some(ends), isolation, held };
        assert_eq!(consumer.held_back(), None, "there is an event yet");
        consumer.positions.insert(at(1), 14);
        assert_eq!(consumer.held_back(), Some((&at(1), 14)));
    }

    #[test]
    fn without_following_a_partition_ends_where_it_ended() {
        let at = |partition| TopicPartition::new("orders", partition);
        let positions = BTreeMap::from([(at(0), 20), (at(1), 4)]);
        let ends = BTreeMap::from([(at(0), 20), (at(1), 5)]);
        let (ends, isolation, held) = (Some(ends), Isolation::ReadUncommitted, BTreeMap::new());
        let mut consumer = Consumer { positions, ends, isolation, held };
        let unfinished =
            |consumer: &Consumer| consumer.unfinished().map(|(at, _)| at.partition).collect::<Vec<_>>();
        assert_eq!(unfinished(&consumer), [1]);
        consumer.positions.insert(at(1), 5);
        assert!(consumer.is_finished());
        consumer.ends = None;
        assert_eq!(unfinished(&consumer), [0, 1]);
    }
}
