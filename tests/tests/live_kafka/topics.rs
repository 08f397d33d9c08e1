//! Requests about topics and offsets, to any node of a cluster.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    FindCoordinatorRequest, JoinGroupRequest, ListOffsetsRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::proxy::{NetworkFault, Proxies};

const LIMIT: Duration = Duration::from_secs(5);
/// Layout of a record batch (Kafka's format 2): length of the header, offsets of the CRC and of the
/// attributes' low byte.
const HEADER: usize = 61;
const CRC: usize = 17;
const ATTRIBUTES: usize = 22;
const OUT_OF_RANGE: i16 = 1;
const NOT_LEADER: i16 = 6;

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

fn client(cluster: &Cluster, id: NodeId) -> Result<Client> {
    Client::connect(cluster.kafka(id), LIMIT)
}

/// Returns the topics that a node lists: names and numbers of partitions.
fn listed(client: &mut Client) -> Result<Vec<(String, usize)>> {
    let all = client.call(9, &MetadataRequest::default().with_topics(None))?;
    let name = |name: &Option<TopicName>| name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
    Ok(all.topics.iter().map(|topic| (name(&topic.name), topic.partitions.len())).collect())
}

#[test]
fn topics_are_extended_trimmed_and_deleted_by_id_through_any_node() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_ready()?;
    let mut others = cluster.ids().into_iter().filter(|id| *id != leader);
    let (mut one, mut other) = (
        client(&cluster, others.next().context("a follower")?)?,
        client(&cluster, others.next().context("another")?)?,
    );

    let topic =
        CreatableTopic::default().with_name(name("t")).with_num_partitions(1).with_replication_factor(-1);
    let create = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    let created = one.call(7, &create)?.topics.remove(0);
    ensure!(created.error_code == 0 && !created.topic_id.is_nil(), "{created:?}");
    told(&mut other, &[("t".to_owned(), 1)])?;

    let grow = CreatePartitionsTopic::default().with_name(name("t")).with_count(3).with_assignments(None);
    let grow = CreatePartitionsRequest::default().with_topics(vec![grow]).with_timeout_ms(5000);
    ensure!(one.call(3, &grow)?.results[0].error_code == 0);
    told(&mut other, &[("t".to_owned(), 3)])?;
    let again = one.call(3, &grow)?.results.remove(0);
    ensure!(again.error_code == 37 && again.error_message.is_some(), "{again:?}");

    let mut first = client(&cluster, leader)?;
    for number in 0..10i64 {
        ensure!(first.produce("t", 2, b"event")? == Ok(number));
    }
    let forget = |partition, offset| {
        let part = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![part]);
        DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000)
    };
    let deleted = |client: &mut Client, offset| -> Result<(i16, i64)> {
        let answer = client.call(2, &forget(2, offset))?;
        let part = &answer.topics[0].partitions[0];
        Ok((part.error_code, part.low_watermark))
    };
    ensure!(deleted(&mut one, 4)? == (0, 4) && first.list_offsets("t", 2, -2)? == Ok(4));
    ensure!(first.fetch("t", 2, 3)?.err() == Some(OUT_OF_RANGE) && first.fetch("t", 2, 4)?.is_ok());
    ensure!(deleted(&mut one, 11)? == (OUT_OF_RANGE, -1) && deleted(&mut one, -1)? == (0, 10));

    let state = DeleteTopicState::default().with_name(None).with_topic_id(created.topic_id);
    let delete = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(5000);
    let gone = one.call(6, &delete)?.responses.remove(0);
    ensure!(gone.error_code == 0 && gone.name == Some(name("t")), "{gone:?}");
    told(&mut other, &[])?;
    ensure!(one.call(6, &delete)?.responses[0].error_code == 100, "UNKNOWN_TOPIC_ID");
    Ok(())
}

/// Checks that a node lists these topics before the next heartbeat could have told it of them.
fn told(client: &mut Client, topics: &[(String, usize)]) -> Result<()> {
    let began = Instant::now();
    loop {
        let seen = listed(client)?;
        if seen == topics {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(1), "{seen:?} instead of {topics:?}");
    }
}

/// Returns a hundred events, ten milliseconds apart, compressed with the codec of this number.
fn spread(codec: u8) -> Result<Bytes> {
    let record = |offset: i64| Record {
        transactional: false,
        control: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        // The encoder begins a new batch where sequence numbers are not consecutive, even when they mean
        // none.
        sequence: i32::try_from(offset).expect("few") - 1,
        timestamp: 1_700_000_000_000 + 10 * offset,
        key: None,
        value: Some(Bytes::from_static(b"event")),
        headers: Default::default(),
        delete_horizon: false,
    };
    let records: Vec<_> = (0..100).map(record).collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options)?;
    compressed(&encoded, codec)
}

/// Compresses the records of a batch, since the encoder of the harness has no codecs.
fn compressed(batch: &[u8], codec: u8) -> Result<Bytes> {
    let (header, records) = batch.split_at(HEADER);
    let packed = match codec {
        0 => records.to_vec(),
        1 => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(records)?;
            packer.finish()?
        }
        2 => snap::raw::Encoder::new().compress_vec(records)?,
        3 => {
            let mut packer = lz4_flex::frame::FrameEncoder::new(Vec::new());
            packer.write_all(records)?;
            packer.finish()?
        }
        _ => ruzstd::encoding::compress_to_vec(records, ruzstd::encoding::CompressionLevel::Fastest),
    };
    let mut batch = [header, &packed].concat();
    batch[ATTRIBUTES] |= codec;
    let length = u32::try_from(batch.len() - 12)?;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC + 4..]);
    batch[CRC..][..4].copy_from_slice(&crc.to_be_bytes());
    Ok(batch.into())
}

#[test]
fn the_offset_for_a_time_is_exact_inside_a_compressed_batch() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    let mut client = client(&cluster, 1)?;
    for (codec, topic) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        ensure!(client.create_topic(topic, 1)? == 0);
        let sent = client.produce_batch(topic, 0, spread(codec)?)?;
        ensure!(sent == Ok(0), "{topic}: {sent:?}");
        let mut find = |version, timestamp| -> Result<(i16, i64, i64)> {
            let part = ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![part]);
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let answer = client.call(version, &request)?;
            let part = &answer.topics[0].partitions[0];
            Ok((part.error_code, part.offset, part.timestamp))
        };
        let time = |offset: i64| 1_700_000_000_000 + 10 * offset;
        ensure!(find(6, time(50))? == (0, 50, time(50)), "{topic}: {:?}", find(6, time(50))?);
        ensure!(find(6, time(50) - 1)? == (0, 50, time(50)) && find(6, time(99) + 1)? == (0, -1, -1));
        ensure!(find(7, -3)? == (0, 99, time(99)), "the newest: {:?}", find(7, -3)?);
        ensure!(find(8, -4)? == (0, 0, -1) && find(6, -3)?.0 == 35, "UNSUPPORTED_VERSION");
    }
    Ok(())
}

/// A deposed leader that does not know it must not send a consumer back to the start.
#[test]
fn a_leader_that_is_cut_off_reports_no_offset_out_of_range() -> Result<()> {
    let mut cluster = Cluster::prepare_behind_proxies(3)?;
    let proxies = Proxies::start(&cluster)?;
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let mut old = client(&cluster, leader)?;
    ensure!(old.create_topic("t", 1)? == 0 && old.produce("t", 0, b"event")? == Ok(0));
    ensure!(old.fetch("t", 0, 7)?.err() == Some(OUT_OF_RANGE), "behind a proof it says so");
    for other in cluster.ids().into_iter().filter(|id| *id != leader) {
        proxies.set(leader, other, NetworkFault::Block);
        proxies.set(other, leader, NetworkFault::Block);
    }
    let (began, mut sent_away) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        match old.fetch("t", 0, 7) {
            Ok(answer) => ensure!(answer.as_ref().err() == Some(&NOT_LEADER), "{answer:?}"),
            // A client that comes back is served.
            Err(_) => {
                sent_away += 1;
                old = client(&cluster, leader)?;
            }
        }
        ensure!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    ensure!(sent_away == 1, "sent away {sent_away} times");
    Ok(())
}

#[test]
fn every_node_names_the_leader_as_coordinator_and_only_the_leader_is() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_ready()?;
    for id in cluster.ids() {
        let mut client = client(&cluster, id)?;
        let find = FindCoordinatorRequest::default().with_key("g".into());
        let found = client.call(2, &find)?;
        ensure!(found.error_code == 0 && u64::try_from(found.node_id.0)? == leader, "{found:?}");
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into(), "h".into()]);
        ensure!(client.call(4, &find)?.coordinators.len() == 2);
        let join = JoinGroupRequest::default()
            .with_group_id(StrBytes::from_static_str("g").into())
            .with_session_timeout_ms(10_000);
        // MEMBER_ID_REQUIRED, or NOT_COORDINATOR.
        let expected = if id == leader { 79 } else { 16 };
        let code = client.call(5, &join)?.error_code;
        ensure!(code == expected, "node {id} answers {code}");
    }
    Ok(())
}
