//! The cluster as its Kafka clients see it: any node for most calls, the leader of a partition, the coordinator of a group.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use shared::ids::NodeId;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::connection::Connection;
use super::dial::{Dialer, Endpoint};
use super::error::check;
use super::{KafkaError, TopicPartition};

/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One answer of a node.
    pub answer: Duration,
    /// A call with all its attempts.
    pub call: Duration,
}

/// The connections to one cluster.
#[derive(Debug)]
pub struct KafkaClient {
    /// The nodes of cluster.yaml.
    dialer: Dialer,
    /// Nodes that only the cluster names, such as one that was added from elsewhere.
    named: Vec<Endpoint>,
    connections: BTreeMap<NodeId, Connection>,
    limits: Limits,
}

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
    /// A client of the cluster that has these nodes; nothing is connected yet.
    pub fn new(dialer: Dialer, limits: Limits) -> Self {
        Self { dialer, named: Vec::new(), connections: BTreeMap::new(), limits }
    }

    /// Returns how long things may take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Attempts something until it succeeds, it fails for good, or the time for a call is over.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn retried<T>(
        &mut self,
        attempt: impl AsyncFnMut(&mut Self) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        self.attempted(KafkaError::is_retriable, attempt).await
    }

    /// The same for a change that must not be made twice: it is not attempted again once it may have been carried out.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn changed<T>(
        &mut self,
        attempt: impl AsyncFnMut(&mut Self) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        self.attempted(|error| error.is_retriable() && !error.is_ambiguous(), attempt).await
    }

    async fn attempted<T>(
        &mut self,
        again: impl Fn(&KafkaError) -> bool,
        mut attempt: impl AsyncFnMut(&mut Self) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let deadline = Instant::now() + self.limits.call;
        loop {
            match attempt(self).await {
                Err(error) if again(&error) && Instant::now() + RETRY_PAUSE < deadline => {}
                result => return result,
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Asks a node that can be reached.
    ///
    /// # Errors
    /// Those of [`Connection::call`]; `Unreachable` when no node can be reached.
    pub async fn ask_any<R: Request>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let connected = self.connections.keys().copied();
        let others = self.dialer.nodes().iter().chain(&self.named).map(|node| node.id);
        let order: Vec<_> = connected.chain(others).collect();
        let mut nobody =
            KafkaError::Unreachable { node: "cluster.yaml".to_owned(), why: "no nodes".to_owned() };
        for id in order {
            match self.ask(id, versions.clone(), request).await {
                Err(error @ KafkaError::Unreachable { .. }) => nobody = error,
                result => return result,
            }
        }
        Err(nobody)
    }

    /// Asks this node.
    ///
    /// # Errors
    /// Those of [`Connection::call`]; `Unreachable`.
    pub async fn ask<R: Request>(
        &mut self,
        node: NodeId,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => self.connect(node).await?,
        };
        let result = connection.call(versions, request, self.limits.answer).await;
        // After half a response nothing on this connection can be understood.
        if !matches!(result, Err(KafkaError::NoResponse { .. } | KafkaError::Malformed { .. })) {
            self.connections.insert(node, connection);
        }
        result
    }

    async fn connect(&self, node: NodeId) -> Result<Connection, KafkaError> {
        let known = self.dialer.nodes().iter().chain(&self.named).find(|known| known.id == node);
        let endpoint = known.ok_or_else(|| KafkaError::Unreachable {
            node: format!("n{node}"),
            why: "its address is not known".to_owned(),
        })?;
        let stream = self.dialer.connect(endpoint, self.limits.answer).await?;
        let opened = Connection::open(endpoint.to_string(), stream, self.limits.answer).await;
        // Nothing was asked for yet.
        opened.map_err(|error| match error {
            KafkaError::NoResponse { node: name, why, .. } => {
                KafkaError::Unreachable { node: name, why: self.dialer.obstacle(node).unwrap_or(why) }
            }
            error => error,
        })
    }

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
        let response = self.ask_any(10..=12, &request).await?;
        self.learn(&response);
        let mut topics = response.topics.iter().map(topic).collect::<Result<Vec<_>, _>>()?;
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Remembers where nodes are that cluster.yaml does not name.
    fn learn(&mut self, response: &MetadataResponse) {
        let named = response.brokers.iter().filter_map(|broker| {
            let id = node_id(broker.node_id.0)?;
            let port = u16::try_from(broker.port).ok()?;
            Some(Endpoint { id, host: broker.host.to_string(), port })
        });
        self.named =
            named.filter(|named| self.dialer.nodes().iter().all(|node| node.id != named.id)).collect();
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

    /// Returns the node that coordinates a group.
    ///
    /// # Errors
    /// `Refused`, when there is none at the moment; those of [`Self::ask_any`].
    pub async fn coordinator(&mut self, group: &str) -> Result<NodeId, KafkaError> {
        let key = StrBytes::from_string(group.to_owned());
        let request = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![key]);
        let response = self.ask_any(4..=5, &request).await?;
        let what = || format!("the coordinator of group {group}");
        let found = response.coordinators.first();
        let absent = ResponseError::CoordinatorNotAvailable.code();
        check(
            found.map_or(absent, |found| found.error_code),
            found.and_then(|found| found.error_message.as_ref()),
            what,
        )?;
        let id = found.and_then(|found| node_id(found.node_id.0));
        id.ok_or_else(|| KafkaError::Refused {
            what: what(),
            code: ResponseError::CoordinatorNotAvailable,
            why: "no node has it".to_owned(),
        })
    }
}

/// A topic's name as the protocol has it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A group's name as the protocol has it.
pub fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// A duration as the protocol has it, in ms.
pub fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn node_id(broker: i32) -> Option<NodeId> {
    NodeId::try_from(broker).ok()
}

fn topic(described: &MetadataResponseTopic) -> Result<Topic, KafkaError> {
    let name = described.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
    if described.error_code == ResponseError::UnknownTopicOrPartition.code() {
        return Err(KafkaError::UnknownTopic(name));
    }
    check(described.error_code, None, || format!("topic {name}"))?;
    let nodes =
        |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().filter_map(|id| node_id(id.0)).collect();
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

    fn client(call: Duration) -> KafkaClient {
        KafkaClient::new(Dialer::default(), Limits { answer: Duration::from_millis(10), call })
    }

    fn refused(code: ResponseError) -> KafkaError {
        check(code.code(), None, || "orders".to_owned()).unwrap_err()
    }

    #[tokio::test]
    async fn what_may_pass_is_attempted_again_within_the_limit_and_a_change_only_if_it_was_not_made() {
        let mut client = client(Duration::from_secs(5));
        for (code, reads, changes) in [
            (ResponseError::NotLeaderOrFollower, 3, 3),
            (ResponseError::RequestTimedOut, 3, 1),
            (ResponseError::TopicAlreadyExists, 1, 1),
        ] {
            let (mut read, mut changed) = (0, 0);
            let _ = client
                .retried(async |_| {
                    read += 1;
                    if read < 3 { Err(refused(code)) } else { Ok(()) }
                })
                .await;
            let _ = client
                .changed(async |_| {
                    changed += 1;
                    if changed < 3 { Err(refused(code)) } else { Ok(()) }
                })
                .await;
            assert_eq!((read, changed), (reads, changes), "{code}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_for_ever() {
        let began = Instant::now();
        let asked = client(Duration::from_millis(250)).topics(None).await;
        assert!(matches!(asked, Err(KafkaError::Unreachable { .. })), "{asked:?}");
        assert!(began.elapsed() >= Duration::from_millis(100) && began.elapsed() < Duration::from_secs(3));
    }

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
