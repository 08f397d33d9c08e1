//! IncrementalAlterConfigs, which names what changes, and AlterConfigs, which names all that is to be set.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request as of_full;
use kafka_protocol::messages::alter_configs_response as full_answer;
use kafka_protocol::messages::incremental_alter_configs_request as of_incremental;
use kafka_protocol::messages::incremental_alter_configs_response as incremental_answer;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::topic;
use crate::net::kafka::answer::Answer;
use crate::net::kafka::changes::{self, Plan, Refused, once, refuse};
use crate::net::kafka::errors;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::session::Session;
use crate::state_machine::command::Command;
use crate::state_machine::config::{self, Kind};
use crate::state_machine::{StateMachine, Topic};

/// The requests have no time limit of their own.
const LIMIT: Duration = Duration::from_secs(30);

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What is to be set, and with `None` what is to be taken back.
type Changes = BTreeMap<String, Option<String>>;
/// What has a configuration: its kind and its name.
type Resource = (i8, StrBytes);

/// Serves IncrementalAlterConfigs, here or through the leader.
pub fn incremental(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: IncrementalAlterConfigsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = changes::elsewhere(&session, &request).await {
            return outcome;
        }
        let nodes = session.node().roster().len();
        let plans = {
            let resource = |wanted: &of_incremental::AlterConfigsResource| {
                (wanted.resource_type, wanted.resource_name.clone())
            };
            let changes = |topic: &Topic, wanted: &of_incremental::AlterConfigsResource| {
                changed(topic, &wanted.configs, nodes)
            };
            plans(&session.node().state_machine(), &body.resources, resource, changes)
        };
        let done = carry_out(&session, plans, body.validate_only).await;
        let responses = done.into_iter().map(|((kind, name), error, why)| {
            incremental_answer::AlterConfigsResourceResponse::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_error_code(error)
                .with_error_message(why)
        });
        request.to.send(&IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
    }))
}

/// Serves AlterConfigs, here or through the leader.
pub fn full(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: AlterConfigsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        if let Some(outcome) = changes::elsewhere(&session, &request).await {
            return outcome;
        }
        let nodes = session.node().roster().len();
        let plans = {
            let resource =
                |wanted: &of_full::AlterConfigsResource| (wanted.resource_type, wanted.resource_name.clone());
            let changes = |topic: &Topic, wanted: &of_full::AlterConfigsResource| {
                replaced(topic, &wanted.configs, nodes)
            };
            plans(&session.node().state_machine(), &body.resources, resource, changes)
        };
        let done = carry_out(&session, plans, body.validate_only).await;
        let responses = done.into_iter().map(|((kind, name), error, why)| {
            full_answer::AlterConfigsResourceResponse::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_error_code(error)
                .with_error_message(why)
        });
        request.to.send(&AlterConfigsResponse::default().with_responses(responses.collect()))
    }))
}

/// What becomes of each resource, once, where `changes` says what is wanted of a topic.
fn plans<T>(
    state_machine: &StateMachine,
    wanted: &[T],
    resource: impl Fn(&T) -> Resource,
    changes: impl Fn(&Topic, &T) -> Result<Changes, Refused>,
) -> Vec<(i8, Plan)> {
    let each = once(wanted, resource).into_iter().map(|((kind, name), wanted)| {
        let plan = match wanted {
            None => refuse(ResponseError::InvalidRequest, "the request names it more than once"),
            Some(wanted) => topic(state_machine, kind, &name).and_then(|topic| {
                let changes = changes(topic, wanted)?;
                Ok(Command::AlterTopic { name: topic.name.clone(), changes })
            }),
        };
        (kind, (name, plan))
    });
    each.collect()
}

/// Makes the changes, unless they are only to be checked; gives the error of each.
async fn carry_out(
    session: &Session,
    plans: Vec<(i8, Plan)>,
    validate_only: bool,
) -> Vec<(Resource, i16, Option<StrBytes>)> {
    let (kinds, mut plans): (Vec<i8>, Vec<Plan>) = plans.into_iter().unzip();
    if !validate_only {
        changes::carry_out(session, LIMIT, &mut plans).await;
    }
    let results = kinds.into_iter().zip(plans).map(|(kind, (name, plan))| {
        let (error, why) = plan.map_or_else(|(error, why)| (error.code(), why), |_| (errors::NONE, None));
        ((kind, name), error, why.map(StrBytes::from_string))
    });
    results.collect()
}

/// The changes that name what changes, in a cluster of so many nodes.
fn changed(
    topic: &Topic,
    wanted: &[of_incremental::AlterableConfig],
    nodes: usize,
) -> Result<Changes, Refused> {
    let mut changes = Changes::new();
    for config in wanted {
        let key = config.name.to_string();
        let value = match (config.config_operation, &config.value) {
            (DELETE, _) => None,
            (SET, Some(value)) => Some(checked(&key, value, nodes)?),
            (operation @ (APPEND | SUBTRACT), Some(value)) => {
                let Some(setting) = config::find(&key).filter(|setting| setting.kind == Kind::List) else {
                    return refuse(ResponseError::InvalidConfig, format!("{key} is not a list"));
                };
                let now = topic.configs.get(&key).map_or(setting.default, String::as_str);
                Some(checked(&key, &with_change(now, value, operation == APPEND), nodes)?)
            }
            (SET | APPEND | SUBTRACT, None) => return without_value(&key),
            (operation, _) => {
                let why = format!("{key}: there is no change of number {operation}");
                return refuse(ResponseError::InvalidRequest, why);
            }
        };
        if changes.insert(key, value).is_some() {
            return twice(&config.name);
        }
    }
    Ok(changes)
}

/// The changes after which a topic has what is named and nothing else.
fn replaced(topic: &Topic, wanted: &[of_full::AlterableConfig], nodes: usize) -> Result<Changes, Refused> {
    let mut named = HashSet::new();
    let mut changes: Changes = topic.configs.keys().map(|key| (key.clone(), None)).collect();
    for config in wanted {
        let key = config.name.to_string();
        let Some(value) = &config.value else { return without_value(&key) };
        if !named.insert(&config.name) {
            return twice(&config.name);
        }
        let value = checked(&key, value, nodes)?;
        changes.insert(key, Some(value));
    }
    Ok(changes)
}

fn checked(key: &str, value: &str, nodes: usize) -> Result<String, Refused> {
    config::check(key, value, nodes).map_err(|why| (ResponseError::InvalidConfig, Some(why)))?;
    Ok(value.to_owned())
}

fn without_value<T>(key: &str) -> Result<T, Refused> {
    refuse(ResponseError::InvalidRequest, format!("{key} is to be changed, and no value is given"))
}

fn twice<T>(key: &str) -> Result<T, Refused> {
    refuse(ResponseError::InvalidRequest, format!("{key} is named more than once"))
}

/// A list with `change` put behind it, or taken from it.
fn with_change(list: &str, change: &str, append: bool) -> String {
    let parts = |list: &str| -> Vec<String> {
        list.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    };
    let (mut list, change) = (parts(list), parts(change));
    list.retain(|part| append || !change.contains(part));
    let new: Vec<String> = change.into_iter().filter(|part| append && !list.contains(part)).collect();
    list.extend(new);
    list.join(",")
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::super::tests::state_machine;
    use super::super::{BROKER, TOPIC};
    use super::*;
    use crate::net::kafka::tests::encodes;
    use crate::state_machine::retention::{RETENTION_BYTES, RETENTION_MS};

    const POLICY: &str = "cleanup.policy";
    const INVALID: ResponseError = ResponseError::InvalidConfig;

    fn now() -> StateMachine {
        state_machine(BTreeMap::from([(RETENTION_MS.to_owned(), "1000".to_owned())]))
    }

    fn change(changes: &[(&'static str, i8, Option<&'static str>)]) -> Result<Changes, ResponseError> {
        let config = |(key, operation, value): &(&'static str, i8, Option<&'static str>)| {
            of_incremental::AlterableConfig::default()
                .with_name(StrBytes::from_static_str(key))
                .with_config_operation(*operation)
                .with_value(value.map(StrBytes::from_static_str))
        };
        let configs: Vec<_> = changes.iter().map(config).collect();
        changed(now().topic("t").unwrap(), &configs, 3).map_err(|(error, _)| error)
    }

    fn replace(settings: &[(&'static str, Option<&'static str>)]) -> Result<Changes, ResponseError> {
        let config = |(key, value): &(&'static str, Option<&'static str>)| {
            of_full::AlterableConfig::default()
                .with_name(StrBytes::from_static_str(key))
                .with_value(value.map(StrBytes::from_static_str))
        };
        let configs: Vec<_> = settings.iter().map(config).collect();
        replaced(now().topic("t").unwrap(), &configs, 3).map_err(|(error, _)| error)
    }

    fn changes(changes: &[(&str, Option<&str>)]) -> Result<Changes, ResponseError> {
        Ok(changes.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect())
    }

    #[test]
    fn what_is_named_changes() {
        assert_eq!(change(&[(RETENTION_MS, SET, Some("5"))]), changes(&[(RETENTION_MS, Some("5"))]));
        assert_eq!(change(&[(RETENTION_MS, DELETE, None)]), changes(&[(RETENTION_MS, None)]));
        assert_eq!(change(&[(POLICY, APPEND, Some("delete"))]), changes(&[(POLICY, Some("delete"))]));
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        for (key, operation, value) in [
            (POLICY, APPEND, "compact"),
            (POLICY, SET, "compact"),
            (POLICY, SUBTRACT, "delete"),
            ("no.such", SET, "1"),
            (RETENTION_MS, SET, "-2"),
            (RETENTION_MS, SET, "a day"),
            (RETENTION_MS, APPEND, "5"),
        ] {
            assert_eq!(change(&[(key, operation, Some(value))]), Err(INVALID), "{key} {operation}");
        }
        assert_eq!(replace(&[("no.such", Some("1"))]), Err(INVALID));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        let invalid = || Err(ResponseError::InvalidRequest);
        assert_eq!(change(&[(RETENTION_MS, SET, None)]), invalid());
        assert_eq!(change(&[(RETENTION_MS, 4, Some("5"))]), invalid());
        assert_eq!(change(&[(RETENTION_MS, DELETE, None), (RETENTION_MS, SET, Some("5"))]), invalid());
        assert_eq!(replace(&[(RETENTION_MS, None)]), invalid());
        assert_eq!(replace(&[(RETENTION_MS, Some("5")), (RETENTION_MS, Some("5"))]), invalid());
    }

    #[test]
    fn what_is_not_named_by_the_old_request_is_taken_back() {
        let bytes = (RETENTION_BYTES, Some("7"));
        assert_eq!(replace(&[bytes]), changes(&[bytes, (RETENTION_MS, None)]));
        assert_eq!(replace(&[(RETENTION_MS, Some("5"))]), changes(&[(RETENTION_MS, Some("5"))]));
        assert_eq!(replace(&[]), changes(&[(RETENTION_MS, None)]));
    }

    #[test]
    fn only_topics_change_and_each_once() {
        let wanted = [(TOPIC, "t"), (BROKER, "1"), (8, "1"), (TOPIC, "u"), (TOPIC, "v"), (TOPIC, "v")];
        let plans = plans(
            &now(),
            &wanted,
            |(kind, name)| (*kind, StrBytes::from_static_str(name)),
            |_, _| Ok(Changes::new()),
        );
        let codes: Vec<_> = plans
            .iter()
            .map(|(_, (_, plan))| plan.as_ref().err().map_or(0, |(error, _)| error.code()))
            .collect();
        assert_eq!(codes, [0, 42, 42, 3, 42]);
    }

    #[test]
    fn every_version_can_be_sent() {
        let full = full_answer::AlterConfigsResourceResponse::default().with_error_message(None);
        encodes(ApiKey::AlterConfigs, |_| AlterConfigsResponse::default().with_responses(vec![full.clone()]));
        let incremental =
            incremental_answer::AlterConfigsResourceResponse::default().with_error_message(None);
        encodes(ApiKey::IncrementalAlterConfigs, |_| {
            IncrementalAlterConfigsResponse::default().with_responses(vec![incremental.clone()])
        });
    }
}
