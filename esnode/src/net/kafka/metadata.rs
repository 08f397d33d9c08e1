//! Metadata: the nodes, the topics and who leads; creates topics that a client names for the first time.
//!
//! Every node answers alike: all members hold every partition, and Raft's leader leads them all.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use shared::spec::Node;
use uuid::Uuid;

use super::apis::Answer;
use super::frame::{BadRequest, Request};
use super::session::{Session, broker_id, leader_epoch};
use super::topics::creation;
use crate::stream::{self, Stream, TopicId, valid_topic_name};

/// Serves Metadata.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: MetadataRequest = request.decode()?;
    let wanted = Wanted::new(&body, request.to.version);
    let may_create = body.allow_auto_topic_creation && session.node().file().cluster.topics.auto_create;
    let known = |session: &Session| wanted.missing(&session.node().stream()).is_empty();
    let at_once =
        session.is_leader_sure() && (known(session) || (session.leadership().serving && !may_create));
    let (session, request) = (Arc::clone(session), request.clone());
    // Made when its turn comes, even if all is known: an answer may be large, and a client may ask thousands of times
    // and read none.
    Ok(Answer::later(async move {
        if at_once {
            let unknown = ResponseError::UnknownTopicOrPartition;
            return request.to.send(&answer(&session, &wanted, unknown));
        }
        session.await_leader().await;
        let missing = wanted.missing(&session.node().stream());
        if missing.is_empty() {
            let unknown = ResponseError::UnknownTopicOrPartition;
            return request.to.send(&answer(&session, &wanted, unknown));
        }
        if session.leadership().serving {
            if may_create {
                create(&session, &missing).await;
            }
        } else if let Some(outcome) = session.ask_leader(&request).await {
            // It also knows of topics that this node will learn of in a moment.
            return outcome;
        }
        // Where topics are created, what is missing will be there soon; without a leader, who knows.
        let unsure = may_create || session.usable_leader().is_none();
        let otherwise =
            if unsure { ResponseError::LeaderNotAvailable } else { ResponseError::UnknownTopicOrPartition };
        request.to.send(&answer(&session, &wanted, otherwise))
    }))
}

async fn create(session: &Session, names: &[StrBytes]) {
    let partitions = session.node().file().cluster.topics.default_partitions;
    let commands: Vec<_> = names.iter().map(|name| creation(name, partitions, Vec::new())).collect();
    if let Err(error) = session.node().propose(&commands).await {
        tracing::debug!(%error, "topics could not be created for a client that named them");
    }
}

/// The topics that a client asks about.
enum Wanted {
    All,
    Some(Vec<Topic>),
}

/// A topic as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Topic {
    Name(StrBytes),
    Id(Uuid),
}

impl Wanted {
    fn new(body: &MetadataRequest, version: i16) -> Self {
        match &body.topics {
            None => Self::All,
            // Version 0 has no null.
            Some(topics) if topics.is_empty() && version == 0 => Self::All,
            Some(topics) => {
                let topics = topics.iter().map(|topic| match &topic.name {
                    Some(name) => Topic::Name(name.0.clone()),
                    None => Topic::Id(topic.topic_id),
                });
                // Each once: what is asked for in three bytes may take a thousand partitions to answer.
                let mut seen = HashSet::new();
                Self::Some(topics.filter(|topic| seen.insert(topic.clone())).collect())
            }
        }
    }

    /// Topics called by a name that nothing has but something may have.
    fn missing(&self, stream: &Stream) -> Vec<StrBytes> {
        let Self::Some(topics) = self else { return Vec::new() };
        let names = topics.iter().filter_map(|topic| match topic {
            Topic::Name(name) if valid_topic_name(name) && stream.topic(name).is_none() => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }
}

/// A topic as the answer needs it, copied out of the state so that its lock is held briefly.
struct Found {
    topic: Topic,
    /// Name, number and how many partitions.
    is: Result<(StrBytes, TopicId, usize), ResponseError>,
}

fn answer(session: &Session, wanted: &Wanted, otherwise: ResponseError) -> MetadataResponse {
    let (found, cluster) = {
        let stream = session.node().stream();
        // Nil before the cluster is founded, when there are no topics: never null.
        let cluster = stream.cluster_id().map(|id| id.0).unwrap_or_default();
        (find(&stream, wanted, cluster, otherwise), cluster)
    };
    describe(&session.node().roster(), session.usable_leader(), cluster, &found)
}

fn find(stream: &Stream, wanted: &Wanted, cluster: Uuid, otherwise: ResponseError) -> Vec<Found> {
    let seen =
        |topic: &stream::Topic| (StrBytes::from_string(topic.name.clone()), topic.id, topic.partitions.len());
    let Wanted::Some(topics) = wanted else {
        return stream
            .topics()
            .map(|topic| Found { topic: Topic::Id(topic_id(cluster, topic.id)), is: Ok(seen(topic)) })
            .collect();
    };
    let look = |topic: &Topic| match topic {
        Topic::Name(name) => match stream.topic(name) {
            Some(topic) => Ok(seen(topic)),
            None if valid_topic_name(name) => Err(otherwise),
            None => Err(ResponseError::InvalidTopicException),
        },
        Topic::Id(id) => topic_numbered(stream, cluster, *id).map(seen).ok_or(ResponseError::UnknownTopicId),
    };
    topics.iter().map(|topic| Found { topic: topic.clone(), is: look(topic) }).collect()
}

/// A topic's number as the Kafka protocol writes it: the same on every node, different in every cluster.
pub fn topic_id(cluster: Uuid, topic: TopicId) -> Uuid {
    Uuid::from_u128(cluster.as_u128() ^ u128::from(topic))
}

/// The topic that [`topic_id`] gave this id, without looking through all of them: the state is locked meanwhile.
pub fn topic_numbered(stream: &Stream, cluster: Uuid, id: Uuid) -> Option<&stream::Topic> {
    stream.topic_numbered(TopicId::try_from(cluster.as_u128() ^ id.as_u128()).ok()?)
}

/// The answer, for a leader and its term if there is one.
fn describe(
    nodes: &[Node],
    leader: Option<(NodeId, u64)>,
    cluster: Uuid,
    found: &[Found],
) -> MetadataResponse {
    let replicas: Vec<BrokerId> = nodes.iter().map(|node| broker_id(node.id).into()).collect();
    let brokers = nodes
        .iter()
        .map(|node| {
            let host = node.advertised_host.as_ref().unwrap_or(&node.host);
            MetadataResponseBroker::default()
                .with_node_id(broker_id(node.id).into())
                .with_host(StrBytes::from_string(host.clone()))
                .with_port(node.client_port.into())
        })
        .collect();
    let partition = |index: usize| {
        let (error, leader, epoch) = match leader {
            Some((leader, term)) => (0, broker_id(leader), leader_epoch(term)),
            None => (ResponseError::LeaderNotAvailable.code(), -1, -1),
        };
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
            .with_leader_id(leader.into())
            .with_leader_epoch(epoch)
            .with_replica_nodes(replicas.clone())
            .with_isr_nodes(replicas.clone())
    };
    let topics = found.iter().map(|found| match &found.is {
        Ok((name, topic, count)) => MetadataResponseTopic::default()
            .with_name(Some(TopicName(name.clone())))
            .with_topic_id(topic_id(cluster, *topic))
            .with_partitions((0..*count).map(partition).collect()),
        Err(error) => {
            let (name, id) = match &found.topic {
                Topic::Name(name) => (name.clone(), Uuid::nil()),
                Topic::Id(id) => (StrBytes::default(), *id),
            };
            MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(Some(TopicName(name)))
                .with_topic_id(id)
        }
    });
    MetadataResponse::default()
        .with_brokers(brokers)
        .with_controller_id(leader.map_or(-1, |(leader, _)| broker_id(leader)).into())
        .with_cluster_id(Some(StrBytes::from_string(cluster.to_string())))
        .with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::tests::encodes;
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use serde_json::json;

    const CLUSTER: Uuid = Uuid::from_u128(0xab00);

    fn roster() -> Vec<Node> {
        let roster = json!([
            {"id": 1, "host": "a", "client_port": 9001},
            {"id": 2, "host": "b", "advertised_host": "b.example", "client_port": 9002},
            {"id": 3, "host": "c"},
        ]);
        serde_json::from_value(roster).unwrap()
    }

    fn found() -> Vec<Found> {
        vec![
            Found { topic: Topic::Name("t".into()), is: Ok(("t".into(), 5, 2)) },
            Found { topic: Topic::Name("gone".into()), is: Err(ResponseError::UnknownTopicOrPartition) },
            Found { topic: Topic::Id(Uuid::from_u128(9)), is: Err(ResponseError::UnknownTopicId) },
        ]
    }

    #[test]
    fn the_leader_leads_every_partition_and_every_node_holds_it() {
        let answer = describe(&roster(), Some((2, 7)), CLUSTER, &found());
        let brokers: Vec<_> = answer
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, broker.host.as_str(), broker.port))
            .collect();
        assert_eq!(brokers, [(1, "a", 9001), (2, "b.example", 9002), (3, "c", 9000)]);
        assert_eq!(answer.controller_id.0, 2);
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 3, 100]);
        let ids: Vec<u128> = answer.topics.iter().map(|topic| topic.topic_id.as_u128()).collect();
        assert_eq!(ids, [0xab05, 0, 9], "the number is folded into the cluster's identity");
        assert_eq!(answer.topics[0].partitions.len(), 2);
        for (index, partition) in (0..).zip(&answer.topics[0].partitions) {
            assert_eq!((partition.error_code, partition.partition_index), (0, index));
            assert_eq!((partition.leader_id.0, partition.leader_epoch), (2, 7));
            assert_eq!((&partition.replica_nodes, partition.isr_nodes.len()), (&partition.isr_nodes, 3));
        }
    }

    #[test]
    fn a_topic_asked_for_again_and_again_is_answered_once_and_found_by_its_number() {
        let mut stream = Stream::default();
        let mut payload = BytesMut::new();
        creation("t", 1000, Vec::new()).encode(&mut payload);
        stream.apply(1, 1, &payload.freeze());
        let named = MetadataRequestTopic::default().with_name(Some(TopicName("t".into())));
        let numbered = |id| MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        let mut topics = vec![named; 100_000];
        topics.extend(vec![numbered(topic_id(CLUSTER, 1)); 50_000]);
        topics.extend(vec![numbered(Uuid::from_u128(9)); 50_000]);
        let body = MetadataRequest::default().with_topics(Some(topics));
        let unknown = ResponseError::UnknownTopicOrPartition;
        let found = find(&stream, &Wanted::new(&body, 12), CLUSTER, unknown);
        let is: Vec<_> = found.into_iter().map(|found| found.is).collect();
        let there = Ok(("t".into(), 1, 1000));
        assert_eq!(is, [there.clone(), there, Err(ResponseError::UnknownTopicId)]);
    }

    #[test]
    fn an_election_is_told_and_not_kept_silent() {
        let answer = describe(&roster(), None, CLUSTER, &found());
        assert_eq!((answer.controller_id.0, answer.brokers.len()), (-1, 3));
        for partition in &answer.topics[0].partitions {
            assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (5, -1, -1));
        }
    }

    #[test]
    fn every_version_can_be_sent() {
        encodes(ApiKey::Metadata, |_| describe(&roster(), Some((2, 7)), CLUSTER, &found()));
    }

    #[test]
    fn null_means_all_topics_and_so_does_an_empty_list_in_version_zero() {
        let is_all = |topics: Option<Vec<MetadataRequestTopic>>, version| {
            let body = MetadataRequest::default().with_topics(topics);
            matches!(Wanted::new(&body, version), Wanted::All)
        };
        assert!(is_all(None, 1) && is_all(None, 9) && is_all(Some(vec![]), 0));
        assert!(
            !is_all(Some(vec![]), 1)
                && !is_all(Some(vec![]), 9)
                && !is_all(Some(vec![Default::default()]), 0)
        );
    }
}
