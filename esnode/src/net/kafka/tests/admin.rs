//! Requests of administrators, with something in every field that the version has.

use bytes::Bytes;
use kafka_protocol::messages::alter_configs_request as full;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::*;
use kafka_protocol::messages::{
    describe_producers_request, describe_quorum_request, describe_topic_partitions_request,
};
use kafka_protocol::protocol::StrBytes;

use super::{encoded, name};

/// Of configurations.
pub fn of_configs(key: ApiKey, version: i16) -> Bytes {
    let text = StrBytes::from_static_str;
    match key {
        ApiKey::DescribeConfigs => {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("a"))
                .with_configuration_keys(Some(vec![text("retention.ms"), text("x")]));
            encoded(&DescribeConfigsRequest::default().with_resources(vec![resource]), version)
        }
        ApiKey::AlterConfigs => {
            let config =
                full::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("1")));
            let resource = full::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("a"))
                .with_configs(vec![config]);
            encoded(&AlterConfigsRequest::default().with_resources(vec![resource]), version)
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1")));
            let resource = incremental::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("a"))
                .with_configs(vec![config]);
            encoded(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource]), version)
        }
        _ => {
            let kinds = if version < 1 { vec![] } else { vec![2, 4] };
            encoded(&ListConfigResourcesRequest::default().with_resource_types(kinds), version)
        }
    }
}

/// Of everything else.
pub fn sample(key: ApiKey, version: i16) -> Bytes {
    match key {
        ApiKey::DescribeLogDirs => {
            let topic = DescribableLogDirTopic::default().with_topic(name("a")).with_partitions(vec![1, 2]);
            encoded(&DescribeLogDirsRequest::default().with_topics(Some(vec![topic])), version)
        }
        ApiKey::ElectLeaders => {
            let topic = TopicPartitions::default().with_topic(name("a")).with_partitions(vec![1, 2]);
            encoded(&ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic])), version)
        }
        ApiKey::ListPartitionReassignments => {
            let topic = ListPartitionReassignmentsTopics::default()
                .with_name(name("a"))
                .with_partition_indexes(vec![1, 2]);
            encoded(&ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic])), version)
        }
        ApiKey::DescribeQuorum => {
            let topic = describe_quorum_request::TopicData::default()
                .with_topic_name(name("a"))
                .with_partitions(vec![describe_quorum_request::PartitionData::default()]);
            encoded(&DescribeQuorumRequest::default().with_topics(vec![topic]), version)
        }
        ApiKey::DescribeCluster => encoded(&DescribeClusterRequest::default(), version),
        ApiKey::DescribeProducers => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(name("a"))
                .with_partition_indexes(vec![1, 2]);
            encoded(&DescribeProducersRequest::default().with_topics(vec![topic]), version)
        }
        ApiKey::DescribeTopicPartitions => {
            let topic = describe_topic_partitions_request::TopicRequest::default().with_name(name("a"));
            let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(name("a"));
            let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic]);
            encoded(&request.with_cursor(Some(cursor)), version)
        }
        other => panic!("no sample of {other:?}: add one"),
    }
}
