//! CreateTopics and DeleteTopics.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use shared::ids::NodeId;
use shared::spec::ClusterFile;
use uuid::Uuid;

use super::answer::Answer;
use super::changes::{Plan, Refused, carry_out, elsewhere, limit, once, refuse, refused};
use super::configs::of_topic;
use super::frame::{BadRequest, Request};
use super::ids::{broker_id, topic_id, topic_numbered};
use super::leader_epoch;
use super::session::Session;
use crate::state_machine::command::{Command, Refusal, Reply};
use crate::state_machine::config;
use crate::state_machine::{MAX_PARTITIONS, StateMachine, valid_topic_name};

/// What the default settings of a topic take at most in an answer.
const SETTINGS_BYTES: usize = 2 << 10;
/// Topics of a request that are answered with their settings. A request of a few bytes for each of very many would have an
/// answer of hundreds of megabytes; whoever creates so many does not read them one by one.
const WITH_SETTINGS: usize = 1_000;
/// From this version of the API on there are settings in the answer.
const TELLS_SETTINGS: i16 = 5;

/// The command that creates a topic.
pub fn creation(name: &str, partitions: u32, configs: Vec<(String, String)>) -> Command {
    Command::CreateTopic { name: name.to_owned(), partitions, configs: configs.into_iter().collect() }
}

/// Serves CreateTopics, here or through the leader.
pub fn create(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: CreateTopicsRequest = request.decode()?;
    let rules = Rules {
        members: session.node().roster().iter().map(|node| node.id).collect(),
        default_partitions: session.node().file().cluster.topics.default_partitions,
    };
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        let mut plans = rules.plans(&body);
        let mut replies = Vec::new();
        if body.validate_only {
            foresee(&session.node().state_machine(), &mut plans);
        } else {
            replies = carry_out(&session, limit(body.timeout_ms), &mut plans).await;
        }
        let cluster = session.node().state_machine().cluster_id().map(|id| id.0).unwrap_or_default();
        let size = described_size(&plans);
        let (of, nodes) = (Arc::clone(&session), rules.members.len());
        let make = move || {
            let mut settings = Settings::new(of.node().file(), nodes, request.to.version);
            request.to.send(&created(plans, &replies, cluster, &mut settings))
        };
        session.shared.memory.answer(size, make).await
    }))
}

/// Refuses what would be refused.
fn foresee(state_machine: &StateMachine, plans: &mut [Plan]) {
    let mut room = state_machine.remaining_partitions();
    for (name, plan) in plans {
        if let Ok(Command::CreateTopic { partitions, .. }) = plan {
            if state_machine.topic(name).is_some() {
                *plan = Err(refused(Refusal::TopicExists));
            } else if let Err(why) = check_room(&mut room, *partitions as usize) {
                *plan = Err(why);
            }
        }
    }
}

/// Serves DeleteTopics, here or through the leader.
pub fn delete(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let mut body: DeleteTopicsRequest = request.decode()?;
    let named = body.topic_names.drain(..).map(|name| DeleteTopicState::default().with_name(Some(name)));
    body.topics.extend(named);
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = elsewhere(&session, &request).await {
            return outcome;
        }
        // That there is no topic of an id must not be said by a node that may lead no more.
        let by_id = body.topics.iter().any(|topic| topic.name.is_none());
        let leads = !by_id || leader_epoch::prove(&session).await.is_ok();
        let (topics, mut plans) = removals(&session.node().state_machine(), &body.topics, leads);
        carry_out(&session, limit(body.timeout_ms), &mut plans).await;
        request.to.send(&deleted(&topics, plans))
    }))
}

/// The topics to delete, each once and with name and id as far as both are known, and what to do with each.
fn removals(
    state_machine: &StateMachine,
    topics: &[DeleteTopicState],
    leads: bool,
) -> (Vec<DeleteTopicState>, Vec<Plan>) {
    let cluster = state_machine.cluster_id().map(|id| id.0).unwrap_or_default();
    let each =
        once(topics, |topic| (topic.name.clone(), topic.topic_id)).into_iter().map(|(asked, wanted)| {
            let is = match &asked {
                (Some(name), _) => state_machine.topic(name),
                (None, id) => topic_numbered(state_machine, cluster, *id),
            };
            let plan = match (&asked, is) {
                _ if wanted.is_none() => {
                    refuse(ResponseError::InvalidRequest, "the request names the topic more than once")
                }
                ((Some(name), id), _) if id.is_nil() => Ok(Command::DeleteTopic { name: name.to_string() }),
                ((Some(_), _), _) => {
                    refuse(ResponseError::InvalidRequest, "name the topic or its id, not both")
                }
                ((None, id), _) if id.is_nil() => {
                    refuse(ResponseError::InvalidRequest, "neither a name nor an id")
                }
                _ if !leads => Err((ResponseError::NotController, None)),
                (_, None) => refuse(ResponseError::UnknownTopicId, "no topic has this id"),
                // By its number, for by then its name may be another topic's.
                (_, Some(topic)) => Ok(Command::DeleteTopicById { topic: topic.id }),
            };
            let named =
                |topic: &crate::state_machine::Topic| TopicName(StrBytes::from_string(topic.name.clone()));
            let numbered = |topic: &crate::state_machine::Topic| topic_id(cluster, topic.id);
            let state = DeleteTopicState::default()
                .with_name(asked.0.or(is.map(named)))
                .with_topic_id(is.map_or(asked.1, numbered));
            (state.clone(), (state.name.unwrap_or_default().0, plan))
        });
    each.unzip()
}

/// How many partitions a topic may have.
pub fn partitions(wanted: i32) -> Result<u32, Refused> {
    match u32::try_from(wanted) {
        Ok(number) if (1..=MAX_PARTITIONS).contains(&number) => Ok(number),
        _ => {
            refuse(ResponseError::InvalidPartitions, format!("a topic has 1 to {MAX_PARTITIONS} partitions"))
        }
    }
}

/// Takes so many partitions off the room that all topics have.
pub fn check_room(room: &mut usize, partitions: usize) -> Result<(), Refused> {
    *room = room.checked_sub(partitions).ok_or_else(|| refused(Refusal::TooManyPartitions))?;
    Ok(())
}

/// Whether the nodes that somebody wishes each partition on are members. Every node holds every partition all the same.
pub fn check_assigned<'a>(
    mut wishes: impl Iterator<Item = &'a Vec<BrokerId>>,
    members: &[NodeId],
) -> Result<(), Refused> {
    let known = |id: &BrokerId| members.iter().any(|member| broker_id(*member) == id.0);
    let sound = |ids: &Vec<BrokerId>| {
        let again = |(place, id): (usize, &BrokerId)| ids[..place].contains(id);
        // Known and different: no more than there are members, so comparing all with all is little.
        !ids.is_empty()
            && ids.len() <= members.len()
            && ids.iter().all(known)
            && !ids.iter().enumerate().any(again)
    };
    if wishes.all(sound) {
        return Ok(());
    }
    refuse(
        ResponseError::InvalidReplicaAssignment,
        format!("a partition is assigned to members, each once: {members:?}"),
    )
}

/// What a new topic is checked against.
struct Rules {
    members: Vec<NodeId>,
    default_partitions: u32,
}

impl Rules {
    fn plans(&self, body: &CreateTopicsRequest) -> Vec<Plan> {
        let once = once(&body.topics, |topic| topic.name.0.clone()).into_iter();
        let plan = |topic: Option<&CreatableTopic>| match topic {
            Some(topic) => self.plan(topic),
            None => refuse(ResponseError::InvalidRequest, "the request names the topic more than once"),
        };
        once.map(|(name, topic)| (name, plan(topic))).collect()
    }

    fn plan(&self, topic: &CreatableTopic) -> Result<Command, Refused> {
        let name = &topic.name.0;
        if !valid_topic_name(name) {
            let why = "a topic's name has 1 to 249 letters, digits, dots, dashes and underscores";
            return refuse(ResponseError::InvalidTopicException, why);
        }
        let nodes = self.members.len();
        let factor = topic.replication_factor;
        if factor != -1 && !(1..=nodes).contains(&usize::try_from(factor).unwrap_or(0)) {
            return refuse(
                ResponseError::InvalidReplicationFactor,
                format!("the cluster has {nodes} nodes, and every node holds every partition"),
            );
        }
        let partitions = match topic.num_partitions {
            _ if !topic.assignments.is_empty() => self.assigned(topic)?,
            -1 => self.default_partitions,
            number => partitions(number)?,
        };
        let configs: Vec<_> = topic
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
            .collect();
        for (key, value) in &configs {
            config::check(key, value, self.members.len())
                .map_err(|why| (ResponseError::InvalidConfig, Some(why)))?;
        }
        Ok(creation(name, partitions, configs))
    }

    /// How many partitions a topic gets whose partitions are assigned to nodes one by one.
    fn assigned(&self, topic: &CreatableTopic) -> Result<u32, Refused> {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let why = "with replica assignments, number of partitions and replication factor are -1";
            return refuse(ResponseError::InvalidRequest, why);
        }
        let mut indexes: Vec<i32> = topic.assignments.iter().map(|wish| wish.partition_index).collect();
        indexes.sort_unstable();
        if !indexes.into_iter().eq(0..i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX)) {
            let why = "the assigned partitions are not numbered from 0 on without gaps";
            return refuse(ResponseError::InvalidReplicaAssignment, why);
        }
        check_assigned(topic.assignments.iter().map(|wish| &wish.broker_ids), &self.members)?;
        partitions(i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))
    }
}

/// Bytes that the answer takes at most beside the names: those of the settings that it tells.
fn described_size(plans: &[Plan]) -> usize {
    let configs = plans.iter().filter_map(|(_, plan)| match plan {
        Ok(Command::CreateTopic { configs, .. }) => Some(configs),
        _ => None,
    });
    let text = |(key, value): (&String, &String)| key.len() + value.len();
    configs.take(WITH_SETTINGS).map(|own| SETTINGS_BYTES + own.iter().map(text).sum::<usize>()).sum()
}

/// The settings of new topics in an answer.
struct Settings<'a> {
    file: &'a ClusterFile,
    nodes: usize,
    /// Those of a topic without any of its own.
    defaults: Vec<CreatableTopicConfigs>,
    /// Number of topics whose settings may be told yet.
    left: usize,
}

impl<'a> Settings<'a> {
    fn new(file: &'a ClusterFile, nodes: usize, version: i16) -> Self {
        let left = if version < TELLS_SETTINGS { 0 } else { WITH_SETTINGS };
        Self { file, nodes, defaults: settings(&BTreeMap::new(), file, nodes), left }
    }

    /// Adds those of a topic with these of its own; that there are too many topics, if so.
    fn tell(&mut self, own: &BTreeMap<String, String>, result: CreatableTopicResult) -> CreatableTopicResult {
        let Some(left) = self.left.checked_sub(1) else {
            let error = ResponseError::PolicyViolation.code();
            return result.with_configs(None).with_topic_config_error_code(error);
        };
        self.left = left;
        let told = if own.is_empty() { self.defaults.clone() } else { settings(own, self.file, self.nodes) };
        result.with_configs(Some(told))
    }
}

fn settings(own: &BTreeMap<String, String>, file: &ClusterFile, nodes: usize) -> Vec<CreatableTopicConfigs> {
    let setting = |(name, value, source)| {
        CreatableTopicConfigs::default().with_name(name).with_value(value).with_config_source(source)
    };
    of_topic(own, file, nodes).into_iter().map(setting).collect()
}

fn created(
    plans: Vec<Plan>,
    replies: &[Reply],
    cluster: Uuid,
    settings: &mut Settings<'_>,
) -> CreateTopicsResponse {
    let mut replies = replies.iter();
    let topics = plans.into_iter().map(|(name, plan)| {
        let result = CreatableTopicResult::default().with_name(TopicName(name));
        match plan {
            Ok(Command::CreateTopic { partitions, configs, .. }) => {
                let id = match replies.next() {
                    Some(Reply::TopicCreated(id)) => topic_id(cluster, *id),
                    _ => Uuid::nil(),
                };
                let result = result
                    .with_error_message(None)
                    .with_topic_id(id)
                    .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
                    .with_replication_factor(i16::try_from(settings.nodes).unwrap_or(i16::MAX));
                settings.tell(&configs, result)
            }
            Ok(_) => result.with_error_message(None),
            Err((error, why)) => {
                result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string))
            }
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn deleted(topics: &[DeleteTopicState], plans: Vec<Plan>) -> DeleteTopicsResponse {
    let topics = topics.iter().zip(plans).map(|(topic, (_, plan))| {
        let result =
            DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        match plan {
            Ok(_) => result.with_error_message(None),
            Err((error, why)) => {
                result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string))
            }
        }
    });
    DeleteTopicsResponse::default().with_responses(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::changes::settle;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::encodes;
    use crate::replica::ProposeError;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
    use kafka_protocol::protocol::Encodable;
    use serde_json::json;
    use std::sync::LazyLock;

    fn rules() -> Rules {
        Rules { members: vec![1, 2, 3], default_partitions: 4 }
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
    }

    #[test]
    fn too_many_partitions_are_told_how_many_there_may_be() {
        let (error, why) = rules().plan(&topic("t", 5000, 1)).unwrap_err();
        assert_eq!(error, ResponseError::InvalidPartitions);
        assert!(why.unwrap().contains("1000"));
        let (error, why) = check_room(&mut 2, 3).unwrap_err();
        assert_eq!(error, ResponseError::PolicyViolation);
        assert!(why.unwrap().contains("100000"));
    }

    #[test]
    fn replicas_may_be_wished_on_members() {
        let to = |index: i32, ids: &[i32]| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index)
                .with_broker_ids(ids.iter().map(|id| (*id).into()).collect())
        };
        let plan = |wishes| rules().plan(&topic("t", -1, -1).with_assignments(wishes));
        assert_eq!(plan(vec![to(1, &[3]), to(0, &[1, 2])]), Ok(creation("t", 2, vec![])));
        for wishes in [
            vec![to(0, &[4])],
            vec![to(0, &[])],
            vec![to(0, &[1, 1])],
            vec![to(0, &[-1])],
            vec![to(1, &[1])],
            vec![to(0, &[1]), to(0, &[2])],
        ] {
            let refused = plan(wishes.clone()).map_err(|(error, _)| error);
            assert_eq!(refused, Err(ResponseError::InvalidReplicaAssignment), "{wishes:?}");
        }
        for numbers in [(1, -1), (-1, 1)] {
            let both = topic("t", numbers.0, numbers.1).with_assignments(vec![to(0, &[1])]);
            assert_eq!(rules().plan(&both).unwrap_err().0, ResponseError::InvalidRequest);
        }
    }

    #[test]
    fn a_name_given_twice_is_refused_and_answered_once() {
        let topics = vec![topic("t", 1, 1), topic("t", 1, 1), topic("u", 1, 1), topic("t", 1, 1)];
        let plans = rules().plans(&CreateTopicsRequest::default().with_topics(topics));
        let answer = created(plans, &[Reply::TopicCreated(1)], Uuid::nil(), &mut told());
        let seen: Vec<_> =
            answer.topics.iter().map(|topic| (topic.name.0.as_str(), topic.error_code)).collect();
        assert_eq!(seen, [("t", ResponseError::InvalidRequest.code()), ("u", 0)]);
    }

    fn file() -> ClusterFile {
        let file = json!({"cluster": {"nodes": [{"id": 2, "host": "b"}], "topics": {"retention_bytes": 5}}});
        serde_json::from_value(file).unwrap()
    }

    fn told() -> Settings<'static> {
        static FILE: LazyLock<ClusterFile> = LazyLock::new(file);
        Settings::new(&FILE, 3, TELLS_SETTINGS)
    }

    #[test]
    fn a_topic_that_is_created_is_answered_with_its_settings() {
        let own = vec![("retention.ms".to_owned(), "1000".to_owned())];
        let plans: Vec<Plan> = vec![("t".into(), Ok(creation("t", 1, own)))];
        let most = described_size(&plans);
        let answer = created(plans, &[Reply::TopicCreated(1)], Uuid::nil(), &mut told());
        let takes = answer.compute_size(7).unwrap();
        assert!(takes <= most && most < 2 * takes, "{takes} bytes instead of at most {most}");
        let configs = answer.topics[0].configs.clone().unwrap();
        let seen = |key: &str| {
            let found = configs.iter().find(|config| config.name.as_str() == key).unwrap();
            (found.value.as_deref().unwrap(), found.config_source)
        };
        assert_eq!((seen("retention.ms"), seen("retention.bytes")), (("1000", 1), ("5", 4)));
        assert_eq!(seen("cleanup.policy"), ("delete", 5));
    }

    #[test]
    fn of_very_many_topics_the_first_ones_are_answered_with_their_settings() {
        let one = |_| ("t".into(), Ok(creation("t", 1, vec![])));
        let plans: Vec<Plan> = (0..=WITH_SETTINGS).map(one).collect();
        let most = described_size(&plans);
        assert_eq!(most, WITH_SETTINGS * SETTINGS_BYTES);
        let answer = created(plans, &[], Uuid::nil(), &mut told());
        encodes(ApiKey::CreateTopics, |_| answer.clone());
        assert!(answer.compute_size(7).unwrap() <= most);
        let (last, first) = answer.topics.split_last().unwrap();
        assert!(first.iter().all(|topic| topic.configs == first[0].configs && topic.configs.is_some()));
        let error = ResponseError::PolicyViolation.code();
        assert_eq!((last.configs.is_none(), last.topic_config_error_code), (true, error));
        assert_eq!((last.error_code, last.num_partitions), (0, 1), "it is created all the same");
    }

    #[test]
    fn what_would_be_refused_is_foreseen() {
        let mut plans: Vec<Plan> =
            vec![("t".into(), Ok(creation("t", 1, vec![]))), ("u".into(), Ok(creation("u", 1, vec![])))];
        foresee(&state_machine(&[]), &mut plans);
        let codes = plans.into_iter().map(|(_, plan)| plan.map_err(|(error, _)| error).map(drop));
        assert!(codes.eq([Err(ResponseError::TopicAlreadyExists), Ok(())]));
    }

    #[test]
    fn replies_go_to_the_topics_that_were_proposed() {
        let mut plans: Vec<Plan> = vec![
            ("bad".into(), Err((ResponseError::InvalidPartitions, None))),
            ("old".into(), Ok(creation("old", 1, vec![]))),
            ("new".into(), Ok(creation("new", 2, vec![]))),
        ];
        let replies =
            settle(&mut plans, Ok(vec![Reply::Refused(Refusal::TopicExists), Reply::TopicCreated(3)]));
        let answer = created(plans, &replies, Uuid::from_u128(0xab00), &mut told());
        encodes(ApiKey::CreateTopics, |_| answer.clone());
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [37, 36, 0]);
        assert_eq!((answer.topics[2].num_partitions, answer.topics[2].replication_factor), (2, 3));
        assert_eq!(answer.topics[2].topic_id, Uuid::from_u128(0xab03));
    }

    fn deletion(name: Option<&'static str>, id: u128) -> DeleteTopicState {
        let name = name.map(|name| TopicName(StrBytes::from_static_str(name)));
        DeleteTopicState::default().with_name(name).with_topic_id(Uuid::from_u128(id))
    }

    #[test]
    fn deleting_what_is_not_there_fails_alone() {
        let wanted = [deletion(Some("a"), 0), deletion(Some("t"), 0)];
        let (topics, mut plans) = removals(&state_machine(&[]), &wanted, true);
        settle(&mut plans, Ok(vec![Reply::Refused(Refusal::UnknownTopic), Reply::Done]));
        let answer = deleted(&topics, plans);
        encodes(ApiKey::DeleteTopics, |_| answer.clone());
        assert_eq!((answer.responses[0].error_code, answer.responses[1].error_code), (3, 0));
        assert_eq!(answer.responses[1].topic_id, Uuid::from_u128(1));
    }

    #[test]
    fn a_topic_is_deleted_by_its_id_and_by_nothing_else_of_its_name() {
        let wanted = [deletion(None, 1), deletion(None, 9), deletion(None, 0), deletion(Some("t"), 1)];
        let (topics, plans) = removals(&state_machine(&[]), &wanted, true);
        assert_eq!(plans[0], ("t".into(), Ok(Command::DeleteTopicById { topic: 1 })));
        let answer = deleted(&topics, plans);
        let codes: Vec<i16> = answer.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 100, 42, 42]);
        assert_eq!(answer.responses[0].name, Some(TopicName("t".into())));
        assert_eq!((&answer.responses[1].name, answer.responses[1].topic_id), (&None, Uuid::from_u128(9)));
        let (_, plans) = removals(&state_machine(&[]), &wanted, false);
        assert_eq!(plans[1].1.as_ref().unwrap_err().0, ResponseError::NotController);
        let twice = [deletion(None, 1), deletion(Some("u"), 0), deletion(None, 1)];
        let (topics, plans) = removals(&state_machine(&[]), &twice, true);
        assert_eq!((topics.len(), plans[0].1.as_ref().unwrap_err().0), (2, ResponseError::InvalidRequest));
    }

    #[test]
    fn a_leader_that_was_lost_is_told_of_every_topic() {
        let mut plans: Vec<Plan> = vec![("a".into(), Ok(creation("a", 1, vec![])))];
        settle(&mut plans, Err(ProposeError::NotLeader(Some(2))));
        assert_eq!(
            created(plans, &[], Uuid::nil(), &mut told()).topics[0].error_code,
            ResponseError::NotController.code()
        );
    }
}
