//! DescribeConfigs and IncrementalAlterConfigs, for topics. Nodes are configured by cluster.yaml alone.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::session::Session;
use super::topics::{self, Plan, Refused};
use crate::state_machine::command::Command;
use crate::state_machine::config::{self, Kind, SETTINGS};
use crate::state_machine::retention::{RETENTION_BYTES, RETENTION_MS};
use crate::state_machine::{StateMachine, Topic};

/// What Kafka calls a topic among the things that have a configuration.
const TOPIC: i8 = 2;
/// The request has no time limit of its own.
const LIMIT: Duration = Duration::from_secs(30);

/// Where a setting comes from: set for the topic, or the node's default.
const OF_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;
/// What a topic's description takes at most, besides the settings of its own.
const DESCRIBED: usize = 8 << 10;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Serves DescribeConfigs, here or through the leader.
pub fn describe(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeConfigsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = topics::elsewhere(&session, &request).await {
            return outcome;
        }
        let (of, to) = (Arc::clone(&session), request.to);
        let size = described_size(&session.node().state_machine(), &body);
        let make = move || to.send(&describe_all(&of, &body));
        session.shared.memory.answer(size, make).await
    }))
}

/// Bytes that the answer takes at most.
fn described_size(state_machine: &StateMachine, body: &DescribeConfigsRequest) -> usize {
    let named = body.resources.iter().filter_map(|wanted| state_machine.topic(&wanted.resource_name));
    // A value stands there twice when clients ask where it comes from.
    let own = named.flat_map(|topic| &topic.configs).map(|(key, value)| 64 + 2 * (key.len() + value.len()));
    own.sum::<usize>() + body.resources.len() * DESCRIBED
}

fn describe_all(session: &Session, body: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let defaults = defaults(session);
    let state_machine = session.node().state_machine();
    // Each once: what is asked for in a few bytes may have a long answer.
    let mut seen = HashSet::new();
    let once =
        body.resources.iter().filter(|wanted| seen.insert((wanted.resource_type, &wanted.resource_name)));
    let results = once.map(|wanted| described(&state_machine, &defaults, wanted)).collect();
    DescribeConfigsResponse::default().with_results(results)
}

/// Serves IncrementalAlterConfigs, here or through the leader.
pub fn alter(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: IncrementalAlterConfigsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = topics::elsewhere(&session, &request).await {
            return outcome;
        }
        let nodes = session.node().roster().len();
        let mut plans: Vec<Plan> = body
            .resources
            .iter()
            .map(|wanted| {
                (wanted.resource_name.clone(), plan(&session.node().state_machine(), nodes, wanted))
            })
            .collect();
        if !body.validate_only {
            topics::carry_out(&session, LIMIT, &mut plans).await;
        }
        let results = body.resources.iter().zip(plans).map(|(wanted, (name, plan))| {
            let result = AlterConfigsResourceResponse::default()
                .with_resource_type(wanted.resource_type)
                .with_resource_name(name)
                .with_error_message(None);
            match plan {
                Ok(_) => result,
                Err((error, why)) => {
                    result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string))
                }
            }
        });
        request.to.send(&IncrementalAlterConfigsResponse::default().with_responses(results.collect()))
    }))
}

/// Settings that every topic has, whether it names them or not.
fn defaults(session: &Session) -> BTreeMap<&'static str, String> {
    let topics = session.node().file().cluster.topics;
    let number = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
    let mut defaults: BTreeMap<_, _> =
        SETTINGS.iter().map(|setting| (setting.key, setting.default.to_owned())).collect();
    defaults.insert(RETENTION_MS, number(topics.retention_ms));
    defaults.insert(RETENTION_BYTES, number(topics.retention_bytes));
    defaults
}

fn topic<'a>(state_machine: &'a StateMachine, kind: i8, name: &StrBytes) -> Result<&'a Topic, Refused> {
    if kind != TOPIC {
        let why = "only topics have a configuration here; a node's is its cluster.yaml";
        return Err((ResponseError::InvalidRequest, Some(why.to_owned())));
    }
    state_machine
        .topic(name)
        .ok_or_else(|| (ResponseError::UnknownTopicOrPartition, Some(format!("no topic {name:?}"))))
}

fn described(
    state_machine: &StateMachine,
    defaults: &BTreeMap<&'static str, String>,
    wanted: &DescribeConfigsResource,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(wanted.resource_type)
        .with_resource_name(wanted.resource_name.clone())
        .with_error_message(None);
    let topic = match topic(state_machine, wanted.resource_type, &wanted.resource_name) {
        Ok(topic) => topic,
        Err((error, why)) => {
            return result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string));
        }
    };
    let keys = wanted.configuration_keys.as_ref();
    let keys: Option<HashSet<&str>> = keys.map(|keys| keys.iter().map(|key| &**key).collect());
    let asked = |key: &str| keys.as_ref().is_none_or(|keys| keys.contains(key));
    let own = topic.configs.iter().map(|(key, value)| (key.as_str(), value, OF_TOPIC));
    let rest = defaults.iter().filter(|(key, _)| !topic.configs.contains_key(**key));
    let all = own.chain(rest.map(|(key, value)| (*key, value, DEFAULT)));
    let configs = all.filter(|(key, ..)| asked(key)).map(|(key, value, source)| {
        let kind = number_of(config::find(key).map_or(Kind::Text, |setting| setting.kind));
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(key.to_owned()))
            .with_value(Some(StrBytes::from_string(value.clone())))
            .with_config_source(source)
            .with_config_type(kind)
            .with_documentation(None)
    });
    result.with_configs(configs.collect())
}

/// Kafka's number of a kind of value.
fn number_of(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
    }
}

/// A list with `change` put behind it, or taken from it.
fn changed(list: &str, change: &str, append: bool) -> String {
    let parts = |list: &str| -> Vec<String> {
        list.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    };
    let (mut list, change) = (parts(list), parts(change));
    list.retain(|part| append || !change.contains(part));
    let new: Vec<String> = change.into_iter().filter(|part| append && !list.contains(part)).collect();
    list.extend(new);
    list.join(",")
}

/// The command that makes the changes asked for, in a cluster of so many nodes.
fn plan(
    state_machine: &StateMachine,
    nodes: usize,
    wanted: &AlterConfigsResource,
) -> Result<Command, Refused> {
    let topic = topic(state_machine, wanted.resource_type, &wanted.resource_name)?;
    let invalid = |why: String| (ResponseError::InvalidConfig, Some(why));
    let mut changes = BTreeMap::new();
    for config in &wanted.configs {
        let key = config.name.to_string();
        let value = match (config.config_operation, &config.value) {
            (SET, Some(value)) => Some(value.to_string()),
            (DELETE, _) => None,
            (operation @ (APPEND | SUBTRACT), Some(value)) => {
                let Some(setting) = config::find(&key).filter(|setting| setting.kind == Kind::List) else {
                    return Err(invalid(format!("{key} is not a list")));
                };
                let now = topic.configs.get(&key).map_or(setting.default, String::as_str);
                Some(changed(now, value, operation == APPEND))
            }
            _ => return Err(invalid(format!("{key}: there is no such change, or it lacks its value"))),
        };
        if let Some(value) = &value {
            config::check(&key, value, nodes).map_err(invalid)?;
        }
        changes.insert(key, value);
    }
    Ok(Command::AlterTopic { name: topic.name.clone(), changes })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;

    use super::*;
    use crate::net::kafka::tests::encodes;

    fn state_machine() -> StateMachine {
        let mut state_machine = StateMachine::default();
        let configs = BTreeMap::from([(RETENTION_MS.to_owned(), "1000".to_owned())]);
        let create = Command::CreateTopic { name: "t".to_owned(), partitions: 1, configs };
        let mut payload = BytesMut::new();
        create.encode(&mut payload);
        state_machine.apply(1, 1, &payload.freeze());
        state_machine
    }

    fn wanted(kind: i8, name: &'static str, keys: Option<&[&'static str]>) -> DescribeConfigsResource {
        let keys = keys.map(|keys| keys.iter().map(|key| StrBytes::from_static_str(key)).collect());
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_static_str(name))
            .with_configuration_keys(keys)
    }

    #[test]
    fn a_topics_own_settings_stand_beside_the_defaults() {
        let defaults = BTreeMap::from([(RETENTION_MS, "-1".to_owned()), (RETENTION_BYTES, "-1".to_owned())]);
        let describe = |wanted| described(&state_machine(), &defaults, &wanted);
        let seen = |result: DescribeConfigsResult| -> Vec<(String, String, i8)> {
            let configs = result.configs.iter();
            configs
                .map(|config| {
                    (config.name.to_string(), config.value.clone().unwrap().to_string(), config.config_source)
                })
                .collect()
        };
        let own = (RETENTION_MS.to_owned(), "1000".to_owned(), OF_TOPIC);
        let default = (RETENTION_BYTES.to_owned(), "-1".to_owned(), DEFAULT);
        assert_eq!(seen(describe(wanted(TOPIC, "t", None))), [own, default.clone()]);
        assert_eq!(seen(describe(wanted(TOPIC, "t", Some(&[RETENTION_BYTES, "x"])))), [default]);
        assert_eq!(describe(wanted(TOPIC, "u", None)).error_code, 3);
        assert_eq!(describe(wanted(4, "1", None)).error_code, 42);
        let results = vec![describe(wanted(TOPIC, "t", None)), describe(wanted(4, "1", None))];
        encodes(ApiKey::DescribeConfigs, |_| {
            DescribeConfigsResponse::default().with_results(results.clone())
        });
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        let change = |key: &'static str, operation, value: Option<&'static str>| {
            let config = AlterableConfig::default()
                .with_name(StrBytes::from_static_str(key))
                .with_config_operation(operation)
                .with_value(value.map(StrBytes::from_static_str));
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_static_str("t"))
                .with_configs(vec![config]);
            plan(&state_machine(), 3, &resource).map_err(|(error, _)| error)
        };
        let altered = |key: &str, value: Option<&str>| {
            let changes = BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]);
            Ok(Command::AlterTopic { name: "t".to_owned(), changes })
        };
        assert_eq!(change(RETENTION_MS, SET, Some("5")), altered(RETENTION_MS, Some("5")));
        assert_eq!(change(RETENTION_MS, DELETE, None), altered(RETENTION_MS, None));
        assert_eq!(
            change("cleanup.policy", APPEND, Some("delete")),
            altered("cleanup.policy", Some("delete"))
        );
        for (key, operation) in [("cleanup.policy", APPEND), ("cleanup.policy", SET), ("no.such", SET)] {
            assert_eq!(change(key, operation, Some("compact")), Err(ResponseError::InvalidConfig), "{key}");
        }
        assert_eq!(change("cleanup.policy", SUBTRACT, Some("delete")), Err(ResponseError::InvalidConfig));
        for (operation, value) in [(SET, Some("-2")), (SET, Some("a day")), (SET, None), (2, Some("5"))] {
            assert_eq!(change(RETENTION_MS, operation, value), Err(ResponseError::InvalidConfig));
        }
    }
}
