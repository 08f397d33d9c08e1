//! Requests of every served version, for the tests of all frames.

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::net::kafka::tests::encoded;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn name() -> TopicName {
    TopicName(text("a"))
}

/// The text, where the version has a field for it.
fn since(version: i16, first: i16, value: &'static str) -> Option<StrBytes> {
    (version >= first).then(|| text(value))
}

/// Whether [`sample`] knows the API.
pub fn is_about_groups(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::FindCoordinator
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::ListGroups
            | ApiKey::DescribeGroups
            | ApiKey::DeleteGroups
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::OffsetDelete
            | ApiKey::ConsumerGroupHeartbeat
            | ApiKey::ConsumerGroupDescribe
    )
}

/// A request with something in every field that the version has.
pub fn sample(key: ApiKey, version: i16) -> Bytes {
    match key {
        ApiKey::FindCoordinator if version < 4 => {
            encoded(&FindCoordinatorRequest::default().with_key(text("g")), version)
        }
        ApiKey::FindCoordinator => {
            encoded(&FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]), version)
        }
        ApiKey::JoinGroup => join(version),
        ApiKey::SyncGroup => sync(version),
        ApiKey::Heartbeat => {
            let heartbeat = HeartbeatRequest::default()
                .with_group_id(text("g").into())
                .with_member_id(text("m"))
                .with_group_instance_id(since(version, 3, "i"));
            encoded(&heartbeat, version)
        }
        ApiKey::LeaveGroup => leave(version),
        ApiKey::ListGroups => {
            let states = since(version, 4, "Stable").into_iter().collect();
            let types = since(version, 5, "classic").into_iter().collect();
            encoded(
                &ListGroupsRequest::default().with_states_filter(states).with_types_filter(types),
                version,
            )
        }
        ApiKey::DescribeGroups => {
            let groups = vec![text("g").into(), text("h").into()];
            encoded(&DescribeGroupsRequest::default().with_groups(groups), version)
        }
        ApiKey::DeleteGroups => {
            encoded(&DeleteGroupsRequest::default().with_groups_names(vec![text("g").into()]), version)
        }
        ApiKey::OffsetCommit => commit(version),
        ApiKey::OffsetFetch => fetch(version),
        ApiKey::OffsetDelete => {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
            let topic =
                OffsetDeleteRequestTopic::default().with_name(name()).with_partitions(vec![partition]);
            let delete = OffsetDeleteRequest::default().with_group_id(text("g").into());
            encoded(&delete.with_topics(vec![topic]), version)
        }
        ApiKey::ConsumerGroupHeartbeat => consumer_heartbeat(version),
        ApiKey::ConsumerGroupDescribe => {
            let groups = vec![text("g").into(), text("h").into()];
            encoded(&ConsumerGroupDescribeRequest::default().with_group_ids(groups), version)
        }
        other => panic!("{other:?} is not about groups"),
    }
}

fn join(version: i16) -> Bytes {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"topics"));
    let join = JoinGroupRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text("m"))
        .with_group_instance_id(since(version, 5, "i"))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
        .with_reason(since(version, 8, "why"));
    encoded(&join, version)
}

fn sync(version: i16) -> Bytes {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(text("m"))
        .with_assignment(Bytes::from_static(b"partitions"));
    let sync = SyncGroupRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text("m"))
        .with_group_instance_id(since(version, 3, "i"))
        .with_protocol_type(since(version, 5, "consumer"))
        .with_protocol_name(since(version, 5, "range"))
        .with_assignments(vec![assignment]);
    encoded(&sync, version)
}

fn consumer_heartbeat(version: i16) -> Bytes {
    let owned = TopicPartitions::default().with_topic_id(Uuid::from_u128(7)).with_partitions(vec![1, 2]);
    let heartbeat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text("m"))
        .with_instance_id(Some(text("i")))
        .with_rack_id(Some(text("rack")))
        .with_subscribed_topic_names(Some(vec![name()]))
        .with_subscribed_topic_regex(since(version, 1, "a.*"))
        .with_server_assignor(Some(text("uniform")))
        .with_topic_partitions(Some(vec![owned]));
    encoded(&heartbeat, version)
}

fn leave(version: i16) -> Bytes {
    let leave = LeaveGroupRequest::default().with_group_id(text("g").into());
    if version < 3 {
        return encoded(&leave.with_member_id(text("m")), version);
    }
    let member = MemberIdentity::default()
        .with_member_id(text("m"))
        .with_group_instance_id(Some(text("i")))
        .with_reason(since(version, 5, "why"));
    encoded(&leave.with_members(vec![member]), version)
}

fn commit(version: i16) -> Bytes {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(7)
        .with_committed_metadata(Some(text("kept")));
    let topic = OffsetCommitRequestTopic::default().with_name(name()).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text("m"))
        .with_group_instance_id(since(version, 7, "i"))
        .with_topics(vec![topic]);
    encoded(&commit, version)
}

fn fetch(version: i16) -> Bytes {
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default().with_name(name()).with_partition_indexes(vec![1, 2]);
        let fetch = OffsetFetchRequest::default().with_group_id(text("g").into());
        return encoded(&fetch.with_topics(Some(vec![topic])), version);
    }
    let topic = OffsetFetchRequestTopics::default().with_name(name()).with_partition_indexes(vec![1, 2]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text("g").into())
        .with_member_id(since(version, 9, "m"))
        .with_topics(Some(vec![topic]));
    encoded(&OffsetFetchRequest::default().with_groups(vec![group]), version)
}
