//! DescribeTopicPartitions: topics and their partitions, so many in one answer and the rest from a cursor on.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use shared::spec::Node;
use uuid::Uuid;

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::ids::{broker_id, leader_epoch, topic_id};
use super::metadata::OF_TOPIC;
use super::session::Session;
use crate::state_machine::{StateMachine, Topic, valid_topic_name};

/// Partitions in one answer, whatever the client allows.
const MAX_DESCRIBED: usize = 2000;
/// Bytes that a topic takes at most, and a partition besides its nodes.
const TOPIC: usize = 300;
const PARTITION: usize = 32;

/// Serves DescribeTopicPartitions.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeTopicPartitionsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        session.await_leader().await;
        let wanted = Wanted::new(&body);
        // The leader also knows of topics that this node will learn of in a moment.
        if !session.leadership().serving
            && wanted.has_missing(&session.node().state_machine())
            && let Some(outcome) = session.ask_leader(&request).await
        {
            return outcome;
        }
        let (of, to) = (Arc::clone(&session), request.to);
        let state = session.node().frozen_state();
        let size = wanted.size(&state, session.node().roster().len());
        let make = move || {
            let replicas = Replicas { leader: of.usable_leader(), nodes: members(&of.node().roster()) };
            to.send(&replicas.answer(&state, &wanted))
        };
        session.shared.memory.answer(size, make).await
    }))
}

fn members(nodes: &[Node]) -> Vec<BrokerId> {
    nodes.iter().map(|node| broker_id(node.id).into()).collect()
}

/// What a client wants to see.
struct Wanted {
    /// By name; all when there is none.
    topics: BTreeSet<StrBytes>,
    /// The first topic and its first partition.
    from: (StrBytes, usize),
    /// So many partitions at most.
    limit: usize,
    /// The cursor is none that an answer has named.
    is_invalid: bool,
}

impl Wanted {
    fn new(body: &DescribeTopicPartitionsRequest) -> Self {
        let topics: BTreeSet<StrBytes> = body.topics.iter().map(|topic| topic.name.0.clone()).collect();
        let (topic, partition) = match &body.cursor {
            Some(cursor) => (cursor.topic_name.0.clone(), cursor.partition_index),
            None => (StrBytes::default(), 0),
        };
        let is_invalid =
            partition < 0 || body.cursor.is_some() && !topics.is_empty() && !topics.contains(&topic);
        let limit = usize::try_from(body.response_partition_limit).unwrap_or(0).clamp(1, MAX_DESCRIBED);
        Self { topics, from: (topic, usize::try_from(partition).unwrap_or(0)), limit, is_invalid }
    }

    /// Whether a topic is not there that may well be elsewhere.
    fn has_missing(&self, state_machine: &StateMachine) -> bool {
        self.topics.iter().any(|name| valid_topic_name(name) && state_machine.topic(name).is_none())
    }

    /// Bytes that the answer takes at most, where there are so many nodes.
    fn size(&self, state_machine: &StateMachine, nodes: usize) -> usize {
        let topics = if self.topics.is_empty() {
            state_machine.topics().count().min(self.limit + 1)
        } else {
            self.topics.len()
        };
        (topics + 1) * TOPIC + self.limit * (PARTITION + 8 * nodes)
    }

    /// From the cursor on, by name: what there is, or is not.
    fn look<'a>(
        &'a self,
        state_machine: &'a StateMachine,
    ) -> Box<dyn Iterator<Item = (StrBytes, Option<&'a Topic>)> + 'a> {
        let is_due = move |name: &str| name >= self.from.0.as_str();
        if self.topics.is_empty() {
            let all = state_machine.topics().filter(move |topic| is_due(&topic.name));
            return Box::new(all.map(|topic| (StrBytes::from_string(topic.name.clone()), Some(topic))));
        }
        let named = self.topics.iter().filter(move |name| is_due(name));
        Box::new(named.map(|name| (name.clone(), state_machine.topic(name))))
    }
}

/// What is the same for every partition.
struct Replicas {
    leader: Option<(NodeId, u64)>,
    nodes: Vec<BrokerId>,
}

impl Replicas {
    fn answer(&self, state_machine: &StateMachine, wanted: &Wanted) -> DescribeTopicPartitionsResponse {
        let answer = DescribeTopicPartitionsResponse::default();
        if wanted.is_invalid {
            let topics = wanted.topics.iter().map(|name| failed(name.clone(), ResponseError::InvalidRequest));
            return answer.with_topics(topics.collect());
        }
        let cluster = state_machine.cluster_id().map(|id| id.0).unwrap_or_default();
        let (mut topics, mut left, mut next) = (Vec::new(), wanted.limit, None);
        for (name, topic) in wanted.look(state_machine) {
            let first = if name == wanted.from.0 { wanted.from.1 } else { 0 };
            let Some(topic) = topic else {
                let known = valid_topic_name(&name);
                let unknown = ResponseError::UnknownTopicOrPartition;
                topics.push(failed(name, if known { unknown } else { ResponseError::InvalidTopicException }));
                continue;
            };
            let upto = topic.partitions.len().min(first.saturating_add(left));
            if upto > first || left > 0 {
                topics.push(self.topic(cluster, topic, first..upto));
                left -= upto.saturating_sub(first);
            }
            if upto < topic.partitions.len() {
                next = Some(cursor(name, upto));
                break;
            }
        }
        answer.with_topics(topics).with_next_cursor(next)
    }

    fn topic(
        &self,
        cluster: Uuid,
        topic: &Topic,
        partitions: std::ops::Range<usize>,
    ) -> DescribeTopicPartitionsResponseTopic {
        let partitions = partitions.map(|index| {
            let (error, leader, epoch) = match self.leader {
                Some((leader, term)) => (0, broker_id(leader), leader_epoch(term)),
                None => (ResponseError::LeaderNotAvailable.code(), -1, -1),
            };
            DescribeTopicPartitionsResponsePartition::default()
                .with_error_code(error)
                .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
                .with_leader_id(leader.into())
                .with_leader_epoch(epoch)
                .with_replica_nodes(self.nodes.clone())
                .with_isr_nodes(self.nodes.clone())
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
            .with_topic_id(topic_id(cluster, topic.id))
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(OF_TOPIC)
    }
}

fn failed(name: StrBytes, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(name)))
        .with_error_code(error.code())
}

fn cursor(topic: StrBytes, partition: usize) -> Cursor {
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    Cursor::default().with_topic_name(TopicName(topic)).with_partition_index(partition)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::describe_topic_partitions_request as asked;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::net::kafka::tests::encodes;
    use crate::net::kafka::topics::creation;

    /// Topics "a" with 2 partitions, "b" with 1000 and "c" with one.
    fn state_machine() -> StateMachine {
        let mut state_machine = StateMachine::default();
        for (index, (name, partitions)) in (1..).zip([("a", 2), ("b", 1000), ("c", 1)]) {
            let mut payload = BytesMut::new();
            creation(name, partitions, Vec::new()).encode(&mut payload);
            state_machine.apply(index, 1, &payload.freeze());
        }
        state_machine
    }

    fn ask(
        topics: &[&'static str],
        limit: i32,
        from: Option<(&'static str, i32)>,
    ) -> DescribeTopicPartitionsResponse {
        let topics =
            topics.iter().map(|name| asked::TopicRequest::default().with_name(TopicName((*name).into())));
        let from = from.map(|(topic, partition)| {
            asked::Cursor::default().with_topic_name(TopicName(topic.into())).with_partition_index(partition)
        });
        let body = DescribeTopicPartitionsRequest::default()
            .with_topics(topics.collect())
            .with_response_partition_limit(limit)
            .with_cursor(from);
        let (state_machine, wanted) = (state_machine(), Wanted::new(&body));
        let replicas =
            Replicas { leader: Some((2, 7)), nodes: members(&[Node::at(1, "a"), Node::at(2, "b")]) };
        let answer = replicas.answer(&state_machine, &wanted);
        encodes(ApiKey::DescribeTopicPartitions, |_| answer.clone());
        assert!(answer.compute_size(0).unwrap() <= wanted.size(&state_machine, 2));
        answer
    }

    /// Topics with the number of their partitions or their error, and where the next answer begins.
    type Told<'a> = (Vec<(&'a str, usize, i16)>, Option<(&'a str, i32)>);

    fn told(answer: &DescribeTopicPartitionsResponse) -> Told<'_> {
        let topics = answer
            .topics
            .iter()
            .map(|topic| (topic.name.as_ref().unwrap().0.as_str(), topic.partitions.len(), topic.error_code));
        let next = answer.next_cursor.as_ref();
        (topics.collect(), next.map(|next| (next.topic_name.0.as_str(), next.partition_index)))
    }

    #[test]
    fn all_topics_are_told_from_cursor_to_cursor() {
        assert_eq!(told(&ask(&[], 5000, None)), (vec![("a", 2, 0), ("b", 1000, 0), ("c", 1, 0)], None));
        assert_eq!(told(&ask(&[], 2, None)), (vec![("a", 2, 0)], Some(("b", 0))));
        assert_eq!(told(&ask(&[], 600, Some(("b", 0)))), (vec![("b", 600, 0)], Some(("b", 600))));
        assert_eq!(told(&ask(&[], 600, Some(("b", 600)))), (vec![("b", 400, 0), ("c", 1, 0)], None));
        assert_eq!(told(&ask(&[], 0, Some(("bb", 5)))), (vec![("c", 1, 0)], None), "gone meanwhile");
    }

    #[test]
    fn named_topics_are_told_once_and_so_are_those_that_are_not_there() {
        let answer = ask(&["c", "x", "a", "c", "?"], 5000, None);
        assert_eq!(told(&answer), (vec![("?", 0, 17), ("a", 2, 0), ("c", 1, 0), ("x", 0, 3)], None));
        assert_eq!(told(&ask(&["a", "c"], 2, None)), (vec![("a", 2, 0)], Some(("c", 0))));
        let partition = &ask(&["c"], 1, None).topics[0].partitions[0];
        assert_eq!((partition.leader_id.0, partition.leader_epoch, partition.isr_nodes.len()), (2, 7, 2));
    }

    #[test]
    fn a_cursor_that_no_answer_named_is_refused() {
        for from in [("b", 0), ("a", -1)] {
            assert_eq!(told(&ask(&["a"], 5, Some(from))), (vec![("a", 0, 42)], None));
        }
    }
}
