//! Frames of every served version, honest and hostile, through parsing, checking and decoding.

mod admin;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};

use uuid::Uuid;

use super::apis::{self, APIS, Api};
use super::frame::{self, BadRequest, Outcome, ReplyTo, Request};
use super::fuzz::admit;
use super::request_schema::MalformedRequest;
use super::versions;

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

/// A batch of so many records.
pub fn batch_of(records: usize) -> Bytes {
    super::records::tests::batch(&vec![1_700_000_000_000; records])
}

/// The same of an idempotent producer, from this sequence number on. Its CRC is not right.
pub fn idempotent(records: usize, producer: i64, sequence: i32) -> Bytes {
    let mut batch = batch_of(records).to_vec();
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[51..53].fill(0);
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    batch.into()
}

/// A request with something in every field that the version has.
pub(super) fn sample(key: ApiKey, version: i16) -> Bytes {
    match key {
        ApiKey::Produce => encoded(&produce(), version),
        ApiKey::Fetch => encoded(&fetch(version), version),
        ApiKey::ListOffsets => {
            let part = ListOffsetsPartition::default().with_partition_index(3).with_timestamp(-1);
            let topic =
                ListOffsetsTopic::default().with_name(name("a")).with_partitions(vec![part.clone(), part]);
            encoded(&ListOffsetsRequest::default().with_topics(vec![topic]), version)
        }
        ApiKey::Metadata => {
            let topic = |text| MetadataRequestTopic::default().with_name(Some(name(text)));
            let mut topics = vec![topic("a"), topic("bcd")];
            if version >= 12 {
                topics
                    .push(MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(7)));
            }
            encoded(&MetadataRequest::default().with_topics(Some(topics)), version)
        }
        ApiKey::ApiVersions if version < 3 => encoded(&ApiVersionsRequest::default(), version),
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("librdkafka"))
                .with_client_software_version(StrBytes::from_static_str("2.0.2"));
            encoded(&request, version)
        }
        ApiKey::CreateTopics => encoded(&create_topics(), version),
        ApiKey::DeleteTopics if version >= 6 => {
            let named = DeleteTopicState::default().with_name(Some(name("a")));
            let numbered = DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(7));
            encoded(&DeleteTopicsRequest::default().with_topics(vec![named, numbered]), version)
        }
        ApiKey::DeleteTopics => {
            encoded(&DeleteTopicsRequest::default().with_topic_names(vec![name("a"), name("bc")]), version)
        }
        key if super::groups::tests::is_about_groups(key) => super::groups::tests::sample(key, version),
        key if super::transactions::tests::is_about_transactions(key) => {
            super::transactions::tests::sample(key, version)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let part = OffsetForLeaderPartition::default().with_current_leader_epoch(3).with_leader_epoch(2);
            let topic = OffsetForLeaderTopic::default().with_topic(name("a")).with_partitions(vec![part]);
            encoded(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), version)
        }
        ApiKey::CreatePartitions => {
            let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![1.into(), 2.into()]);
            let topic = CreatePartitionsTopic::default().with_name(name("a")).with_count(4);
            let topic = topic.with_assignments(Some(vec![assignment]));
            encoded(&CreatePartitionsRequest::default().with_topics(vec![topic]), version)
        }
        ApiKey::DeleteRecords => {
            let part = DeleteRecordsPartition::default().with_offset(-1);
            let topic = DeleteRecordsTopic::default().with_name(name("a")).with_partitions(vec![part]);
            encoded(&DeleteRecordsRequest::default().with_topics(vec![topic]), version)
        }
        ApiKey::InitProducerId => {
            let id = Some(StrBytes::from_static_str("tx").into());
            encoded(&InitProducerIdRequest::default().with_transactional_id(id), version)
        }
        ApiKey::DescribeConfigs
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::ListConfigResources => admin::of_configs(key, version),
        other => admin::sample(other, version),
    }
}

/// The body of a request.
pub(super) fn encoded(request: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    request.encode(&mut out, version).unwrap();
    out.freeze()
}

/// One with garbage for records.
pub(super) fn produce() -> ProduceRequest {
    let data = |index| {
        PartitionProduceData::default().with_index(index).with_records(Some(Bytes::from(vec![7; 99])))
    };
    ProduceRequest::default()
        .with_transactional_id(Some(StrBytes::from_static_str("tx").into()))
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![
            TopicProduceData::default().with_name(name("a")).with_partition_data(vec![data(0), data(1)]),
            TopicProduceData::default().with_name(name("b")).with_partition_data(vec![data(2)]),
        ])
}

fn fetch(version: i16) -> FetchRequest {
    let part = |index| FetchPartition::default().with_partition(index).with_fetch_offset(5);
    let topic = FetchTopic::default().with_topic(name("a")).with_partitions(vec![part(0), part(1)]);
    let mut request = FetchRequest::default().with_topics(vec![topic]);
    if version >= 7 {
        let gone = ForgottenTopic::default().with_topic(name("b")).with_partitions(vec![1, 2, 3]);
        request = request.with_session_id(1).with_forgotten_topics_data(vec![gone]);
    }
    if version >= 11 {
        request = request.with_rack_id(StrBytes::from_static_str("rack"));
    }
    if version >= 12 {
        request = request.with_cluster_id(Some(StrBytes::from_static_str("cluster")));
    }
    if version >= 15 {
        request = request.with_replica_state(ReplicaState::default().with_replica_id(1.into()));
    }
    request
}

fn create_topics() -> CreateTopicsRequest {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into()]);
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("retention.ms"))
        .with_value(Some(StrBytes::from_static_str("1")));
    let topic = CreatableTopic::default()
        .with_name(name("a"))
        .with_assignments(vec![assignment])
        .with_configs(vec![config]);
    CreateTopicsRequest::default().with_topics(vec![topic.clone(), topic])
}

/// A frame, without length prefix.
pub(super) fn framed(key: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(StrBytes::from_static_str("a client")))
        .encode(&mut out, key.request_header_version(version))
        .unwrap();
    out.put_slice(body);
    out.freeze()
}

/// Every served version of every API.
pub(super) fn served() -> impl Iterator<Item = (&'static Api, i16)> {
    APIS.iter().flat_map(|api| (api.served_from..=api.to).map(move |version| (api, version)))
}

/// Asserts that an answer can be sent in every served version of its API.
pub fn encodes<T: Encodable>(key: ApiKey, answer: impl Fn(i16) -> T) {
    for version in served().filter(|(api, _)| api.key == key).map(|(_, version)| version) {
        let to = ReplyTo { key, version, correlation: 1, received: std::time::Instant::now() };
        let sent = to.send(&answer(version));
        assert!(matches!(sent, Outcome::Send(_)), "{key:?} {version}: {sent:?}");
    }
}

#[test]
fn the_layouts_agree_with_the_codec_to_the_last_byte() {
    for (api, version) in served() {
        let body = sample(api.key, version);
        let request = admit(framed(api.key, version, &body)).unwrap();
        assert_eq!((request.to.correlation, request.forwarded), (77, false));
        assert_eq!(request.body, body);
        for length in 0..body.len() {
            let cut = framed(api.key, version, &body[..length]);
            let request = Request::parse(api.key, cut).unwrap();
            assert!(
                api.check(&request).is_err(),
                "{:?} {version} cut at {length} of {}",
                api.key,
                body.len()
            );
        }
    }
}

#[test]
fn a_claim_of_two_thousand_million_elements_never_reaches_the_codec() {
    for (api, version) in served().filter(|(api, _)| api.key == ApiKey::Metadata) {
        let flexible = api.key.request_header_version(version) >= 2;
        let body: &[u8] = if flexible { &[0xff, 0xff, 0xff, 0xff, 0x07] } else { &[0x7f, 0xff, 0xff, 0xff] };
        let request = Request::parse(api.key, framed(api.key, version, body)).unwrap();
        let refused = api.check(&request).unwrap_err();
        assert!(
            matches!(refused, BadRequest::MalformedRequest { why: MalformedRequest::Truncated, .. }),
            "{refused}"
        );
    }
    // As many elements as the bytes allow are still too many: each is some hundred bytes when decoded.
    let mut body = vec![0; 4 + 2 * 1_000_000];
    body[..4].copy_from_slice(&1_000_000i32.to_be_bytes());
    let refused = admit(framed(ApiKey::Metadata, 1, &body)).unwrap_err();
    assert!(
        matches!(refused, BadRequest::MalformedRequest { why: MalformedRequest::TooMany, .. }),
        "{refused}"
    );
}

#[test]
fn ten_thousand_mutated_frames_are_decoded_or_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    let samples: Vec<Bytes> =
        served().map(|(api, version)| framed(api.key, version, &sample(api.key, version))).collect();
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut frame = samples[random.usize(..samples.len())].to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..frame.len());
            match random.u8(..4) {
                0 => frame[at] = random.u8(..),
                1 => frame.truncate(at.max(8)),
                2 => frame.insert(at, random.u8(..)),
                // Lengths and counts like to be found here.
                _ => frame[at] = *random.choice([0x00, 0x7f, 0x80, 0xff].iter()).unwrap(),
            }
        }
        match admit(frame.into()) {
            Ok(_) => admitted += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        admitted > 1_000 && refused > 1_000,
        "{admitted} admitted, {refused} refused: not much of a test"
    );
}

#[test]
fn the_elements_of_a_request_are_accounted_for() {
    for (api, version) in served().filter(|(api, _)| api.key == ApiKey::Fetch && api.serves(12)) {
        let few = framed(api.key, version, &sample(api.key, version));
        let few = api.check(&Request::parse(api.key, few).unwrap()).unwrap();
        let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default(); 1000]);
        let many = FetchRequest::default().with_topics(vec![topic; 10]);
        let many = framed(api.key, version, &encoded(&many, version));
        let many = api.check(&Request::parse(api.key, many).unwrap()).unwrap();
        assert_eq!(many, 10_010 * apis::ELEMENT, "version {version}");
        assert!((apis::ELEMENT..20 * apis::ELEMENT).contains(&few), "version {version}");
    }
}

#[test]
fn noise_is_refused() {
    let mut random = fastrand::Rng::with_seed(8);
    for length in 0..2_000 {
        let mut frame: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        if let Some(key) = frame.get_mut(..4) {
            let (api, version) = served().nth(random.usize(..served().count())).unwrap();
            key[..2].copy_from_slice(&(api.key as i16).to_be_bytes());
            key[2..].copy_from_slice(&version.to_be_bytes());
        }
        let _ = admit(frame.into());
    }
}

#[test]
fn lengths_that_are_no_lengths_say_what_the_client_speaks() {
    assert_eq!(frame::next_length(&[0, 0, 1]), Ok(None));
    assert_eq!(frame::next_length(&[0, 0, 1, 0, 9]), Ok(Some(256)));
    assert_eq!(frame::next_length(&[6, 0x40, 0, 0]), Ok(Some(frame::MAX_OVERSIZED)));
    for (bytes, words) in [
        (&[6, 0x40, 0, 1], "not between"),
        (&[0xff, 0xff, 0xff, 0xff], "not between"),
        (b"GET ", "HTTP"),
        (&[0x16, 0x03, 0x01, 0x02], "TLS"),
    ] {
        let error = frame::next_length(bytes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_forwarded_request_is_the_same_but_for_its_sender() {
    for (api, version) in served() {
        let body = sample(api.key, version);
        let request = admit(framed(api.key, version, &body)).unwrap();
        let sent = request.forward(5).freeze();
        assert_eq!(frame::next_length(&sent).unwrap(), Some(sent.len() - 4));
        let received = admit(sent.slice(4..)).unwrap();
        assert!(received.forwarded);
        assert_eq!((received.to.correlation, received.body), (5, body));
    }
}

#[test]
fn a_relayed_answer_carries_the_clients_correlation_id() {
    let to = admit(framed(ApiKey::Metadata, 9, &sample(ApiKey::Metadata, 9))).unwrap().to;
    let theirs = ReplyTo { correlation: 5, ..to }.send(&MetadataResponse::default());
    let Outcome::Send(theirs) = theirs else { panic!("{theirs:?}") };
    let Outcome::Send(ours) = to.relay(theirs, None) else { panic!("not sent") };
    let Outcome::Send(expected) = to.send(&MetadataResponse::default()) else { panic!("not sent") };
    assert_eq!(ours, expected);
}

#[test]
fn the_answer_to_a_newer_api_versions_is_version_zero_with_error_35() {
    let to =
        ReplyTo { key: ApiKey::ApiVersions, version: 9, correlation: 3, received: std::time::Instant::now() };
    let Outcome::Send(frame) = versions::unsupported(to, apis::offered()) else { panic!("not sent") };
    // Length, correlation id, error, count, then 6 bytes per API.
    assert_eq!(&frame[4..14], &[0, 0, 0, 3, 0, 35, 0, 0, 0, u8::try_from(APIS.len()).unwrap()]);
    assert_eq!(frame.len(), 14 + 6 * APIS.len());
    assert_eq!(&frame[14..20], &[0, 0, 0, 0, 0, 11], "Produce is offered from 0 to 11");
}

#[test]
fn the_answer_to_api_versions_3_has_no_tagged_fields() {
    let to = admit(framed(ApiKey::ApiVersions, 3, &sample(ApiKey::ApiVersions, 3))).unwrap().to;
    let Outcome::Send(frame) = to.send(&versions::table(0, apis::offered())) else { panic!("not sent") };
    // Length, correlation id, error, count + 1, 7 bytes per API, throttle time, number of tags.
    assert_eq!(frame.len(), 4 + 4 + 2 + 1 + 7 * APIS.len() + 4 + 1);
    assert_eq!(frame.last(), Some(&0));
}
