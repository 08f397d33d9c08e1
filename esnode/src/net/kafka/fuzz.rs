//! The Kafka port for fuzzers: frames, headers, layouts, the codec, and record batches all the way to a consumer.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiKey, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    DescribeTransactionsRequest, ElectLeadersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListConfigResourcesRequest, ListGroupsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, ListTransactionsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    TxnOffsetCommitRequest,
};

use super::apis;
use super::frame::{self, BadRequest, Request};
use super::records;
use crate::state_machine::batch::{self, BatchHeader};
use crate::state_machine::command::{Command, Reply};
use crate::state_machine::{StateMachine, TopicId};

/// What one connection may bring: frames, one after the other.
pub fn fuzz(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    while let Ok(Some(length)) = frame::next_length(&rest) {
        rest.advance(4);
        // The last frame need not be whole; a connection would wait for the rest of it.
        let frame = rest.split_to(length.min(rest.len()));
        let Ok(request) = admit(frame) else { continue };
        if request.to.key == ApiKey::Produce
            && let Ok(produce) = request.decode::<ProduceRequest>()
        {
            let data = produce.topic_data.into_iter().flat_map(|topic| topic.partition_data);
            data.filter_map(|data| data.records).for_each(|sent| follow(&sent));
        }
    }
}

/// What the front end does with a frame before any handler sees it, and the decoding that each handler begins with.
pub fn admit(frame: Bytes) -> Result<Request, BadRequest> {
    let (key, version, _) = frame::peek(&frame)?;
    let api = apis::find(key).filter(|api| api.serves(version));
    let request = Request::parse(api.ok_or(BadRequest::Unsupported { key, version })?.key, frame)?;
    apis::find(key).map_or(Ok(0), |api| api.check(&request))?;
    decode(&request)?;
    Ok(request)
}

fn decode(request: &Request) -> Result<(), BadRequest> {
    match request.to.key {
        ApiKey::Produce => request.decode::<ProduceRequest>().map(drop),
        ApiKey::Fetch => request.decode::<FetchRequest>().map(drop),
        ApiKey::ListOffsets => request.decode::<ListOffsetsRequest>().map(drop),
        ApiKey::Metadata => request.decode::<MetadataRequest>().map(drop),
        ApiKey::ApiVersions => request.decode::<ApiVersionsRequest>().map(drop),
        ApiKey::FindCoordinator => request.decode::<FindCoordinatorRequest>().map(drop),
        ApiKey::JoinGroup => request.decode::<JoinGroupRequest>().map(drop),
        ApiKey::SyncGroup => request.decode::<SyncGroupRequest>().map(drop),
        ApiKey::Heartbeat => request.decode::<HeartbeatRequest>().map(drop),
        ApiKey::LeaveGroup => request.decode::<LeaveGroupRequest>().map(drop),
        ApiKey::ListGroups => request.decode::<ListGroupsRequest>().map(drop),
        ApiKey::DescribeGroups => request.decode::<DescribeGroupsRequest>().map(drop),
        ApiKey::DeleteGroups => request.decode::<DeleteGroupsRequest>().map(drop),
        ApiKey::OffsetCommit => request.decode::<OffsetCommitRequest>().map(drop),
        ApiKey::OffsetFetch => request.decode::<OffsetFetchRequest>().map(drop),
        ApiKey::OffsetDelete => request.decode::<OffsetDeleteRequest>().map(drop),
        ApiKey::ConsumerGroupHeartbeat => request.decode::<ConsumerGroupHeartbeatRequest>().map(drop),
        ApiKey::ConsumerGroupDescribe => request.decode::<ConsumerGroupDescribeRequest>().map(drop),
        ApiKey::OffsetForLeaderEpoch => request.decode::<OffsetForLeaderEpochRequest>().map(drop),
        ApiKey::CreatePartitions => request.decode::<CreatePartitionsRequest>().map(drop),
        ApiKey::DeleteRecords => request.decode::<DeleteRecordsRequest>().map(drop),
        ApiKey::CreateTopics => request.decode::<CreateTopicsRequest>().map(drop),
        ApiKey::DeleteTopics => request.decode::<DeleteTopicsRequest>().map(drop),
        ApiKey::DescribeConfigs => request.decode::<DescribeConfigsRequest>().map(drop),
        ApiKey::IncrementalAlterConfigs => request.decode::<IncrementalAlterConfigsRequest>().map(drop),
        ApiKey::InitProducerId => request.decode::<InitProducerIdRequest>().map(drop),
        ApiKey::AlterConfigs => request.decode::<AlterConfigsRequest>().map(drop),
        ApiKey::DescribeLogDirs => request.decode::<DescribeLogDirsRequest>().map(drop),
        ApiKey::ElectLeaders => request.decode::<ElectLeadersRequest>().map(drop),
        ApiKey::ListPartitionReassignments => request.decode::<ListPartitionReassignmentsRequest>().map(drop),
        ApiKey::DescribeQuorum => request.decode::<DescribeQuorumRequest>().map(drop),
        ApiKey::DescribeCluster => request.decode::<DescribeClusterRequest>().map(drop),
        ApiKey::DescribeProducers => request.decode::<DescribeProducersRequest>().map(drop),
        ApiKey::ListConfigResources => request.decode::<ListConfigResourcesRequest>().map(drop),
        ApiKey::DescribeTopicPartitions => request.decode::<DescribeTopicPartitionsRequest>().map(drop),
        ApiKey::AddPartitionsToTxn => request.decode::<AddPartitionsToTxnRequest>().map(drop),
        ApiKey::AddOffsetsToTxn => request.decode::<AddOffsetsToTxnRequest>().map(drop),
        ApiKey::EndTxn => request.decode::<EndTxnRequest>().map(drop),
        ApiKey::TxnOffsetCommit => request.decode::<TxnOffsetCommitRequest>().map(drop),
        ApiKey::DescribeTransactions => request.decode::<DescribeTransactionsRequest>().map(drop),
        ApiKey::ListTransactions => request.decode::<ListTransactionsRequest>().map(drop),
        other => panic!("no decoder of {other:?}: add one"),
    }
}

const RULES: records::Rules =
    records::Rules { version: 9, largest: 16 << 20, timestamps: i64::MIN..=i64::MAX, transactional: false };

/// Batches from a producer into the state, and to a consumer.
fn follow(sent: &Bytes) {
    let _ = records::check(sent, &RULES);
    let mut stream = StateMachine::default();
    let create = Command::CreateTopic { name: "a".to_owned(), partitions: 1, configs: Default::default() };
    let [Reply::TopicCreated(topic)] = apply(&mut stream, 1, &create)[..] else { panic!("no topic") };
    let sent = batches(mended(sent));
    for (index, batch) in (2..).zip(sent.into_iter().filter(|batch| records::check(batch, &RULES).is_ok())) {
        let header = BatchHeader::parse(&batch).expect("what the front end accepts is a batch");
        for time in [i64::MIN, -1, 0, header.base_timestamp, header.max_timestamp, i64::MAX] {
            if let Some((offset, at)) = records::first_since(&batch, 0, time) {
                assert!((0..header.records()).contains(&offset) && at >= time, "{offset} {at}");
            }
        }
        append(&mut stream, topic, index, &header, &batch);
    }
}

/// Only idempotent producers' batches are refused, for their sequence.
fn append(stream: &mut StateMachine, topic: TopicId, index: u64, header: &BatchHeader, batch: &Bytes) {
    let next = |stream: &StateMachine| stream.topic("a").map(|topic| topic.partitions[0].high_watermark());
    let before = next(stream);
    let replies = apply(stream, index, &Command::Append { topic, partition: 0, batch: batch.clone() });
    let grown = next(stream).zip(before).map(|(after, before)| after - before);
    assert!(grown == Some(header.records()) || (grown == Some(0) && header.producer_id >= 0), "{replies:?}");
    let mut out = Vec::new();
    records::deliver(batch, i64::MAX, 7, &mut out);
    assert!(records::check(&out, &RULES).is_ok(), "a consumer could not read it");
}

fn apply(stream: &mut StateMachine, index: u64, command: &Command) -> Vec<Reply> {
    let mut payload = BytesMut::new();
    command.encode(&mut payload);
    stream.apply(index, 1, &payload.freeze()).replies
}

/// What takes its own length of `sent`, one after the other.
fn batches(mut sent: Bytes) -> Vec<Bytes> {
    let mut batches = Vec::new();
    while let Some((length, _)) = batch::extent(&sent).filter(|(length, _)| *length <= sent.len()) {
        batches.push(sent.split_to(length));
    }
    batches
}

/// The batches with the checksums that fit them.
fn mended(sent: &Bytes) -> Bytes {
    let mut sent = sent.to_vec();
    let mut at = 0;
    while let Some((length, _)) = batch::extent(&sent[at..]) {
        let end = at.saturating_add(length).min(sent.len());
        if let Some(covered) = sent.get(at + 21..end) {
            let crc = crc32c::crc32c(covered);
            sent[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
        }
        at = end;
    }
    sent.into()
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    use super::super::tests::{batch_of, encoded, framed, idempotent, produce, sample, served};
    use super::*;
    use crate::fuzz::seeds::{self, Seeds};

    fn wire(frames: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            out.put_u32(u32::try_from(frame.len()).unwrap());
            out.put_slice(frame);
        }
        out
    }

    fn producing(version: i16, sent: Vec<u8>) -> Bytes {
        let data = PartitionProduceData::default().with_records(Some(sent.into()));
        let topic = TopicProduceData::default().with_partition_data(vec![data]);
        let request = produce().with_topic_data(vec![topic]);
        framed(ApiKey::Produce, version, &encoded(&request, version))
    }

    /// A batch of an idempotent producer, from this sequence number on.
    fn sequenced(records: usize, sequence: i32) -> Vec<u8> {
        mended(&idempotent(records, 5, sequence)).to_vec()
    }

    #[test]
    fn the_committed_seeds_of_kafka_requests() {
        let mut seeds = Seeds::new();
        for (api, version) in served() {
            let frame = framed(api.key, version, &sample(api.key, version));
            seeds.insert(format!("{:?}-{version}", api.key), wire(&[frame]));
        }
        let two = [&batch_of(3)[..], &batch_of(1)].concat();
        let idempotent = [sequenced(2, 0), sequenced(1, 2), sequenced(1, 2)].concat();
        for version in [3, 9] {
            seeds.insert(format!("batches-{version}"), wire(&[producing(version, two.clone())]));
            seeds.insert(format!("idempotent-{version}"), wire(&[producing(version, idempotent.clone())]));
        }
        let metadata = framed(ApiKey::Metadata, 9, &sample(ApiKey::Metadata, 9));
        let versions = framed(ApiKey::ApiVersions, 3, &sample(ApiKey::ApiVersions, 3));
        seeds.insert("pipelined".to_owned(), wire(&[versions, metadata, producing(9, two)]));
        seeds::check("kafka", &seeds);
    }

    #[test]
    fn what_is_followed_reaches_the_state() {
        let sent = Bytes::from([sequenced(2, 0), sequenced(1, 2), sequenced(1, 2)].concat());
        assert_eq!(
            batches(sent.clone()).iter().filter(|batch| records::check(batch, &RULES).is_ok()).count(),
            3
        );
        follow(&sent);
    }
}
