//! What administrators ask, through their client libraries and through any node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
use kafka_protocol::records::Compression;
use shared::ids::NodeId;
use tests::client::{Client, batch, fetch_request, produce_request};
use tests::cluster::Cluster;
use uuid::Uuid;

use crate::clients::script;

const LIMIT: Duration = Duration::from_secs(5);
const NOT_LEADER: i16 = 6;
const UNKNOWN_TOPIC_ID: i16 = 100;

#[test]
fn confluent_kafka_administers() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    script("admin.py", &["confluent", &cluster.bootstrap(), "t", "3"])
}

#[test]
fn kafka_python_administers() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    script("admin.py", &["kafka-python", &cluster.bootstrap(), "t", "3"])
}

fn client(cluster: &Cluster, id: NodeId) -> Result<Client> {
    Client::connect(cluster.kafka(id), LIMIT)
}

/// Returns a Fetch of a topic by its id.
fn fetch_by_id(id: Uuid) -> FetchRequest {
    let mut request = fetch_request("", 0, 0);
    let topic = FetchTopic::default().with_topic_id(id);
    request.topics =
        request.topics.into_iter().map(|named| topic.clone().with_partitions(named.partitions)).collect();
    request
}

#[test]
fn a_client_of_another_node_is_told_who_leads_and_where() -> Result<()> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_ready()?;
    ensure!(client(&cluster, leader)?.create_topic("t", 1)? == 0);
    let follower = cluster.ids().into_iter().find(|id| *id != leader).context("a follower")?;
    let mut other = client(&cluster, follower)?;
    let events = batch(&[b"event"], Compression::None)?;
    let answer = other.call::<ProduceRequest>(11, &produce_request("t", 0, events))?;
    let partition = &answer.responses[0].partition_responses[0];
    ensure!(partition.error_code == NOT_LEADER, "{partition:?}");
    ensure!(u64::try_from(partition.current_leader.leader_id.0)? == leader, "{partition:?}");
    let node = answer.node_endpoints.first().context("where it is")?;
    ensure!(i32::from(cluster.kafka(leader).port()) == node.port, "{node:?}");

    // A follower learns of the topic in a moment.
    let id = cluster.wait("the topic on the follower", |cluster| {
        let mut other = client(cluster, follower).ok()?;
        let metadata = other.call(13, &MetadataRequest::default().with_topics(None)).ok()?;
        metadata.topics.first().map(|topic| topic.topic_id)
    })?;
    let answer = other.call(16, &fetch_by_id(id))?;
    let partition = &answer.responses[0].partitions[0];
    ensure!(partition.error_code == NOT_LEADER, "{partition:?}");
    ensure!(u64::try_from(partition.current_leader.leader_id.0)? == leader, "{partition:?}");
    ensure!(answer.node_endpoints.len() == 1, "{answer:?}");
    Ok(())
}

#[test]
fn a_topic_that_was_recreated_is_another_one() -> Result<()> {
    let cluster = Cluster::ready(1)?;
    let mut client = client(&cluster, 1)?;
    let mut create = || -> Result<(Uuid, Client)> {
        ensure!(client.create_topic("t", 1)? == 0 && client.produce("t", 0, b"event")? == Ok(0));
        let metadata = client.call(13, &MetadataRequest::default().with_topics(None))?;
        Ok((metadata.topics[0].topic_id, Client::connect(cluster.kafka(1), LIMIT)?))
    };
    let (first, mut reader) = create()?;
    ensure!(reader.call(16, &fetch_by_id(first))?.responses[0].partitions[0].error_code == 0);
    let delete = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![kafka_protocol::messages::TopicName("t".into())])
        .with_timeout_ms(5000);
    ensure!(reader.call(5, &delete)?.responses[0].error_code == 0);
    let (second, _) = create()?;
    for (id, error) in [(first, UNKNOWN_TOPIC_ID), (second, 0)] {
        let answer = reader.call(13, &fetch_by_id(id))?;
        let topic = &answer.responses[0];
        ensure!((topic.topic_id, topic.partitions[0].error_code) == (id, error), "{topic:?}");
    }
    Ok(())
}
