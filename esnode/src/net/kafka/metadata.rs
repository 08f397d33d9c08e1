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
use shared::spec::Node;
use uuid::Uuid;

use super::answer::Answer;
use super::frame::{BadRequest, Outcome, ReplyTo, Request};
use super::ids::{TopicKey, broker_id, leader_epoch, topic_id};
use super::metadata_key::{MetadataKey, Operations};
use super::session::Session;
use super::topics::creation;
use crate::state_machine::{self, StateMachine, TopicId, valid_topic_name};

/// What anybody may do with a topic, as bits numbered by Kafka's operations: read 3, write 4, create 5, delete 6, alter 7,
/// describe 8, describe configs 10, alter configs 11. There are no rules that forbid any.
pub const OF_TOPIC: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same with the cluster: create, alter, describe, act as a node of it (9), describe and alter configs, write
/// idempotently (12).
pub const OF_CLUSTER: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// Nobody wanted to know.
pub const NOT_ASKED: i32 = i32::MIN;

const fn bits(operations: &[u32]) -> i32 {
    let (mut bits, mut at) = (0, 0);
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}

/// Serves Metadata.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: MetadataRequest = request.decode()?;
    let asked = Arc::new(Asked::new(&body, request.to.version));
    let may_create = body.allow_auto_topic_creation && session.node().file().cluster.topics.auto_create;
    let known = |session: &Session| asked.missing(&session.node().state_machine()).is_empty();
    let at_once =
        session.is_leader_sure() && (known(session) || (session.leadership().serving && !may_create));
    let (session, request) = (Arc::clone(session), request.clone());
    // Made when its turn comes, even if all is known: an answer may be large, and a client may ask thousands of times
    // and read none.
    Ok(Answer::later(async move {
        if at_once {
            return respond(&session, request.to, &asked, ResponseError::UnknownTopicOrPartition).await;
        }
        session.await_leader().await;
        let outcome = look_further(&session, &request, &asked, may_create).await;
        // A client that stays connected would ask this node again and again, and hear of no leader.
        if session.is_cut_off() { Outcome::Last(Box::new(outcome)) } else { outcome }
    }))
}

/// The answer when something is missing, or the leader was in doubt.
async fn look_further(
    session: &Arc<Session>,
    request: &Request,
    asked: &Arc<Asked>,
    may_create: bool,
) -> Outcome {
    let missing = asked.missing(&session.node().state_machine());
    if missing.is_empty() {
        return respond(session, request.to, asked, ResponseError::UnknownTopicOrPartition).await;
    }
    if session.leadership().serving {
        if may_create {
            create(session, &missing).await;
        }
    } else if let Some(outcome) = session.ask_leader(request).await {
        // It also knows of topics that this node will learn of in a moment.
        return outcome;
    }
    // Where topics are created, what is missing will be there soon; without a leader, who knows.
    let unsure = may_create || session.usable_leader().is_none();
    let otherwise =
        if unsure { ResponseError::LeaderNotAvailable } else { ResponseError::UnknownTopicOrPartition };
    respond(session, request.to, asked, otherwise).await
}

/// Makes the answer. The one about all topics, which every client of a large cluster asks for, is shared.
async fn respond(
    session: &Arc<Session>,
    to: ReplyTo,
    asked: &Arc<Asked>,
    otherwise: ResponseError,
) -> Outcome {
    let memory = &session.shared.memory;
    let (of, wanted) = (Arc::clone(session), Arc::clone(asked));
    let Wanted::Some(topics) = &asked.wanted else {
        let now = || look(session, to.version, asked.operations, |_, _| ()).0;
        let make = move || {
            let (key, found) = wanted.look(&of, to.version, otherwise);
            let body = to.body(&describe(&key, &found))?;
            Some((key, body))
        };
        let shared = session.shared.metadata.get(memory, now, make).await;
        return shared.map_or(Outcome::Close, |shared| to.share(shared));
    };
    let size = size(&session.node().state_machine(), topics, session.node().roster().len());
    let make = move || {
        let (key, found) = wanted.look(&of, to.version, otherwise);
        to.send(&describe(&key, &found))
    };
    memory.answer(size, make).await
}

async fn create(session: &Session, names: &[StrBytes]) {
    let partitions = session.node().file().cluster.topics.default_partitions;
    let commands: Vec<_> = names.iter().map(|name| creation(name, partitions, Vec::new())).collect();
    if let Err(error) = session.node().propose_many(&commands).await {
        tracing::debug!(%error, "topics could not be created for a client that named them");
    }
}

/// What a client wants to know.
struct Asked {
    wanted: Wanted,
    operations: Operations,
}

/// The topics that a client asks about.
enum Wanted {
    All,
    Some(Vec<TopicKey>),
}

impl Asked {
    fn new(body: &MetadataRequest, version: i16) -> Self {
        let operations = Operations {
            with_cluster: body.include_cluster_authorized_operations,
            with_topics: body.include_topic_authorized_operations,
        };
        let wanted = match &body.topics {
            None => Wanted::All,
            // Version 0 has no null.
            Some(topics) if topics.is_empty() && version == 0 => Wanted::All,
            Some(topics) => {
                // As in Kafka: one id, and all go by their ids. Java's Admin sends empty names with them.
                let by_id = topics.iter().any(|topic| !topic.topic_id.is_nil());
                let topics = topics.iter().map(|topic| match &topic.name {
                    Some(name) if !by_id => TopicKey::Name(name.0.clone()),
                    _ => TopicKey::Id(topic.topic_id),
                });
                // Each once: what is asked for in three bytes may take a thousand partitions to answer.
                let mut seen = HashSet::new();
                Wanted::Some(topics.filter(|topic| seen.insert(topic.clone())).collect())
            }
        };
        Self { wanted, operations }
    }

    /// Topics called by a name that nothing has but something may have.
    fn missing(&self, state_machine: &StateMachine) -> Vec<StrBytes> {
        let Wanted::Some(topics) = &self.wanted else { return Vec::new() };
        let names = topics.iter().filter_map(|topic| match topic {
            TopicKey::Name(name) if valid_topic_name(name) && state_machine.topic(name).is_none() => {
                Some(name.clone())
            }
            _ => None,
        });
        names.collect()
    }

    /// What the answer is made from, and its topics.
    fn look(&self, session: &Session, version: i16, otherwise: ResponseError) -> (MetadataKey, Vec<Found>) {
        let find =
            |state_machine: &StateMachine, cluster| find(state_machine, &self.wanted, cluster, otherwise);
        look(session, version, self.operations, find)
    }
}

/// What an answer is made from now, and what `find` finds in the state and the cluster's identity.
fn look<T>(
    session: &Session,
    version: i16,
    operations: Operations,
    find: impl FnOnce(&StateMachine, Uuid) -> T,
) -> (MetadataKey, T) {
    let (nodes, leader) = (session.node().roster(), session.usable_leader());
    let state_machine = session.node().frozen_state();
    // Nil before the cluster is bootstrapped, when there are no topics: never null.
    let cluster = state_machine.cluster_id().map(|id| id.0).unwrap_or_default();
    let found = find(&state_machine, cluster);
    (
        MetadataKey { version, operations, cluster, topics: state_machine.topics_version(), leader, nodes },
        found,
    )
}

/// Bytes that an answer about these topics takes at most, in any version, where there are so many nodes.
fn size(state_machine: &StateMachine, topics: &[TopicKey], nodes: usize) -> usize {
    const NODE: usize = 600;
    const TOPIC: usize = 300;
    let partition = 32 + 8 * nodes;
    let cluster = state_machine.cluster_id().map(|id| id.0).unwrap_or_default();
    let partitions = topics.iter().filter_map(|topic| topic.find(state_machine, cluster));
    let partitions: usize = partitions.map(|topic| topic.partitions.len()).sum();
    nodes * NODE + topics.len() * TOPIC + partitions * partition
}

/// A topic as the answer needs it, copied out of the state so that its lock is held briefly.
struct Found {
    topic: TopicKey,
    /// Name, number and how many partitions.
    is: Result<(StrBytes, TopicId, usize), ResponseError>,
}

fn find(
    state_machine: &StateMachine,
    wanted: &Wanted,
    cluster: Uuid,
    otherwise: ResponseError,
) -> Vec<Found> {
    let seen = |topic: &state_machine::Topic| {
        (StrBytes::from_string(topic.name.clone()), topic.id, topic.partitions.len())
    };
    let Wanted::Some(topics) = wanted else {
        return state_machine
            .topics()
            .map(|topic| Found { topic: TopicKey::Id(topic_id(cluster, topic.id)), is: Ok(seen(topic)) })
            .collect();
    };
    let look = |topic: &TopicKey| match (topic.find(state_machine, cluster), topic) {
        (Some(topic), _) => Ok(seen(topic)),
        (None, TopicKey::Name(name)) if valid_topic_name(name) => Err(otherwise),
        (None, TopicKey::Name(_)) => Err(ResponseError::InvalidTopicException),
        (None, TopicKey::Id(_)) => Err(topic.unknown()),
    };
    topics.iter().map(|topic| Found { topic: topic.clone(), is: look(topic) }).collect()
}

fn describe(key: &MetadataKey, found: &[Found]) -> MetadataResponse {
    let MetadataKey { version, operations, cluster, leader, nodes, .. } = key;
    let replicas: Vec<BrokerId> = nodes.iter().map(|node| broker_id(node.id).into()).collect();
    let brokers = nodes
        .iter()
        .map(|node| {
            MetadataResponseBroker::default()
                .with_node_id(broker_id(node.id).into())
                .with_host(StrBytes::from_string(advertised(node).to_owned()))
                .with_port(node.client_port.into())
        })
        .collect();
    let partition = |index: usize| {
        let (error, leader, epoch) = match *leader {
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
            .with_topic_id(topic_id(*cluster, *topic))
            .with_topic_authorized_operations(if operations.with_topics { OF_TOPIC } else { NOT_ASKED })
            .with_partitions((0..*count).map(partition).collect()),
        Err(error) => {
            let (name, id) = match &found.topic {
                TopicKey::Name(name) => (Some(TopicName(name.clone())), Uuid::nil()),
                // Versions before 12 have no null.
                TopicKey::Id(id) => ((*version < 12).then(TopicName::default), *id),
            };
            MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
        }
    });
    MetadataResponse::default()
        .with_brokers(brokers)
        .with_controller_id(leader.map_or(-1, |(leader, _)| broker_id(leader)).into())
        .with_cluster_id(Some(StrBytes::from_string(cluster.to_string())))
        .with_cluster_authorized_operations(if operations.with_cluster { OF_CLUSTER } else { NOT_ASKED })
        .with_topics(topics.collect())
}

/// Where clients reach a node.
pub fn advertised(node: &Node) -> &str {
    node.advertised_host.as_ref().unwrap_or(&node.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::tests::encodes;
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::protocol::Encodable;
    use serde_json::json;
    use shared::ids::NodeId;

    const CLUSTER: Uuid = Uuid::from_u128(0xab00);

    fn key(leader: Option<(NodeId, u64)>) -> MetadataKey {
        let operations = Operations::default();
        MetadataKey {
            version: 12,
            operations,
            cluster: CLUSTER,
            topics: (0, 0, 0),
            leader,
            nodes: roster().into(),
        }
    }

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
            Found { topic: TopicKey::Name("t".into()), is: Ok(("t".into(), 5, 2)) },
            Found { topic: TopicKey::Name("gone".into()), is: Err(ResponseError::UnknownTopicOrPartition) },
            Found { topic: TopicKey::Id(Uuid::from_u128(9)), is: Err(ResponseError::UnknownTopicId) },
        ]
    }

    #[test]
    fn the_leader_leads_every_partition_and_every_node_holds_it() {
        let answer = describe(&key(Some((2, 7))), &found());
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
        let mut state_machine = StateMachine::default();
        let mut payload = BytesMut::new();
        creation("t", 1000, Vec::new()).encode(&mut payload);
        state_machine.apply(1, 1, &payload.freeze());
        let named = MetadataRequestTopic::default().with_name(Some(TopicName("t".into())));
        let numbered = |id| MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        let ids = [vec![numbered(topic_id(CLUSTER, 1)); 50_000], vec![numbered(Uuid::from_u128(9)); 50_000]];
        let find = |topics| {
            let body = MetadataRequest::default().with_topics(Some(topics));
            let unknown = ResponseError::UnknownTopicOrPartition;
            let found = find(&state_machine, &Asked::new(&body, 12).wanted, CLUSTER, unknown);
            found.into_iter().map(|found| found.is).collect::<Vec<_>>()
        };
        let there = Ok(("t".into(), 1, 1000));
        assert_eq!(find(vec![named; 100_000]), std::slice::from_ref(&there));
        assert_eq!(find(ids.concat()), [there, Err(ResponseError::UnknownTopicId)]);
    }

    #[test]
    fn an_election_is_told_and_not_kept_silent() {
        let answer = describe(&key(None), &found());
        assert_eq!((answer.controller_id.0, answer.brokers.len()), (-1, 3));
        for partition in &answer.topics[0].partitions {
            assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (5, -1, -1));
        }
    }

    #[test]
    fn every_version_can_be_sent() {
        encodes(ApiKey::Metadata, |version| {
            describe(&MetadataKey { version, ..key(Some((2, 7))) }, &found())
        });
    }

    #[test]
    fn null_means_all_topics_and_so_does_an_empty_list_in_version_zero() {
        let is_all = |topics: Option<Vec<MetadataRequestTopic>>, version| {
            let body = MetadataRequest::default().with_topics(topics);
            matches!(Asked::new(&body, version).wanted, Wanted::All)
        };
        assert!(is_all(None, 1) && is_all(None, 9) && is_all(Some(vec![]), 0));
        assert!(
            !is_all(Some(vec![]), 1)
                && !is_all(Some(vec![]), 9)
                && !is_all(Some(vec![Default::default()]), 0)
        );
    }

    /// Java's Admin sends empty names with its ids.
    #[test]
    fn one_id_and_all_go_by_their_ids_and_what_is_unknown_has_no_name() {
        let topic = |id: u128| {
            let name = Some(TopicName::default());
            MetadataRequestTopic::default().with_name(name).with_topic_id(Uuid::from_u128(id))
        };
        let body = MetadataRequest::default().with_topics(Some(vec![topic(0xab05), topic(0), topic(9)]));
        let Wanted::Some(topics) = Asked::new(&body, 12).wanted else { panic!("all") };
        assert_eq!(topics, [0xab05, 0, 9].map(|id| TopicKey::Id(Uuid::from_u128(id))));
        let named = |version| {
            let answer = describe(&MetadataKey { version, ..key(None) }, &found());
            answer.topics.last().map(|topic| topic.name.is_some())
        };
        assert_eq!((named(11), named(12)), (Some(true), Some(false)));
    }

    /// The figures that a broker without an authorizer answers with.
    #[test]
    fn what_may_be_done_is_told_to_whom_asks() {
        let told = |asks: bool| {
            let operations = Operations { with_cluster: asks, with_topics: asks };
            let answer = describe(&MetadataKey { operations, ..key(None) }, &found());
            (answer.topics[0].topic_authorized_operations, answer.cluster_authorized_operations)
        };
        assert_eq!((told(true), told(false)), ((3576, 8096), (i32::MIN, i32::MIN)));
    }

    #[test]
    fn an_answer_is_as_large_as_was_reckoned_at_most() {
        let mut state_machine = StateMachine::default();
        for (index, partitions) in (1..).zip([1, 10, 1000]) {
            let mut payload = BytesMut::new();
            creation(&"t".repeat(249 - partitions as usize % 10), partitions, Vec::new())
                .encode(&mut payload);
            state_machine.apply(index, 1, &payload.freeze());
        }
        let topics: Vec<_> =
            state_machine.topics().map(|topic| TopicKey::Name(topic.name.clone().into())).collect();
        let reckoned = size(&state_machine, &topics, 3);
        let found = find(&state_machine, &Wanted::Some(topics), CLUSTER, ResponseError::UnknownTopicId);
        for version in 0..=13 {
            let answer = describe(&MetadataKey { version, ..key(Some((2, 7))) }, &found);
            let takes = answer.compute_size(version).unwrap();
            assert!(takes <= reckoned && reckoned < 3 * takes, "version {version}: {takes}, {reckoned}");
        }
    }
}
