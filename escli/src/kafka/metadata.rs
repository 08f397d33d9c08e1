//! What the cluster says of its topics: their partitions, and who leads these.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, MetadataRequest};
use shared::ids::NodeId;
use uuid::Uuid;

use super::client::{node_id, topic_name};
use super::dial::Endpoint;
use super::error::check;
use super::{KafkaClient, KafkaError, TopicPartition};

/// A topic as Metadata describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Its partitions, in order.
    pub partitions: Vec<Partition>,
}

/// A partition as Metadata describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 0.
    pub index: i32,
    /// The node that leads it, if any does.
    pub leader: Option<NodeId>,
    /// The nodes that have it.
    pub replicas: Vec<NodeId>,
    /// Those of them that keep up.
    pub in_sync: Vec<NodeId>,
}

impl KafkaClient {
    /// Returns all topics, or those named, by name.
    ///
    /// # Errors
    /// `UnknownTopic` for a name that no topic has; else those of [`Self::ask_any`].
    pub async fn topics(&mut self, names: Option<&[String]>) -> Result<Vec<Topic>, KafkaError> {
        self.retried(async |client| client.topics_once(names).await).await
    }

    async fn topics_once(&mut self, names: Option<&[String]>) -> Result<Vec<Topic>, KafkaError> {
        let wanted = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(names.map(|names| names.iter().map(wanted).collect()))
            .with_allow_auto_topic_creation(false);
        let mut response = self.ask_any(10..=12, &request).await?;
        self.learn(brokers(&response));
        // Others may not have applied yet what the leader has just answered.
        if let Some(leader) = node_id(response.controller_id.0)
            && let Ok(newest) = self.ask(leader, 10..=12, &request).await
        {
            response = newest;
        }
        let mut topics = response.topics.iter().map(topic).collect::<Result<Vec<_>, _>>()?;
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Returns one topic.
    ///
    /// # Errors
    /// Those of [`Self::topics`].
    pub async fn topic(&mut self, name: &str) -> Result<Topic, KafkaError> {
        let found = self.topics(Some(&[name.to_owned()])).await?;
        found.into_iter().next().ok_or_else(|| KafkaError::UnknownTopic(name.to_owned()))
    }

    /// Groups what is to be asked about partitions by the nodes that lead these at the moment.
    ///
    /// # Errors
    /// `NoLeader`; `UnknownPartition`; those of [`Self::topics`], which are not retried here.
    pub async fn by_leader<T>(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, T)>,
    ) -> Result<BTreeMap<NodeId, Vec<(TopicPartition, T)>>, KafkaError> {
        let partitions: Vec<_> = partitions.into_iter().collect();
        let mut names: Vec<_> = partitions.iter().map(|(partition, _)| partition.topic.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let topics = self.topics_once(Some(&names)).await?;
        let mut grouped = BTreeMap::<_, Vec<_>>::new();
        for (partition, about) in partitions {
            let leader = leader_of(&topics, &partition)?;
            grouped.entry(leader).or_default().push((partition, about));
        }
        Ok(grouped)
    }
}

/// The nodes that a response names, with the addresses that they advertise.
fn brokers(response: &MetadataResponse) -> impl Iterator<Item = Endpoint> {
    response.brokers.iter().filter_map(|broker| {
        let id = node_id(broker.node_id.0)?;
        let port = u16::try_from(broker.port).ok()?;
        Some(Endpoint { id, host: broker.host.to_string(), port })
    })
}

fn topic(described: &MetadataResponseTopic) -> Result<Topic, KafkaError> {
    let name = described.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
    if described.error_code == ResponseError::UnknownTopicOrPartition.code() {
        return Err(KafkaError::UnknownTopic(name));
    }
    check(described.error_code, None, || format!("topic {name}"))?;
    let nodes = |ids: &[BrokerId]| ids.iter().filter_map(|id| node_id(id.0)).collect();
    let partitions = described.partitions.iter().map(|partition| Partition {
        index: partition.partition_index,
        leader: node_id(partition.leader_id.0),
        replicas: nodes(&partition.replica_nodes),
        in_sync: nodes(&partition.isr_nodes),
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by_key(|partition| partition.index);
    Ok(Topic { name, id: described.topic_id, partitions })
}

fn leader_of(topics: &[Topic], of: &TopicPartition) -> Result<NodeId, KafkaError> {
    let topic = topics.iter().find(|topic| topic.name == of.topic);
    let topic = topic.ok_or_else(|| KafkaError::UnknownTopic(of.topic.clone()))?;
    let partition = topic.partitions.iter().find(|partition| partition.index == of.partition);
    let partition = partition.ok_or_else(|| KafkaError::UnknownPartition {
        partition: of.clone(),
        count: topic.partitions.len(),
    })?;
    partition.leader.ok_or_else(|| KafkaError::NoLeader(of.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_without_a_leader_is_not_one_that_does_not_exist() {
        let partition = |index, leader| Partition { index, leader, replicas: vec![1], in_sync: vec![1] };
        let orders = Topic {
            name: "orders".to_owned(),
            id: Uuid::nil(),
            partitions: vec![partition(0, Some(2)), partition(1, None)],
        };
        let of = |topic, partition| {
            leader_of(std::slice::from_ref(&orders), &TopicPartition::new(topic, partition))
        };
        assert_eq!(of("orders", 0), Ok(2));
        assert_eq!(of("orders", 1).unwrap_err().to_string(), "partition 1 of orders has no leader");
        assert_eq!(of("orders", 2).unwrap_err().to_string(), "there is no partition 2 of orders; it has 2");
        assert!(!of("bills", 0).unwrap_err().is_retriable());
    }
}
