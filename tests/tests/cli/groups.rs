//! `escli group` against a coordinator that is played by the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as ConsumerGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator as Found;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeResponse, DeleteGroupsResponse, DescribeGroupsResponse,
    FindCoordinatorResponse, GroupId, ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataResponse, OffsetCommitResponse, OffsetFetchResponse, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::scripted_node;

use super::{code, err, escli, out, with_file};

const SERVES: &[ApiKey] = &[
    ApiKey::Metadata,
    ApiKey::ListOffsets,
    ApiKey::FindCoordinator,
    ApiKey::ListGroups,
    ApiKey::DescribeGroups,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::OffsetFetch,
    ApiKey::OffsetCommit,
    ApiKey::DeleteGroups,
];
/// Where the partitions of `orders` begin and end.
const RANGES: [(i64, i64); 2] = [(10, 50), (0, 7)];

/// The group `billing`, which reads the topic `orders`.
struct Billing {
    committed: BTreeMap<i32, i64>,
    has_member: bool,
    exists: bool,
    /// Whether its members speak the consumer protocol.
    is_assigned: bool,
    /// How often the node still says that it coordinates nothing.
    busy: u32,
}

type Shared = Arc<Mutex<Billing>>;

fn lock(billing: &Shared) -> MutexGuard<'_, Billing> {
    billing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn metadata() -> MetadataResponse {
    let partition =
        |index| MetadataResponsePartition::default().with_partition_index(index).with_leader_id(1.into());
    let orders = MetadataResponseTopic::default()
        .with_name(Some(topic("orders")))
        .with_partitions(vec![partition(0), partition(1)]);
    MetadataResponse::default().with_topics(vec![orders])
}

fn offsets(body: &ListOffsetsRequest) -> Option<ListOffsetsResponse> {
    let answer = |wanted: &ListOffsetsPartition| {
        let (start, end) = *RANGES.get(usize::try_from(wanted.partition_index).ok()?)?;
        let offset = match wanted.timestamp {
            -2 => start,
            -1 => end,
            _ => -1,
        };
        let answer = ListOffsetsPartitionResponse::default();
        Some(answer.with_partition_index(wanted.partition_index).with_offset(offset))
    };
    let partitions = body.topics.first()?.partitions.iter().map(answer).collect::<Option<_>>()?;
    let orders = ListOffsetsTopicResponse::default().with_name(topic("orders")).with_partitions(partitions);
    Some(ListOffsetsResponse::default().with_topics(vec![orders]))
}

impl Billing {
    fn new() -> Shared {
        let committed = BTreeMap::from([(0, 20), (1, 7)]);
        Arc::new(Mutex::new(Self { committed, has_member: false, exists: true, is_assigned: false, busy: 0 }))
    }

    fn coordinator(&mut self, key: &StrBytes) -> FindCoordinatorResponse {
        let found = Found::default().with_key(key.clone()).with_node_id(1.into());
        FindCoordinatorResponse::default().with_coordinators(vec![found])
    }

    /// 0, or that the group is coordinated elsewhere.
    fn ready(&mut self) -> i16 {
        let is_busy = self.busy > 0;
        self.busy = self.busy.saturating_sub(1);
        if is_busy { ResponseError::NotCoordinator.code() } else { 0 }
    }

    fn described(&mut self, name: &GroupId) -> DescribeGroupsResponse {
        let not_found =
            if self.exists && !self.is_assigned { 0 } else { ResponseError::GroupIdNotFound.code() };
        let code = Some(self.ready()).filter(|code| *code != 0).unwrap_or(not_found);
        let member = DescribedGroupMember::default()
            .with_client_id(text("biller"))
            .with_client_host(text("/10.0.0.9"));
        let group = DescribedGroup::default()
            .with_group_id(name.clone())
            .with_error_code(code)
            .with_group_state(text(if self.has_member { "Stable" } else { "Empty" }))
            .with_members(if self.has_member { vec![member] } else { Vec::new() });
        DescribeGroupsResponse::default().with_groups(vec![group])
    }

    fn described_consumers(&mut self, name: &GroupId) -> ConsumerGroupDescribeResponse {
        let orders = TopicPartitions::default().with_topic_name(topic("orders")).with_partitions(vec![1, 0]);
        let member = Member::default()
            .with_client_id(text("biller"))
            .with_client_host(text("/10.0.0.9"))
            .with_assignment(Assignment::default().with_topic_partitions(vec![orders]));
        let found = self.exists && self.is_assigned;
        let group = ConsumerGroup::default()
            .with_group_id(name.clone())
            .with_error_code(if found { 0 } else { ResponseError::GroupIdNotFound.code() })
            .with_group_state(text("Reconciling"))
            .with_assignor_name(text("uniform"))
            .with_members(vec![member]);
        ConsumerGroupDescribeResponse::default().with_groups(vec![group])
    }

    fn fetched(&mut self) -> OffsetFetchResponse {
        let code = self.ready();
        let partition = |(index, offset): (&i32, &i64)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(*index)
                .with_committed_offset(*offset)
        };
        let orders = OffsetFetchResponseTopics::default()
            .with_name(topic("orders"))
            .with_partitions(self.committed.iter().map(partition).collect());
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(text("billing")))
            .with_error_code(code)
            .with_topics(if code == 0 { vec![orders] } else { Vec::new() });
        OffsetFetchResponse::default().with_groups(vec![group])
    }

    fn answer(&mut self, request: RequestKind) -> Option<ResponseKind> {
        Some(match request {
            RequestKind::Metadata(_) => metadata().into(),
            RequestKind::ListOffsets(body) => offsets(&body)?.into(),
            RequestKind::FindCoordinator(body) => self.coordinator(body.coordinator_keys.first()?).into(),
            RequestKind::ListGroups(_) => {
                let billing = ListedGroup::default()
                    .with_group_id(GroupId(text("billing")))
                    .with_protocol_type(text("consumer"))
                    .with_group_state(text("Empty"));
                let code = self.ready();
                let groups = if self.exists { vec![billing] } else { Vec::new() };
                ListGroupsResponse::default().with_error_code(code).with_groups(groups).into()
            }
            RequestKind::DescribeGroups(body) => self.described(body.groups.first()?).into(),
            RequestKind::ConsumerGroupDescribe(body) => {
                self.described_consumers(body.group_ids.first()?).into()
            }
            RequestKind::OffsetFetch(_) => self.fetched().into(),
            RequestKind::OffsetCommit(body) => {
                // From outside of the group, which has no members.
                assert_eq!((body.generation_id_or_member_epoch, body.member_id.as_str()), (-1, ""));
                let code = self.ready();
                let mut orders = OffsetCommitResponseTopic::default().with_name(topic("orders"));
                for wanted in body.topics.iter().flat_map(|topic| &topic.partitions) {
                    if code == 0 {
                        self.committed.insert(wanted.partition_index, wanted.committed_offset);
                    }
                    orders.partitions.push(
                        OffsetCommitResponsePartition::default()
                            .with_partition_index(wanted.partition_index)
                            .with_error_code(code),
                    );
                }
                OffsetCommitResponse::default().with_topics(vec![orders]).into()
            }
            RequestKind::DeleteGroups(body) => {
                let code = self.ready();
                self.exists = code != 0;
                let result = DeletableGroupResult::default()
                    .with_group_id(body.groups_names.first()?.clone())
                    .with_error_code(code);
                DeleteGroupsResponse::default().with_results(vec![result]).into()
            }
            _ => return None,
        })
    }
}

/// A folder with a cluster.yaml of one node, which is played, and whose admin port is closed.
fn played(billing: &Shared) -> TempDir {
    let billing = Arc::clone(billing);
    let address: SocketAddr =
        scripted_node::start(SERVES, move |request| lock(&billing).answer(request)).unwrap();
    with_file(format!(
        "cluster:\n  name: t\n  nodes:\n    - {{ id: 1, host: 127.0.0.1, client_port: {}, cluster_port: 1, http_port: 2 }}\n",
        address.port()
    ))
}

fn json_of(home: &TempDir, line: &str) -> Value {
    let output = escli(home.path(), &format!("{line} -o json"));
    assert_eq!(code(&output), 0, "{line}: {}", err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

#[test]
fn groups_are_listed_and_described_with_their_lag() {
    let billing = Billing::new();
    let home = played(&billing);
    let listed = json_of(&home, "group list");
    assert_eq!(listed["groups"], json!([{"name": "billing", "state": "Empty", "protocol_type": "consumer"}]));
    lock(&billing).has_member = true;
    let group = &json_of(&home, "group describe billing")["groups"][0];
    assert_eq!((&group["lag"], &group["state"]), (&json!(30), &json!("Stable")), "{group:#}");
    let row = json!({"topic": "orders", "partition": 0, "committed_offset": 20, "end_offset": 50, "lag": 30, "member": null});
    assert_eq!(group["partitions"][0], row);
    assert_eq!(group["members"][0]["host"], "/10.0.0.9");
    lock(&billing).is_assigned = true;
    let group = &json_of(&home, "group describe billing")["groups"][0];
    assert_eq!((&group["state"], &group["protocol"]), (&json!("Reconciling"), &json!("uniform")));
    assert_eq!((&group["members"][0]["partitions"], &group["lag"]), (&json!(2), &json!(30)), "{group:#}");
    lock(&billing).exists = false;
    let gone = escli(home.path(), "group describe billing");
    assert_eq!(code(&gone), 1);
    assert!(err(&gone).contains("there is no group billing") && err(&gone).contains("escli group list"));
}

#[test]
fn a_reset_is_shown_asked_for_and_made() {
    let billing = Billing::new();
    let home = played(&billing);
    let offsets = || lock(&billing).committed.clone();
    let before = offsets();
    let shown = escli(home.path(), "group reset-offsets billing --to earliest --dry-run");
    assert_eq!(code(&shown), 0, "{}", err(&shown));
    assert!(out(&shown).ends_with("would set 2 offsets of group billing\n"), "{}", out(&shown));
    let asked = escli(home.path(), "group reset-offsets billing --to latest");
    assert_eq!(code(&asked), 3);
    assert!(err(&asked).contains("it will not read 30 events"), "{}", err(&asked));
    assert!(err(&asked).contains("escli group reset-offsets billing --to end --yes"), "{}", err(&asked));
    assert_eq!(offsets(), before, "nothing was confirmed");
    let document = json_of(&home, "group reset-offsets billing --to latest --yes");
    let row = json!({"topic": "orders", "partition": 0, "before": 20, "after": 50, "start_offset": 10, "end_offset": 50});
    assert_eq!(document["partitions"][0], row);
    assert_eq!(offsets(), BTreeMap::from([(0, 50), (1, 7)]));
    json_of(&home, "group reset-offsets billing --to 3 --topic orders:1 --yes");
    assert_eq!(offsets(), BTreeMap::from([(0, 50), (1, 3)]));
    // Nothing has happened since then, so nothing is left to read.
    json_of(&home, "group reset-offsets billing --to 1h --yes");
    assert_eq!(offsets(), BTreeMap::from([(0, 50), (1, 7)]));
}

#[test]
fn a_group_that_does_not_exist_yet_begins_where_it_is_told_to() {
    let billing = Billing::new();
    let home = played(&billing);
    lock(&billing).exists = false;
    lock(&billing).committed.clear();
    let unknown = escli(home.path(), "group reset-offsets billing --to earliest --yes");
    assert_eq!(code(&unknown), 1);
    assert!(err(&unknown).contains("there is no group billing"), "{}", err(&unknown));
    json_of(&home, "group reset-offsets billing --to 30 --topic orders --yes");
    assert_eq!(lock(&billing).committed, BTreeMap::from([(0, 30), (1, 7)]));
}

#[test]
fn the_offsets_of_a_group_with_members_are_theirs() {
    let billing = Billing::new();
    let home = played(&billing);
    lock(&billing).has_member = true;
    let before = lock(&billing).committed.clone();
    for line in ["group reset-offsets billing --to earliest --yes", "group delete billing --yes"] {
        let output = escli(home.path(), line);
        assert_eq!(code(&output), 3, "{line}");
        assert!(
            err(&output).contains("group billing has a member; no changes were made"),
            "{}",
            err(&output)
        );
        assert!(err(&output).contains("biller from /10.0.0.9"), "{}", err(&output));
    }
    assert!(lock(&billing).exists && lock(&billing).committed == before);
}

#[test]
fn a_group_is_deleted_once_its_coordinator_is_found() {
    let billing = Billing::new();
    let home = played(&billing);
    assert_eq!(code(&escli(home.path(), "group delete billing")), 3);
    assert!(out(&escli(home.path(), "group delete billing --dry-run")).contains("would delete billing"));
    assert!(lock(&billing).exists);
    lock(&billing).busy = 3;
    let deleted = escli(home.path(), "group delete billing --yes");
    assert_eq!((code(&deleted), out(&deleted).as_str()), (0, "deleted billing\n"), "{}", err(&deleted));
    assert!(!lock(&billing).exists);
    lock(&billing).busy = u32::MAX;
    let never = escli(home.path(), "group list --timeout 500ms");
    assert_eq!(code(&never), 1);
    assert!(err(&never).contains("NOT_COORDINATOR"), "{}", err(&never));
}
