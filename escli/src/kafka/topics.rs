//! Calls about topics and their settings. Any node takes them; followers ask the leader.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{millis, topic_name};
use super::error::check;
use super::{KafkaClient, KafkaError};

/// What Kafka calls a topic among the things that have settings.
const TOPIC: i8 = 2;
/// Where a setting comes from when it was set for the topic.
const OF_TOPIC: i8 = 1;
/// Changes of a setting.
const SET: i8 = 0;
const UNSET: i8 = 1;
/// Lets the cluster choose a number.
const DEFAULT: i16 = -1;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; the cluster's default when `None`.
    pub partitions: Option<i32>,
    /// Settings of its own.
    pub configs: Vec<(String, String)>,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Number of partitions, where the cluster says so.
    pub partitions: Option<i32>,
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its value.
    pub value: String,
    /// Whether it was set for this topic; otherwise it is the cluster's default.
    pub is_set: bool,
}

/// A change of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// Settings to set, with their values.
    pub set: Vec<(String, String)>,
    /// Settings to return to the cluster's default.
    pub unset: Vec<String>,
}

impl KafkaClient {
    /// Creates a topic, or with `only_validate` says whether it could be created.
    ///
    /// # Errors
    /// `Refused`; those of [`Self::ask_any`].
    pub async fn create_topic(
        &mut self,
        topic: &NewTopic,
        only_validate: bool,
    ) -> Result<CreatedTopic, KafkaError> {
        let configs = topic.configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let wanted = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions.unwrap_or(DEFAULT.into()))
            .with_replication_factor(DEFAULT)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(millis(self.limits().answer))
            .with_validate_only(only_validate);
        let response = self.changed(async |client| {
            let response = client.ask_any(5..=7, &request).await?;
            let result = response.topics.into_iter().next();
            let (code, message) = result
                .as_ref()
                .map_or((UNNAMED, None), |result| (result.error_code, result.error_message.as_ref()));
            check(code, message, || format!("cannot create topic {}", topic.name))?;
            Ok(result)
        });
        let partitions = response.await?.map(|result| result.num_partitions);
        Ok(CreatedTopic { partitions: partitions.filter(|count| *count > 0) })
    }

    /// Deletes a topic with all its events.
    ///
    /// # Errors
    /// `UnknownTopic`, `Refused`; those of [`Self::ask_any`].
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), KafkaError> {
        let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(millis(self.limits().answer));
        self.changed(async |client| {
            let response = client.ask_any(6..=6, &request).await?;
            let result = response.responses.first();
            let code = result.map_or(UNNAMED, |result| result.error_code);
            check_topic(code, result.and_then(|result| result.error_message.as_ref()), name, "delete")
        })
        .await
    }

    /// Gives a topic more partitions, `count` in all, or with `only_validate` says whether it could be done.
    ///
    /// # Errors
    /// `UnknownTopic`, `Refused`; those of [`Self::ask_any`].
    pub async fn extend_topic(
        &mut self,
        name: &str,
        count: i32,
        only_validate: bool,
    ) -> Result<(), KafkaError> {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(millis(self.limits().answer))
            .with_validate_only(only_validate);
        self.changed(async |client| {
            let response = client.ask_any(2..=3, &request).await?;
            let result = response.results.first();
            let code = result.map_or(UNNAMED, |result| result.error_code);
            check_topic(code, result.and_then(|result| result.error_message.as_ref()), name, "extend")
        })
        .await
    }

    /// Changes settings of a topic, or with `only_validate` says whether they could be changed.
    ///
    /// # Errors
    /// `UnknownTopic`, `Refused`; those of [`Self::ask_any`].
    pub async fn alter_topic(
        &mut self,
        name: &str,
        change: &ConfigChange,
        only_validate: bool,
    ) -> Result<(), KafkaError> {
        let one = |key: &str, operation, value: Option<&String>| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(operation)
                .with_value(value.map(|value| text(value)))
        };
        let set = change.set.iter().map(|(key, value)| one(key, SET, Some(value)));
        let unset = change.unset.iter().map(|key| one(key, UNSET, None));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configs(set.chain(unset).collect());
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource])
            .with_validate_only(only_validate);
        // To set the same values twice is the same as once.
        self.retried(async |client| {
            let response = client.ask_any(1..=1, &request).await?;
            let result = response.responses.first();
            let code = result.map_or(UNNAMED, |result| result.error_code);
            check_topic(code, result.and_then(|result| result.error_message.as_ref()), name, "alter")
        })
        .await
    }

    /// Returns all settings of these topics, by topic and key.
    ///
    /// # Errors
    /// `UnknownTopic`, `Refused`; those of [`Self::ask_any`].
    pub async fn configs(
        &mut self,
        names: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, Config>>, KafkaError> {
        let resource = |name: &String| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let request = DescribeConfigsRequest::default().with_resources(names.iter().map(resource).collect());
        self.retried(async |client| {
            let response = client.ask_any(1..=4, &request).await?;
            response.results.iter().map(described).collect()
        })
        .await
    }
}

/// What a response that leaves out what was asked for amounts to.
const UNNAMED: i16 = ResponseError::UnknownServerError.code();

fn described(result: &DescribeConfigsResult) -> Result<(String, BTreeMap<String, Config>), KafkaError> {
    let name = result.resource_name.to_string();
    check_topic(result.error_code, result.error_message.as_ref(), &name, "describe")?;
    let configs = result.configs.iter().map(|config| {
        let value = config.value.as_ref().map(|value| value.to_string()).unwrap_or_default();
        (config.name.to_string(), Config { value, is_set: config.config_source == OF_TOPIC })
    });
    Ok((name, configs.collect()))
}

fn check_topic(code: i16, message: Option<&StrBytes>, name: &str, verb: &str) -> Result<(), KafkaError> {
    if code == ResponseError::UnknownTopicOrPartition.code() {
        return Err(KafkaError::UnknownTopic(name.to_owned()));
    }
    check(code, message, || format!("cannot {verb} topic {name}"))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
