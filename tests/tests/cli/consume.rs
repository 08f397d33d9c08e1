//! `escli consume` against a leader that is played by the test: what happens to a partition while it is read.

use std::sync::Mutex;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    ApiKey, FetchResponse, ListOffsetsResponse, MetadataResponse, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::Compression;
use tests::client::batch;
use tests::scripted_node;

use super::{code, err, escli, out, with_file};

const SERVES: &[ApiKey] = &[ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::Fetch];
const OUT_OF_RANGE: i16 = 1;
const NOT_LEADER: i16 = 6;

/// A partition that is read, and what happens to it.
struct Partition {
    start: i64,
    end: i64,
    /// What the next fetches get, last first; then nothing comes any more.
    fetches: Vec<(i16, Bytes)>,
    /// The offsets that were fetched from.
    fetched: Vec<i64>,
}

/// Two events, from this offset on.
fn two(offset: i64) -> Bytes {
    let batch = batch(&[b"a", b"b"], Compression::None).unwrap();
    [&offset.to_be_bytes(), &batch[8..]].concat().into()
}

impl Partition {
    fn answer(&mut self, request: RequestKind) -> Option<ResponseKind> {
        let orders = || TopicName(StrBytes::from_static_str("orders"));
        Some(match request {
            RequestKind::Metadata(_) => {
                let partition = MetadataResponsePartition::default().with_leader_id(1.into());
                let topic = MetadataResponseTopic::default()
                    .with_name(Some(orders()))
                    .with_partitions(vec![partition]);
                MetadataResponse::default().with_topics(vec![topic]).into()
            }
            RequestKind::ListOffsets(body) => {
                let is_start = body.topics.first()?.partitions.first()?.timestamp == -2;
                let offset = if is_start { self.start } else { self.end };
                let partition = ListOffsetsPartitionResponse::default().with_offset(offset);
                let topic =
                    ListOffsetsTopicResponse::default().with_name(orders()).with_partitions(vec![partition]);
                ListOffsetsResponse::default().with_topics(vec![topic]).into()
            }
            RequestKind::Fetch(body) => {
                self.fetched.push(body.topics.first()?.partitions.first()?.fetch_offset);
                let (code, records) = self.fetches.pop().unwrap_or_default();
                if code == OUT_OF_RANGE {
                    self.start = 4;
                }
                let data = PartitionData::default().with_error_code(code).with_records(Some(records));
                let topic =
                    FetchableTopicResponse::default().with_topic(orders()).with_partitions(vec![data]);
                FetchResponse::default().with_responses(vec![topic]).into()
            }
            _ => return None,
        })
    }
}

/// Reads a partition of six events that gives these answers. Returns the exit code, what was printed on both outputs,
/// and the offsets that were fetched from.
fn consumed(mut fetches: Vec<(i16, Bytes)>) -> (i32, String, String, Vec<i64>) {
    fetches.reverse();
    let partition = Partition { start: 0, end: 6, fetches, fetched: Vec::new() };
    let partition = &*Box::leak(Box::new(Mutex::new(partition)));
    let node = scripted_node::start(SERVES, |request| partition.lock().unwrap().answer(request)).unwrap();
    let home = with_file(format!(
        "cluster:\n  name: t\n  nodes:\n    - {{ id: 1, host: 127.0.0.1, client_port: {}, cluster_port: 1, http_port: 2 }}\n",
        node.port()
    ));
    let output = escli(home.path(), "consume orders --timeout 2s");
    let fetched = partition.lock().unwrap().fetched.clone();
    (code(&output), out(&output), err(&output), fetched)
}

#[test]
fn events_that_are_deleted_while_a_partition_is_read_are_passed_over_and_reported() {
    let fetches = vec![(0, two(0)), (OUT_OF_RANGE, Bytes::new()), (0, two(4))];
    let (code, printed, said, fetched) = consumed(fetches);
    assert_eq!((code, printed.as_str()), (0, "a\nb\na\nb\n"), "{said}");
    assert_eq!(fetched, [0, 2, 4]);
    assert!(said.contains("partition 0: offsets 2 to 3 were deleted before they could be read"), "{said}");
}

#[test]
fn a_change_of_the_leader_loses_and_repeats_nothing() {
    let fetches =
        vec![(0, two(0)), (NOT_LEADER, Bytes::new()), (NOT_LEADER, Bytes::new()), (0, two(2)), (0, two(4))];
    let (code, printed, said, fetched) = consumed(fetches);
    assert_eq!((code, printed.as_str()), (0, "a\nb\na\nb\na\nb\n"), "{said}");
    assert_eq!(fetched, [0, 2, 2, 2, 4]);
}

#[test]
fn what_cannot_be_read_is_named_with_its_offset_and_how_to_go_on() {
    let mut damaged = two(2).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let (code, printed, said, _) = consumed(vec![(0, two(0)), (0, damaged.into())]);
    assert_eq!((code, printed.as_str()), (1, "a\nb\n"), "{said}");
    assert!(said.contains("partition 0 of orders cannot be read at offset 2"), "{said}");
    assert!(said.contains("escli consume orders --partition 0 --from 4"), "{said}");
    let (code, _, said, _) = consumed(vec![(0, two(0).slice(..40))]);
    assert!(code == 1 && said.contains("the batch came cut"), "{said}");
}
