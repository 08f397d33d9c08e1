//! A plain, blocking Kafka client that hides nothing: one connection, one request, one answer, no retries.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, BrokerId, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// A Kafka error code; 0 is success.
pub type Code = i16;

/// One connection to one node.
pub struct Client {
    stream: TcpStream,
    correlation: i32,
}

/// One event read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its value.
    pub value: Bytes,
}

impl Client {
    /// Connects; every later read and write has the same time limit.
    pub fn connect(address: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { stream, correlation: 0 })
    }

    /// Sends one request and waits for its answer.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Sends one request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("tests")));
        let mut frame = BytesMut::from(&[0u8; 4][..]);
        header.encode(&mut frame, R::header_version(version))?;
        request.encode(&mut frame, version)?;
        let length = u32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(self.stream.write_all(&frame)?)
    }

    /// Waits for the next answer, which must be to a request of this type.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        ResponseHeader::decode(&mut frame, R::Response::header_version(version))?;
        R::Response::decode(&mut frame, version)
    }

    /// Appends one record; the offset, or the error code.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> Result<Result<i64, Code>> {
        self.produce_batch(topic, partition, batch(&[value], Compression::None)?)
    }

    /// Appends a batch; the offset of its first record, or the error code.
    pub fn produce_batch(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> Result<Result<i64, Code>> {
        let request = produce_request(topic, partition, records);
        let response: ProduceResponse = self.call(9, &request)?;
        let partition = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
            .context("an empty answer to Produce")?;
        Ok(if partition.error_code == 0 { Ok(partition.base_offset) } else { Err(partition.error_code) })
    }

    /// An identity for an idempotent producer, or the error code.
    pub fn producer_id(&mut self) -> Result<Result<i64, Code>> {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(5000);
        let response: InitProducerIdResponse = self.call(4, &request)?;
        Ok(if response.error_code == 0 { Ok(response.producer_id.0) } else { Err(response.error_code) })
    }

    /// Brokers, controller and topics as the node sees them.
    pub fn metadata(&mut self, topics: &[&str]) -> Result<MetadataResponse> {
        let named =
            topics.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(named.collect()))
            .with_allow_auto_topic_creation(true);
        self.call(9, &request)
    }

    /// Creates a topic; its error code.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<Code> {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        let response: CreateTopicsResponse = self.call(5, &request)?;
        Ok(response.topics.first().context("an empty answer to CreateTopics")?.error_code)
    }

    /// One fetch from `offset` on: events and the high watermark, or the error code.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Result<(Vec<Event>, i64), Code>> {
        let response: FetchResponse = self.call(11, &fetch_request(topic, partition, offset))?;
        let data = response
            .responses
            .first()
            .and_then(|topic| topic.partitions.first())
            .context("an empty answer to Fetch")?;
        if data.error_code != 0 {
            return Ok(Err(data.error_code));
        }
        Ok(Ok((events(data.records.clone(), offset)?, data.high_watermark)))
    }

    /// Everything in a partition, from the start.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Result<Vec<Event>> {
        let mut all: Vec<Event> = Vec::new();
        loop {
            let next = all.last().map_or(0, |event| event.offset + 1);
            match self.fetch(topic, partition, next)? {
                Err(code) => bail!("fetch of {topic}/{partition} at {next}: error code {code}"),
                Ok((events, high_watermark)) => {
                    all.extend(events);
                    if all.last().map_or(0, |event| event.offset + 1) >= high_watermark {
                        return Ok(all);
                    }
                }
            }
        }
    }

    /// ListOffsets for a time in ms, or -1 for latest and -2 for earliest; the offset, or the error code.
    pub fn list_offsets(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<Result<i64, Code>> {
        let wanted =
            ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let response: ListOffsetsResponse = self.call(5, &request)?;
        let data = response
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .context("an empty answer to ListOffsets")?;
        Ok(if data.error_code == 0 { Ok(data.offset) } else { Err(data.error_code) })
    }
}

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

fn events(records: Option<Bytes>, from: i64) -> Result<Vec<Event>> {
    let Some(mut records) = records.filter(|records| !records.is_empty()) else { return Ok(Vec::new()) };
    let sets = RecordBatchDecoder::decode_all(&mut records)?;
    let records = sets.into_iter().flat_map(|set| set.records);
    let events =
        records.map(|record| Event { offset: record.offset, value: record.value.unwrap_or_default() });
    // A fetch in the middle of a batch brings the whole batch.
    Ok(events.filter(|event| event.offset >= from).collect())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// The api keys that the client uses, so that a test can tell which ones a node must advertise.
pub const USED: [ApiKey; 5] =
    [ApiKey::Produce, ApiKey::Fetch, ApiKey::ListOffsets, ApiKey::Metadata, ApiKey::CreateTopics];

/// One plain HTTP request: the status code and the body.
pub fn http(address: &str, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("not an HTTP answer")?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((code, body))
}
