//! `escli produce` against a leader that is played by the test: acknowledgements that are lost, and refusals.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, InitProducerIdResponse, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{BatchDecodeInfo, RecordBatchDecoder};
use tests::scripted_node;

use super::{code, err, out, with_file};

const SERVES: &[ApiKey] =
    &[ApiKey::Metadata, ApiKey::DescribeConfigs, ApiKey::InitProducerId, ApiKey::Produce];

const NOT_LEADER: i16 = ResponseError::NotLeaderOrFollower.code();
const DUPLICATE: i16 = ResponseError::DuplicateSequenceNumber.code();
const TOO_LARGE: i16 = ResponseError::MessageTooLarge.code();

/// What the node does with a Produce request.
#[derive(Clone, Copy)]
enum Reaction {
    HangUp,
    Answer(i16, i64),
}

/// The requests that the node got.
type Requests = Arc<Mutex<Vec<ProduceRequest>>>;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn answer(request: RequestKind, requests: &Requests, reactions: &[Reaction]) -> Option<ResponseKind> {
    let orders = || TopicName(text("orders"));
    Some(match request {
        RequestKind::Metadata(_) => {
            let partition = MetadataResponsePartition::default().with_leader_id(1.into());
            let topic =
                MetadataResponseTopic::default().with_name(Some(orders())).with_partitions(vec![partition]);
            MetadataResponse::default().with_topics(vec![topic]).into()
        }
        RequestKind::DescribeConfigs(_) => {
            let limit = DescribeConfigsResourceResult::default()
                .with_name(text("max.message.bytes"))
                .with_value(Some(text("200")));
            let result =
                DescribeConfigsResult::default().with_resource_name(text("orders")).with_configs(vec![limit]);
            DescribeConfigsResponse::default().with_results(vec![result]).into()
        }
        RequestKind::InitProducerId(_) => {
            InitProducerIdResponse::default().with_producer_id(77.into()).with_producer_epoch(3).into()
        }
        RequestKind::Produce(body) => {
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            let reaction = reactions.get(requests.len()).copied();
            requests.push(body);
            let Some(Reaction::Answer(code, offset)) = reaction else { return None };
            let partition =
                PartitionProduceResponse::default().with_error_code(code).with_base_offset(offset);
            let topic =
                TopicProduceResponse::default().with_name(orders()).with_partition_responses(vec![partition]);
            ProduceResponse::default().with_responses(vec![topic]).into()
        }
        _ => return None,
    })
}

/// Runs `escli produce` with this input. Returns what came of it, and the batches that the node got.
fn produced(input: &str, reactions: &'static [Reaction]) -> (Output, Vec<BatchDecodeInfo>) {
    let requests = Requests::default();
    let shared = Arc::clone(&requests);
    let node = scripted_node::start(SERVES, move |request| answer(request, &shared, reactions)).unwrap();
    let home = with_file(format!(
        "cluster:\n  name: t\n  nodes:\n    - {{ id: 1, host: 127.0.0.1, client_port: {}, cluster_port: 1, http_port: 2 }}\n",
        node.port()
    ));
    let mut command = super::command(home.path(), "produce orders --timeout 2s");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    (output, requests.iter().map(batch).collect())
}

/// The batch of a request, which asks for an acknowledgement by all.
fn batch(request: &ProduceRequest) -> BatchDecodeInfo {
    assert_eq!(request.acks, -1);
    let mut records: Bytes = request.topic_data[0].partition_data[0].records.clone().unwrap();
    RecordBatchDecoder::decode_batch_info(&mut records).unwrap().remove(0)
}

#[test]
fn a_batch_whose_acknowledgement_is_lost_is_sent_again_as_the_same_batch() {
    let (output, batches) = produced(
        "one\n",
        &[Reaction::HangUp, Reaction::Answer(NOT_LEADER, -1), Reaction::Answer(DUPLICATE, 12)],
    );
    assert_eq!(
        (code(&output), out(&output).as_str()),
        (0, "1 event written to orders\n"),
        "{}",
        err(&output)
    );
    assert_eq!(batches.len(), 3);
    assert!(batches.iter().all(|batch| *batch == batches[0]), "{batches:?}");
    assert_eq!((batches[0].producer_id, batches[0].producer_epoch, batches[0].base_sequence), (77, 3, 0));
}

#[test]
fn batches_are_as_small_as_the_topic_wants_them_and_numbered() {
    let lines: String = (0..8).map(|number| format!("{number:0>60}\n")).collect();
    let (output, batches) = produced(&lines, &[Reaction::Answer(0, 0); 8]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let mut next = 0;
    for batch in &batches {
        assert_eq!(batch.base_sequence, next);
        next += batch.record_count;
    }
    assert_eq!(next, 8);
    assert!(batches.len() > 4, "{batches:?}");
}

#[test]
fn what_is_refused_or_not_acknowledged_is_no_success() {
    let (output, batches) = produced("one\n", &[Reaction::Answer(TOO_LARGE, -1)]);
    assert_eq!((code(&output), batches.len()), (3, 1));
    assert!(err(&output).contains("MESSAGE_TOO_LARGE"), "{}", err(&output));
    assert!(err(&output).contains("0 events written to orders"), "{}", err(&output));
    let (output, batches) = produced("one\n", &[]);
    assert_eq!(code(&output), 7, "{}", err(&output));
    assert!(batches.len() > 1, "it was not sent again");
    assert!(err(&output).contains("0 events written to orders"), "{}", err(&output));
}
