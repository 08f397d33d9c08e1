//! Where partitions begin and end, and which offset belongs to a time.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsResponse;
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use super::client::topic_name;
use super::error::check;
use super::{KafkaClient, KafkaError, TopicPartition};

/// The isolation level of whoever reads committed events only.
pub const READ_COMMITTED: i8 = 1;

/// An offset that is asked for by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// That of the first event that can be read.
    Earliest,
    /// That of the next event.
    Latest,
    /// That of the first event that is not decided yet: its transaction is under way. The next event if all are decided.
    LastStable,
    /// That of the first event at or after this time, in ms since 1970.
    At(i64),
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// Log start offset.
    pub start: i64,
    /// High watermark.
    pub end: i64,
}

impl OffsetRange {
    /// Number of offsets in it: that of the events, unless some are not there any more or are no events.
    pub fn len(self) -> i64 {
        self.end.saturating_sub(self.start).max(0)
    }

    /// Returns whether nothing can be read.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The offset in the range, its end included, that comes closest.
    pub fn closest(self, offset: i64) -> i64 {
        offset.min(self.end).max(self.start)
    }
}

impl KafkaClient {
    /// Returns the offset of each partition; a partition that has no event of that time or later is left out.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `NoLeader`, `Refused`; those of [`Self::ask`].
    pub async fn offsets(
        &mut self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.retried(async |client| {
            let wanted = partitions.iter().map(|partition| (partition.clone(), ()));
            let mut found = BTreeMap::new();
            for (leader, wanted) in client.by_leader(wanted).await? {
                let wanted = wanted.into_iter().map(|(partition, ())| partition);
                let response = client.ask(leader, 4..=8, &request(wanted, spec)).await?;
                read(&response, &mut found)?;
            }
            Ok(found)
        })
        .await
    }

    /// Returns where each partition begins and ends.
    ///
    /// # Errors
    /// Those of [`Self::offsets`].
    pub async fn ranges(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetRange>, KafkaError> {
        let starts = self.offsets(partitions, OffsetSpec::Earliest).await?;
        // Afterwards: an end that is older than the start would be before it.
        let ends = self.offsets(partitions, OffsetSpec::Latest).await?;
        let range =
            |(partition, start)| Some((OffsetRange { start, end: *ends.get(&partition)? }, partition));
        Ok(starts.into_iter().filter_map(range).map(|(range, partition)| (partition, range)).collect())
    }
}

fn request(partitions: impl Iterator<Item = TopicPartition>, spec: OffsetSpec) -> ListOffsetsRequest {
    let timestamp = match spec {
        OffsetSpec::Earliest => -2,
        OffsetSpec::Latest | OffsetSpec::LastStable => -1,
        OffsetSpec::At(time) => time.max(0),
    };
    let mut topics = BTreeMap::<String, Vec<ListOffsetsPartition>>::new();
    for TopicPartition { topic, partition } in partitions {
        let wanted =
            ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        topics.entry(topic).or_default().push(wanted);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        ListOffsetsTopic::default().with_name(topic_name(&name)).with_partitions(partitions)
    });
    let isolation = if spec == OffsetSpec::LastStable { READ_COMMITTED } else { 0 };
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation)
        .with_topics(topics.collect())
}

fn read(response: &ListOffsetsResponse, found: &mut BTreeMap<TopicPartition, i64>) -> Result<(), KafkaError> {
    for topic in &response.topics {
        for answer in &topic.partitions {
            let partition = TopicPartition::new(&topic.name, answer.partition_index);
            check(answer.error_code, None, || format!("the offsets of {partition}"))?;
            if answer.offset >= 0 {
                found.insert(partition, answer.offset);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };

    use super::*;

    fn answer(partition: i32, offset: i64, code: i16) -> ListOffsetsResponse {
        let partition = ListOffsetsPartitionResponse::default()
            .with_partition_index(partition)
            .with_offset(offset)
            .with_error_code(code);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    #[test]
    fn a_partition_without_an_event_of_that_time_is_left_out_and_an_error_is_one() {
        let mut found = BTreeMap::new();
        read(&answer(0, 12, 0), &mut found).unwrap();
        read(&answer(1, -1, 0), &mut found).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(TopicPartition::new("orders", 0), 12)]);
        let error = read(&answer(2, -1, 6), &mut BTreeMap::new()).unwrap_err();
        assert!(
            error.is_retriable() && error.to_string().starts_with("the offsets of partition 2 of orders")
        );
    }

    #[test]
    fn an_offset_outside_a_partition_becomes_the_closest_one_inside() {
        let range = OffsetRange { start: 10, end: 20 };
        assert_eq!([5, 10, 15, 20, 25].map(|offset| range.closest(offset)), [10, 10, 15, 20, 20]);
        assert_eq!((range.len(), OffsetRange { start: 20, end: 10 }.len()), (10, 0));
    }
}
