//! A plain, blocking Kafka client: one connection, one request at a time, no retries.

mod requests;

pub use requests::{batch, fetch_request, numbered, produce_request};

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, FetchResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    ProduceResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{Compression, RecordBatchDecoder};
use requests::topic_name;

/// A Kafka error code; 0 is success.
pub type Code = i16;

/// One connection to one node.
pub struct Client {
    stream: TcpStream,
    correlation: i32,
    named_leader: Option<SocketAddr>,
}

/// One event read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Offset in the partition.
    pub offset: i64,
    /// The record's value.
    pub value: Bytes,
}

impl Client {
    /// Connects; the time limit applies to every later read and write as well.
    pub fn connect(address: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { stream, correlation: 0, named_leader: None })
    }

    /// Connects to the leader of partition 0 of `topic`, as `node` names it. Creates the topic if it is
    /// missing.
    pub fn to_leader(node: SocketAddr, topic: &str, limit: Duration) -> Result<Self> {
        let mut client = Self::connect(node, limit)?;
        let metadata = client.metadata(&[topic])?;
        let partition = metadata.topics.first().and_then(|topic| topic.partitions.first());
        let leader = partition.context("Metadata without the partition")?.leader_id;
        let broker = metadata.brokers.iter().find(|broker| broker.node_id == leader);
        let broker = broker.context("the partition has no leader")?;
        let address = SocketAddr::new(broker.host.parse()?, u16::try_from(broker.port)?);
        if address == node { Ok(client) } else { Self::connect(address, limit) }
    }

    /// Sends one request and waits for its response.
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

    /// Waits for the next response, which must be to a request of this type.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        ResponseHeader::decode(&mut frame, R::Response::header_version(version))?;
        R::Response::decode(&mut frame, version)
    }

    /// Appends one record. Returns its offset, or the error code.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> Result<Result<i64, Code>> {
        self.produce_batch(topic, partition, batch(&[value], Compression::None)?)
    }

    /// Appends a batch. Returns the offset of its first record, or the error code.
    pub fn produce_batch(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> Result<Result<i64, Code>> {
        let request = produce_request(topic, partition, records);
        let response: ProduceResponse = self.call(10, &request)?;
        let partition = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
            .context("an empty response to Produce")?;
        let named = partition.current_leader.leader_id;
        let endpoint = response.node_endpoints.iter().find(|endpoint| endpoint.node_id == named);
        self.named_leader = endpoint.and_then(|endpoint| {
            Some(SocketAddr::new(endpoint.host.parse().ok()?, u16::try_from(endpoint.port).ok()?))
        });
        Ok(if partition.error_code == 0 { Ok(partition.base_offset) } else { Err(partition.error_code) })
    }

    /// Returns the leader that the last refusal of a batch named, if it named one (KIP-951).
    pub fn named_leader(&self) -> Option<SocketAddr> {
        self.named_leader
    }

    /// Returns a producer id for an idempotent producer, or the error code.
    pub fn producer_id(&mut self) -> Result<Result<i64, Code>> {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(5000);
        let response: InitProducerIdResponse = self.call(4, &request)?;
        Ok(if response.error_code == 0 { Ok(response.producer_id.0) } else { Err(response.error_code) })
    }

    /// Returns brokers, controller and topics as the node sees them.
    pub fn metadata(&mut self, topics: &[&str]) -> Result<MetadataResponse> {
        let named =
            topics.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(named.collect()))
            .with_allow_auto_topic_creation(true);
        self.call(9, &request)
    }

    /// Creates a topic. Returns the error code.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<Code> {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        let response: CreateTopicsResponse = self.call(5, &request)?;
        Ok(response.topics.first().context("an empty response to CreateTopics")?.error_code)
    }

    /// Fetches once from `offset` on. Returns events and the high watermark, or the error code.
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
            .context("an empty response to Fetch")?;
        if data.error_code != 0 {
            return Ok(Err(data.error_code));
        }
        Ok(Ok((events(data.records.clone(), offset)?, data.high_watermark)))
    }

    /// Reads a partition from offset 0 to its high watermark.
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

    /// Asks ListOffsets for a time in ms, -1 (latest) or -2 (earliest). Returns the offset, or the error
    /// code.
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
            .context("an empty response to ListOffsets")?;
        Ok(if data.error_code == 0 { Ok(data.offset) } else { Err(data.error_code) })
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
