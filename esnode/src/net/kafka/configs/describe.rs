//! DescribeConfigs: of topics by the leader, of a node by itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use shared::spec::{ClusterFile, Node};

use super::of_node;
use super::{BROKER, DEFAULT, DYNAMIC_TOPIC, STATIC_BROKER, number_of, topic};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::changes::{self, Refused, refuse};
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::ids::broker_id;
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;
use crate::state_machine::config::{self, Kind, SETTINGS};

/// What a description takes at most, besides the settings that a topic has of its own.
const DESCRIBED: usize = 14 << 10;

/// Serves DescribeConfigs.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeConfigsRequest = request.decode()?;
    let (session, request) = (Arc::clone(session), request.clone());
    Ok(Answer::later(async move {
        // The leader knows what was just set. Of a node it knows nothing; what is asked for together is answered here.
        let of_topics = body.resources.iter().all(|wanted| wanted.resource_type != BROKER);
        if of_topics && let Some(outcome) = changes::elsewhere(&session, &request).await {
            return outcome;
        }
        let (of, to) = (Arc::clone(&session), request.to);
        let size = size(&session.node().state_machine(), &body);
        let make = move || {
            let (node, roster) = (of.node(), of.node().roster());
            let own = roster.iter().find(|member| member.id == node.node_id());
            let context = Context {
                file: node.file(),
                own: own.or(node.file().node(node.node_id())),
                nodes: roster.len(),
            };
            // The state is locked for one topic at a time: raft waits for it meanwhile.
            let of_topic = |kind, name: &StrBytes| {
                topic(&node.state_machine(), kind, name).map(|topic| topic.configs.clone())
            };
            to.send(&context.describe(&body, of_topic))
        };
        session.shared.memory.answer(size, make).await
    }))
}

/// Bytes that the answer takes at most.
fn size(state_machine: &StateMachine, body: &DescribeConfigsRequest) -> usize {
    let named = body.resources.iter().filter_map(|wanted| state_machine.topic(&wanted.resource_name));
    // A value stands there twice when clients ask where it comes from.
    let own = named.flat_map(|topic| &topic.configs).map(|(key, value)| 64 + 2 * (key.len() + value.len()));
    own.sum::<usize>() + body.resources.len() * DESCRIBED
}

/// All settings of a topic that has these of its own, in a cluster of so many nodes with this file: name, value and source.
pub fn of_topic(own: &Own, file: &ClusterFile, nodes: usize) -> Vec<(StrBytes, Option<StrBytes>, i8)> {
    let settings = Context { file, own: None, nodes }.topic(own).into_iter();
    settings.map(|setting| (setting.name, setting.value, setting.config_source)).collect()
}

/// The settings that a topic has of its own.
type Own = BTreeMap<String, String>;

/// What descriptions are made from, besides the topics.
struct Context<'a> {
    file: &'a ClusterFile,
    /// The node that describes, where it is known.
    own: Option<&'a Node>,
    nodes: usize,
}

impl Context<'_> {
    /// The answer. `of_topic` finds a topic by the kind of thing that is asked for, and its name.
    fn describe(
        &self,
        body: &DescribeConfigsRequest,
        of_topic: impl Fn(i8, &StrBytes) -> Result<Own, Refused>,
    ) -> DescribeConfigsResponse {
        // Each once: what is asked for in a few bytes may have a long answer.
        let mut seen = HashSet::new();
        let once =
            body.resources.iter().filter(|wanted| seen.insert((wanted.resource_type, &wanted.resource_name)));
        let results = once.map(|wanted| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(wanted.resource_type)
                .with_resource_name(wanted.resource_name.clone())
                .with_error_message(None);
            let described = match wanted.resource_type {
                BROKER => self.node(&wanted.resource_name),
                kind => of_topic(kind, &wanted.resource_name).map(|own| self.topic(&own)),
            };
            match described {
                Ok(configs) => result.with_configs(shown(configs, wanted, body)),
                Err((error, why)) => {
                    result.with_error_code(error.code()).with_error_message(why.map(StrBytes::from_string))
                }
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }

    fn topic(&self, own: &Own) -> Vec<DescribeConfigsResourceResult> {
        let known = SETTINGS.iter().map(|setting| setting.key);
        // An older program may have accepted others.
        let others = own.keys().map(String::as_str).filter(|key| config::find(key).is_none());
        known.chain(others).map(|key| self.setting(own, key)).collect()
    }

    fn node(&self, name: &StrBytes) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
        // Kafka's way to ask for what all nodes are told by clients, which is nothing.
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.own.filter(|own| broker_id(own.id).to_string() == name.as_str());
        let Some(own) = own else {
            let why = format!("each node describes itself, and this is not node {name:?}");
            return refuse(ResponseError::InvalidRequest, why);
        };
        let entries = of_node::entries(self.file, own, self.nodes).into_iter();
        Ok(entries
            .map(|entry| described(entry.key, &entry.value, entry.kind, entry.source).with_read_only(true))
            .collect())
    }

    /// A setting of a topic, whether it has it of its own or not, and where it would come from otherwise.
    fn setting(&self, own: &Own, key: &str) -> DescribeConfigsResourceResult {
        let mut sources = Vec::new();
        if let Some(value) = own.get(key) {
            sources.push((key, value.clone(), DYNAMIC_TOPIC));
        }
        let setting = config::find(key);
        if let Some(setting) = setting {
            let (value, source) = of_node::default_of(setting, self.file);
            let name = if setting.broker_key.is_empty() { key } else { setting.broker_key };
            sources.push((name, value, source));
            if source == STATIC_BROKER {
                sources.push((name, setting.default.to_owned(), DEFAULT));
            }
        }
        let kind = setting.map_or(Kind::Text, |setting| setting.kind);
        let (value, source) = sources.first().map_or(("", DEFAULT), |(_, value, source)| (value, *source));
        let synonyms = sources.iter().map(|(name, value, source)| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_value(Some(StrBytes::from_string(value.clone())))
                .with_source(*source)
        });
        let documentation = setting.map(|setting| StrBytes::from_string(setting.documentation(self.nodes)));
        described(key, value, kind, source)
            .with_synonyms(synonyms.collect())
            .with_documentation(documentation)
    }
}

fn described(key: &str, value: &str, kind: Kind, source: i8) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(key.to_owned()))
        .with_value(Some(StrBytes::from_string(value.to_owned())))
        .with_config_source(source)
        .with_config_type(number_of(kind))
        .with_documentation(None)
}

/// What of it the client wants to see.
fn shown(
    mut configs: Vec<DescribeConfigsResourceResult>,
    wanted: &DescribeConfigsResource,
    body: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    if let Some(keys) = wanted.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        let keys: HashSet<&str> = keys.iter().map(|key| &**key).collect();
        configs.retain(|config| keys.contains(config.name.as_str()));
    }
    if !body.include_synonyms {
        configs.iter_mut().for_each(|config| config.synonyms.clear());
    }
    if !body.include_documentation {
        configs.iter_mut().for_each(|config| config.documentation = None);
    }
    configs
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::protocol::Encodable;
    use serde_json::json;

    use super::super::TOPIC;
    use super::super::tests::state_machine;
    use super::*;
    use crate::net::kafka::tests::encodes;
    use crate::state_machine::retention::{RETENTION_BYTES, RETENTION_MS};

    fn wanted(kind: i8, name: &'static str, keys: Option<&[&'static str]>) -> DescribeConfigsResource {
        let keys = keys.map(|keys| keys.iter().map(|key| StrBytes::from_static_str(key)).collect());
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_static_str(name))
            .with_configuration_keys(keys)
    }

    /// Node 2, which answers about itself and a topic "t" with a `retention.ms` of 1000.
    fn describe(resources: Vec<DescribeConfigsResource>, details: bool) -> DescribeConfigsResponse {
        let file = json!({"cluster": {"nodes": [{"id": 2, "host": "b"}], "topics": {"retention_ms": 5}}});
        let file: ClusterFile = serde_json::from_value(file).unwrap();
        let context = Context { file: &file, own: file.node(2), nodes: 3 };
        let body = DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(details)
            .with_include_documentation(details);
        let state_machine = state_machine(BTreeMap::from([(RETENTION_MS.to_owned(), "1000".to_owned())]));
        let of_topic =
            |kind, name: &StrBytes| topic(&state_machine, kind, name).map(|topic| topic.configs.clone());
        let answer = context.describe(&body, of_topic);
        encodes(ApiKey::DescribeConfigs, |_| answer.clone());
        let takes = answer.compute_size(3).unwrap();
        let reckoned = size(&state_machine, &body);
        assert!(takes <= reckoned, "{takes} bytes instead of at most {reckoned}");
        answer
    }

    fn seen(result: &DescribeConfigsResult, key: &str) -> (String, i8, i8) {
        let config = result.configs.iter().find(|config| config.name.as_str() == key).unwrap();
        (config.value.clone().unwrap().to_string(), config.config_source, config.config_type)
    }

    #[test]
    fn a_topic_shows_every_setting_with_its_source_and_kind() {
        let answer = describe(vec![wanted(TOPIC, "t", None), wanted(TOPIC, "t", Some(&[]))], false);
        assert_eq!(answer.results.len(), 1, "twice is not answered twice");
        assert!(answer.results[0].configs.iter().all(|config| config.documentation.is_none()));
        let result = &answer.results[0];
        assert_eq!(result.configs.len(), SETTINGS.len());
        assert_eq!(seen(result, RETENTION_MS), ("1000".to_owned(), DYNAMIC_TOPIC, 5));
        assert_eq!(seen(result, RETENTION_BYTES), ("-1".to_owned(), DEFAULT, 5));
        assert_eq!(seen(result, "cleanup.policy"), ("delete".to_owned(), DEFAULT, 7));
        assert!(result.configs.iter().all(|config| config.synonyms.is_empty() && !config.read_only));
    }

    #[test]
    fn only_what_is_asked_for_is_shown_and_where_it_would_come_from() {
        let answer = describe(vec![wanted(TOPIC, "t", Some(&[RETENTION_MS, "x"]))], true);
        let [config] = &answer.results[0].configs[..] else { panic!("{answer:?}") };
        let documentation = config.documentation.as_deref();
        assert_eq!(documentation, Some("it must be a whole number from -1 to 9223372036854775807"));
        let synonyms: Vec<_> = config
            .synonyms
            .iter()
            .map(|synonym| (synonym.name.as_str(), synonym.value.as_deref().unwrap(), synonym.source))
            .collect();
        let broker = "log.retention.ms";
        assert_eq!(
            synonyms,
            [(RETENTION_MS, "1000", DYNAMIC_TOPIC), (broker, "5", STATIC_BROKER), (broker, "-1", DEFAULT)]
        );
    }

    #[test]
    fn a_node_describes_itself_and_nobody_changes_that() {
        let names = ["2", "", "1", "x"];
        let answer = describe(names.map(|name| wanted(BROKER, name, None)).to_vec(), true);
        let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 0, 42, 42]);
        assert_eq!(seen(&answer.results[0], "log.retention.ms"), ("5".to_owned(), STATIC_BROKER, 5));
        assert!(answer.results[0].configs.iter().all(|config| config.read_only));
        assert!(answer.results[1].configs.is_empty());
    }

    #[test]
    fn what_has_no_configuration_is_refused() {
        let answer = describe(vec![wanted(TOPIC, "u", None), wanted(8, "2", None)], false);
        let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [3, 42]);
    }
}
