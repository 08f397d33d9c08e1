//! CreateTopics and DeleteTopics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;

use super::apis::Answer;
use super::errors;
use super::frame::{BadRequest, Outcome, Request};
use super::session::Session;
use crate::handle::ProposeError;
use crate::stream::command::{Command, Refusal, Reply};
use crate::stream::config;
use crate::stream::valid_topic_name;

/// A topic that is not created or deleted, and what to tell the client.
pub type Refused = (ResponseError, Option<String>);

/// The command that creates a topic.
pub fn creation(name: &str, partitions: u32, configs: Vec<(String, String)>) -> Command {
    Command::CreateTopic { name: name.to_owned(), partitions, configs: configs.into_iter().collect() }
}

/// Serves CreateTopics, here or through the leader.
pub fn create(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: CreateTopicsRequest = request.decode()?;
    let cluster = &session.node().file().cluster;
    let rules = Rules {
        nodes: session.node().roster().len(),
        default_partitions: cluster.topics.default_partitions,
        repeated: repeated(&body),
    };
    let session = Arc::clone(session);
    let request = request.clone();
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        let mut plans: Vec<_> =
            body.topics.iter().map(|topic| (topic.name.0.clone(), rules.plan(topic))).collect();
        if body.validate_only {
            let stream = session.node().stream();
            for (name, plan) in &mut plans {
                if plan.is_ok() && stream.topic(name).is_some() {
                    *plan = Err(refused(Refusal::TopicExists));
                }
            }
        } else {
            carry_out(&session, limit(body.timeout_ms), &mut plans).await;
        }
        request.to.send(&created(plans, rules.nodes))
    }))
}

/// Serves DeleteTopics, here or through the leader.
pub fn delete(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DeleteTopicsRequest = request.decode()?;
    let session = Arc::clone(session);
    let request = request.clone();
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        let mut plans: Vec<_> = body
            .topic_names
            .iter()
            .map(|name| (name.0.clone(), Ok(Command::DeleteTopic { name: name.to_string() })))
            .collect();
        carry_out(&session, limit(body.timeout_ms), &mut plans).await;
        request.to.send(&deleted(plans))
    }))
}

/// The leader's answer when this node does not lead and the leader can be asked.
pub async fn elsewhere(session: &Session, request: &Request) -> Option<Outcome> {
    if session.leadership().serving { None } else { session.ask_leader(request).await }
}

/// The client's time limit.
fn limit(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1))
}

/// One topic of a request: what to do, or why not.
pub type Plan = (StrBytes, Result<Command, Refused>);

/// Proposes what is planned as one unit; what does not come about becomes an error.
pub async fn carry_out(session: &Session, limit: Duration, plans: &mut [Plan]) {
    let commands: Vec<Command> = plans.iter().filter_map(|(_, plan)| plan.as_ref().ok().cloned()).collect();
    if commands.is_empty() {
        return;
    }
    let replies = if session.leadership().serving {
        timeout(limit, session.node().propose(&commands)).await.unwrap_or(Err(ProposeError::Unknown))
    } else {
        Err(ProposeError::NotLeader(session.leadership().leader))
    };
    settle(plans, replies);
}

fn settle(plans: &mut [Plan], replies: Result<Vec<Reply>, ProposeError>) {
    let open = plans.iter_mut().map(|(_, plan)| plan).filter(|plan| plan.is_ok());
    match replies {
        Ok(replies) => {
            for (plan, reply) in open.zip(replies) {
                if let Reply::Refused(why) = reply {
                    *plan = Err(refused(why));
                }
            }
        }
        Err(error) => open.for_each(|plan| *plan = Err((errors::topics(error), Some(error.to_string())))),
    }
}

fn refused(why: Refusal) -> Refused {
    // Names are checked before anything is proposed, so it must be the number.
    let code =
        if why == Refusal::InvalidTopic { ResponseError::InvalidPartitions } else { errors::refusal(why) };
    (code, Some(why.to_string()))
}

fn repeated(body: &CreateTopicsRequest) -> HashMap<StrBytes, bool> {
    let mut repeated = HashMap::new();
    for topic in &body.topics {
        repeated.entry(topic.name.0.clone()).and_modify(|twice| *twice = true).or_insert(false);
    }
    repeated
}

/// What a new topic is checked against.
struct Rules {
    nodes: usize,
    default_partitions: u32,
    /// Names in the request, and whether they occur more than once.
    repeated: HashMap<StrBytes, bool>,
}

impl Rules {
    fn plan(&self, topic: &CreatableTopic) -> Result<Command, Refused> {
        let refuse = |error, why: String| Err((error, Some(why)));
        let name = &topic.name.0;
        if !valid_topic_name(name) {
            return refuse(
                ResponseError::InvalidTopicException,
                "a topic's name has 1 to 249 letters, digits, dots, dashes and underscores".to_owned(),
            );
        }
        if self.repeated.get(name).copied().unwrap_or(false) {
            return refuse(
                ResponseError::InvalidRequest,
                "the request names the topic more than once".to_owned(),
            );
        }
        if !topic.assignments.is_empty() {
            return refuse(
                ResponseError::InvalidReplicaAssignment,
                "every node holds every partition: leave the assignment out".to_owned(),
            );
        }
        let factor = topic.replication_factor;
        if factor != -1 && !(1..=self.nodes).contains(&usize::try_from(factor).unwrap_or(0)) {
            return refuse(
                ResponseError::InvalidReplicationFactor,
                format!("the cluster has {} nodes, and every node holds every partition", self.nodes),
            );
        }
        let partitions = match topic.num_partitions {
            -1 => self.default_partitions,
            number => match u32::try_from(number) {
                Ok(number) if number > 0 => number,
                _ => return refuse(ResponseError::InvalidPartitions, "at least one partition".to_owned()),
            },
        };
        let configs: Vec<_> = topic
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
            .collect();
        for (key, value) in &configs {
            config::check(key, value, self.nodes).map_err(|why| (ResponseError::InvalidConfig, Some(why)))?;
        }
        Ok(creation(name, partitions, configs))
    }
}

fn created(plans: Vec<Plan>, nodes: usize) -> CreateTopicsResponse {
    let topics = plans.into_iter().map(|(name, plan)| {
        let result = CreatableTopicResult::default().with_name(TopicName(name));
        match plan {
            Ok(Command::CreateTopic { partitions, .. }) => result
                .with_error_message(None)
                .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
                .with_replication_factor(i16::try_from(nodes).unwrap_or(i16::MAX)),
            Ok(_) => result.with_error_message(None),
            Err((error, why)) => {
                result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string))
            }
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn deleted(plans: Vec<Plan>) -> DeleteTopicsResponse {
    let topics = plans.into_iter().map(|(name, plan)| {
        let result = DeletableTopicResult::default().with_name(Some(TopicName(name)));
        match plan {
            Ok(_) => result,
            // Only version 5 has room for the message.
            Err((error, _)) => result.with_error_code(error.code()),
        }
    });
    DeleteTopicsResponse::default().with_responses(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::tests::encodes;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;

    fn rules() -> Rules {
        Rules { nodes: 3, default_partitions: 4, repeated: HashMap::new() }
    }

    fn topic(name: &'static str, partitions: i32, factor: i16) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(factor)
    }

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", "...", "__consumer_offsets", &"x".repeat(249)] {
            assert!(valid_topic_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(250)] {
            assert!(!valid_topic_name(bad), "{bad}");
        }
    }

    #[test]
    fn minus_one_takes_the_defaults() {
        assert_eq!(rules().plan(&topic("t", -1, -1)), Ok(creation("t", 4, vec![])));
        assert_eq!(rules().plan(&topic("t", 9, 3)), Ok(creation("t", 9, vec![])));
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_fitting_code() {
        let code = |topic: &CreatableTopic| rules().plan(topic).map_err(|(error, _)| error);
        assert_eq!(code(&topic("a/b", 1, 1)), Err(ResponseError::InvalidTopicException));
        assert_eq!(code(&topic("t", 0, 1)), Err(ResponseError::InvalidPartitions));
        assert_eq!(code(&topic("t", -2, 1)), Err(ResponseError::InvalidPartitions));
        assert_eq!(code(&topic("t", 1, 4)), Err(ResponseError::InvalidReplicationFactor));
        assert_eq!(code(&topic("t", 1, 0)), Err(ResponseError::InvalidReplicationFactor));
        let config = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("retention.ms"))
            .with_value(Some(StrBytes::from_static_str("soon")));
        assert_eq!(code(&topic("t", 1, 1).with_configs(vec![config])), Err(ResponseError::InvalidConfig));
        let assigned = topic("t", -1, -1).with_assignments(vec![Default::default()]);
        assert_eq!(code(&assigned), Err(ResponseError::InvalidReplicaAssignment));
    }

    #[test]
    fn a_name_given_twice_is_refused_both_times() {
        let body = CreateTopicsRequest::default().with_topics(vec![
            topic("t", 1, 1),
            topic("t", 1, 1),
            topic("u", 1, 1),
        ]);
        let rules = Rules { repeated: repeated(&body), ..rules() };
        let refused: Vec<bool> = body.topics.iter().map(|topic| rules.plan(topic).is_err()).collect();
        assert_eq!(refused, [true, true, false]);
    }

    #[test]
    fn replies_go_to_the_topics_that_were_proposed() {
        let mut plans: Vec<Plan> = vec![
            ("bad".into(), Err((ResponseError::InvalidPartitions, None))),
            ("old".into(), Ok(creation("old", 1, vec![]))),
            ("new".into(), Ok(creation("new", 2, vec![]))),
        ];
        settle(&mut plans, Ok(vec![Reply::Refused(Refusal::TopicExists), Reply::TopicCreated(3)]));
        let answer = created(plans, 3);
        encodes(ApiKey::CreateTopics, |_| answer.clone());
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [37, 36, 0]);
        assert_eq!((answer.topics[2].num_partitions, answer.topics[2].replication_factor), (2, 3));
    }

    #[test]
    fn deleting_what_is_not_there_fails_alone() {
        let plan = |name: &'static str| (name.into(), Ok(Command::DeleteTopic { name: name.to_owned() }));
        let mut plans: Vec<Plan> = vec![plan("a"), plan("b")];
        settle(&mut plans, Ok(vec![Reply::Refused(Refusal::UnknownTopic), Reply::Done]));
        let answer = deleted(plans);
        encodes(ApiKey::DeleteTopics, |_| answer.clone());
        assert_eq!((answer.responses[0].error_code, answer.responses[1].error_code), (3, 0));
    }

    #[test]
    fn a_leader_that_was_lost_is_told_of_every_topic() {
        let mut plans: Vec<Plan> = vec![("a".into(), Ok(creation("a", 1, vec![])))];
        settle(&mut plans, Err(ProposeError::NotLeader(Some(2))));
        assert_eq!(created(plans, 3).topics[0].error_code, ResponseError::NotController.code());
    }
}
