//! `escli topic`.

use std::collections::BTreeMap;

use super::again::CommandLine;
use super::kafka::{Kafka, agree};
use crate::cli::topic::{Alter, Args, Create, What};
use crate::failure::{Exit, Failure};
use crate::hosts::ssh::quote;
use crate::kafka::metadata::Topic;
use crate::kafka::offsets::OffsetRange;
use crate::kafka::topics::{Config, ConfigChange, NewTopic};
use crate::kafka::{KafkaError, TopicPartition};
use crate::settings::Settings;
use crate::view::topic::{Change, Changed, Description};
use crate::view::{self, topic};

/// Lists, describes, creates, alters or deletes topics.
///
/// # Errors
/// Usage; refused; the cluster cannot be reached.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        What::List => list(settings).await,
        What::Describe { topics } => describe(settings, topics).await,
        What::Create(args) => create(settings, args).await,
        What::Alter(args) => alter(settings, args).await,
        What::Delete { topics } => delete(settings, topics).await,
    }
}

async fn list(settings: &Settings) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open(settings)?;
    let topics = kafka.client.topics(None).await?;
    let ranges = if view::is_wide(settings) { Some(ranges(&mut kafka, &topics).await?) } else { None };
    let document = topic::list_document(&kafka.cluster, &topics, ranges.as_ref());
    view::show(settings, &document, |paint| topic::list(&document, view::is_wide(settings), paint));
    Ok(Exit::Ok)
}

async fn describe(settings: &Settings, names: &[String]) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open(settings)?;
    let topics = kafka.client.topics(Some(names)).await?;
    let mut configs = kafka.client.configs(names).await?;
    // A topic without a leader can be described all the same.
    let (ranges, note) = match ranges(&mut kafka, &topics).await {
        Ok(ranges) => (ranges, None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    let described = topics.iter().map(|topic| Description {
        topic,
        ranges: &ranges,
        configs: configs.remove(&topic.name).unwrap_or_default(),
    });
    let document = topic::describe_document(&kafka.cluster, described.collect(), note);
    view::show(settings, &document, |paint| topic::describe(&document, view::is_wide(settings), paint));
    Ok(Exit::Ok)
}

async fn ranges(
    kafka: &mut Kafka,
    topics: &[Topic],
) -> Result<BTreeMap<TopicPartition, OffsetRange>, KafkaError> {
    let of = |topic: &Topic| -> Vec<_> {
        topic.partitions.iter().map(|partition| TopicPartition::new(&topic.name, partition.index)).collect()
    };
    let partitions: Vec<_> = topics.iter().flat_map(of).collect();
    kafka.client.ranges(&partitions).await
}

async fn create(settings: &Settings, args: &Create) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open_own(settings).await?;
    let new = NewTopic { name: args.topic.clone(), partitions: args.partitions, configs: args.set.clone() };
    let created = kafka.client.create_topic(&new, settings.dry_run).await?;
    let partitions = created.partitions.or(args.partitions);
    changed(settings, &kafka, Change::Create, vec![Changed { name: args.topic.clone(), partitions }])
}

async fn alter(settings: &Settings, args: &Alter) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open_own(settings).await?;
    let name = &args.topic;
    let change = ConfigChange { set: args.set.clone(), unset: args.unset.clone() };
    let configs = kafka.client.configs(std::slice::from_ref(name)).await?;
    let shorter = configs.get(name).map(|configs| shortened(configs, &change)).unwrap_or_default();
    if !shorter.is_empty() {
        let text = format!("events of {name} may be deleted: {}", shorter.join(", "));
        agree(settings, text, &alter_again(settings, args))?;
    }
    let has_configs = !change.set.is_empty() || !change.unset.is_empty();
    // Both are checked before either is made.
    for only_validate in [true, false] {
        if only_validate || !settings.dry_run {
            if has_configs {
                kafka.client.alter_topic(name, &change, only_validate).await?;
            }
            if let Some(count) = args.partitions {
                kafka.client.extend_topic(name, count, only_validate).await?;
            }
        }
    }
    changed(
        settings,
        &kafka,
        Change::Alter,
        vec![Changed { name: name.clone(), partitions: args.partitions }],
    )
}

fn alter_again(settings: &Settings, args: &Alter) -> CommandLine {
    let line = CommandLine::new(settings, "topic alter").word(&args.topic);
    let line = line.value("--partitions", args.partitions);
    let set = args.set.iter().map(|(key, value)| ("--set", quote::word(&format!("{key}={value}"))));
    let unset = args.unset.iter().map(|key| ("--unset", quote::word(key)));
    set.chain(unset).fold(line, |line, (option, value)| line.value(option, Some(value)))
}

async fn delete(settings: &Settings, names: &[String]) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open_own(settings).await?;
    let topics = kafka.client.topics(Some(names)).await?;
    let ranges = ranges(&mut kafka, &topics).await?;
    let events: i64 = ranges.values().map(|range| range.len()).sum();
    let text = format!("{} will be deleted with {events} events, for good", names.join(", "));
    let again = CommandLine::new(settings, "topic delete");
    agree(settings, text, &names.iter().fold(again, |line, name| line.word(name)))?;
    let mut deleted = Vec::new();
    for topic in topics {
        if !settings.dry_run {
            let result = kafka.client.delete_topic(&topic.name).await;
            result.map_err(|error| after(Failure::from(error), "deleted", &deleted))?;
        }
        let partitions = i32::try_from(topic.partitions.len()).ok();
        deleted.push(Changed { name: topic.name, partitions });
    }
    changed(settings, &kafka, Change::Delete, deleted)
}

/// A failure after some of the work was done.
fn after(failure: Failure, verb: &str, done: &[Changed]) -> Failure {
    if done.is_empty() {
        return failure;
    }
    let names: Vec<_> = done.iter().map(|topic| topic.name.as_str()).collect();
    failure.detail(format!("{verb} before that: {}", names.join(", ")))
}

fn changed(
    settings: &Settings,
    kafka: &Kafka,
    change: Change,
    topics: Vec<Changed>,
) -> Result<Exit, Failure> {
    let document = topic::change_document(&kafka.cluster, change, settings.dry_run, topics);
    view::show(settings, &document, |_| topic::change(&document));
    Ok(Exit::Ok)
}

/// The settings of a change that let events be deleted earlier than before.
fn shortened(configs: &BTreeMap<String, Config>, change: &ConfigChange) -> Vec<String> {
    // -1 is for ever, and without limit.
    let limit = |value: &str| value.parse().ok().filter(|limit: &i64| *limit >= 0).unwrap_or(i64::MAX);
    let before = |key: &str| configs.get(key).map_or(i64::MAX, |config| limit(&config.value));
    let retention = |key: &str| matches!(key, "retention.ms" | "retention.bytes");
    let set = change.set.iter().filter(|(key, value)| retention(key) && limit(value) < before(key));
    let unset = change.unset.iter().filter(|key| {
        // Its default is not known here; none is what it should be safe to assume.
        retention(key) && configs.get(*key).is_some_and(|config| config.is_set)
    });
    let set = set.map(|(key, value)| format!("{key} becomes {value}"));
    set.chain(unset.map(|key| format!("{key} becomes the cluster's default"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_shortened(set: &[(&str, &str)], unset: &[&str]) -> bool {
        let config = |value: &str, is_set| Config { value: value.to_owned(), is_set };
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), config("1000", true)),
            ("retention.bytes".to_owned(), config("-1", false)),
        ]);
        let set = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let unset = unset.iter().map(|key| (*key).to_owned()).collect();
        !shortened(&configs, &ConfigChange { set, unset }).is_empty()
    }

    #[test]
    fn a_shorter_retention_is_one_that_deletes_events() {
        assert!(is_shortened(&[("retention.ms", "999")], &[]));
        assert!(!is_shortened(&[("retention.ms", "1000")], &[]));
        assert!(!is_shortened(&[("retention.ms", "-1")], &[]));
        assert!(is_shortened(&[("retention.bytes", "1000000000")], &[]), "there was no limit before");
        assert!(!is_shortened(&[("max.message.bytes", "5")], &[]));
        assert!(is_shortened(&[], &["retention.ms"]));
        assert!(!is_shortened(&[], &["retention.bytes"]), "it is the default already");
    }
}
