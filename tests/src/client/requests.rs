//! Requests and record batches, encoded.

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// A Produce request for one batch, acknowledged by all.
pub fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![topic])
}

/// A Fetch request for what is there from `offset` on.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(4 << 20);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(16 << 20)
        .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted])])
}

/// A record batch of these values, without a producer id.
pub fn batch(values: &[&[u8]], compression: Compression) -> Result<Bytes> {
    let records: Vec<_> = values.iter().zip(0..).map(|(value, offset)| record(value, offset)).collect();
    encode(&records, compression)
}

/// A batch of one record of the idempotent producer `id`, in its epoch 0.
pub fn numbered(value: &[u8], id: i64, sequence: i32) -> Result<Bytes> {
    let record = Record { producer_id: id, producer_epoch: 0, sequence, ..record(value, 0) };
    encode(&[record], Compression::None)
}

fn encode(records: &[Record], compression: Compression) -> Result<Bytes> {
    let mut encoded = BytesMut::new();
    RecordBatchEncoder::encode(&mut encoded, records, &RecordEncodeOptions { version: 2, compression })?;
    Ok(encoded.freeze())
}

fn record(value: &[u8], offset: i64) -> Record {
    Record {
        transactional: false,
        control: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset,
        // The encoder begins a new batch where sequence numbers do not go on, even those that stand for none.
        sequence: NO_SEQUENCE + i32::try_from(offset).expect("a batch is small"),
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
        delete_horizon: false,
    }
}

/// A topic by its name.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
