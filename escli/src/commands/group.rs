//! `escli group`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::again::CommandLine;
use super::kafka::{Kafka, agree};
use crate::cli::group::{Args, ResetOffsets, What};
use crate::failure::{Exit, Failure};
use crate::kafka::groups::Group;
use crate::kafka::offsets::OffsetSpec;
use crate::kafka::reset::{self, Reset, Scope};
use crate::kafka::{KafkaError, TopicPartition};
use crate::settings::Settings;
use crate::view::{self, group};

/// Lists, describes, resets or deletes groups.
///
/// # Errors
/// Usage; refused; the cluster cannot be reached.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        What::List => list(settings).await,
        What::Describe { groups } => describe(settings, groups).await,
        What::ResetOffsets(args) => reset_offsets(settings, args).await,
        What::Delete { groups } => delete(settings, groups).await,
    }
}

async fn list(settings: &Settings) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open(settings)?;
    let document = group::list_document(&kafka.cluster, kafka.client.groups().await?);
    view::show(settings, &document, |paint| group::list(&document, paint));
    Ok(Exit::Ok)
}

async fn describe(settings: &Settings, names: &[String]) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open(settings)?;
    let mut described = Vec::new();
    for name in names {
        let group = kafka.client.group(name).await?;
        let committed = kafka.client.committed(name).await?;
        let ends = ends(&mut kafka, &group, &committed).await?;
        described.push(group::described(group, &committed, &ends));
    }
    let document = group::describe_document(&kafka.cluster, described);
    view::show(settings, &document, |paint| group::describe(&document, paint));
    Ok(Exit::Ok)
}

/// Where the partitions end that a group has committed or reads; those of deleted topics are left out.
async fn ends(
    kafka: &mut Kafka,
    group: &Group,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
    let read = group.members.iter().flat_map(|member| &member.assignment);
    let wanted: BTreeSet<_> = committed.keys().chain(read).cloned().collect();
    let there = existing(kafka, wanted).await?;
    kafka.client.offsets(&there, OffsetSpec::Latest).await
}

/// Those of the partitions that exist.
async fn existing(
    kafka: &mut Kafka,
    wanted: BTreeSet<TopicPartition>,
) -> Result<Vec<TopicPartition>, KafkaError> {
    let topics = kafka.client.topics(None).await?;
    let all: BTreeSet<_> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|one| TopicPartition::new(&topic.name, one.index)))
        .collect();
    Ok(wanted.into_iter().filter(|partition| all.contains(partition)).collect())
}

async fn reset_offsets(settings: &Settings, args: &ResetOffsets) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open_own(settings).await?;
    let committed = match kafka.client.group(&args.group).await {
        Ok(group) => {
            require_empty(&group)?;
            kafka.client.committed(&args.group).await?
        }
        // It comes to be, so that its consumers begin there when they are started first.
        Err(KafkaError::UnknownGroup(_)) if !args.topics.is_empty() => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    let plan = planned(&mut kafka, args, &committed).await?;
    let document = group::reset_document(&kafka.cluster, &args.group, settings.dry_run, &plan);
    let changes: BTreeMap<_, _> = plan
        .iter()
        .filter(|reset| reset.is_change())
        .map(|reset| (reset.partition.clone(), reset.after))
        .collect();
    if settings.dry_run || changes.is_empty() {
        view::show(settings, &document, |paint| group::reset(&document, paint));
        return Ok(Exit::Ok);
    }
    agree(settings, question(&args.group, &plan), &again(settings, args))?;
    kafka.client.commit(&args.group, &changes).await?;
    view::show(settings, &document, |paint| group::reset(&document, paint));
    Ok(Exit::Ok)
}

/// The offsets of a group with members are theirs.
fn require_empty(group: &Group) -> Result<(), Failure> {
    if group.is_empty() {
        return Ok(());
    }
    let count = match group.members.len() {
        1 => "a member".to_owned(),
        count => format!("{count} members"),
    };
    let failure =
        Failure::new(Exit::Refused, format!("group {} has {count}; no changes were made", group.name));
    let members = group.members.iter().map(|member| format!("{} from {}", member.client, member.host));
    let failure = members.fold(failure, Failure::detail);
    Err(failure
        .hint("stop its consumers, and try again")
        .hint(format!("escli group describe {}", group.name)))
}

/// What the reset does to each partition.
async fn planned(
    kafka: &mut Kafka,
    args: &ResetOffsets,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Reset>, Failure> {
    let partitions = if args.topics.is_empty() {
        existing(kafka, committed.keys().cloned().collect()).await?
    } else {
        scoped(kafka, &args.topics).await?
    };
    if partitions.is_empty() {
        return Err(Failure::new(
            Exit::Refused,
            format!("group {} has no committed offsets; no changes were made", args.group),
        )
        .hint(format!("name topics:  escli group reset-offsets {} --to ... --topic TOPIC", args.group)));
    }
    let ranges = kafka.client.ranges(&partitions).await?;
    let at_time = match args.to.time(Timestamp::now()) {
        Some(time) => kafka.client.offsets(&partitions, OffsetSpec::At(time)).await?,
        None => BTreeMap::new(),
    };
    Ok(reset::plan(committed, &ranges, args.to, &at_time))
}

/// The partitions that were named, each once.
async fn scoped(kafka: &mut Kafka, scopes: &[Scope]) -> Result<Vec<TopicPartition>, KafkaError> {
    let mut partitions = BTreeSet::new();
    for scope in scopes {
        let topic = kafka.client.topic(&scope.topic).await?;
        let all = topic.partitions.iter().map(|partition| partition.index);
        let chosen = if scope.partitions.is_empty() { all.collect() } else { scope.partitions.clone() };
        partitions.extend(chosen.into_iter().map(|index| TopicPartition::new(&topic.name, index)));
    }
    Ok(partitions.into_iter().collect())
}

fn question(group: &str, plan: &[Reset]) -> String {
    let lines =
        plan.iter().filter(|reset| reset.is_change()).map(|Reset { partition, before, after, .. }| {
            let before = before.map_or_else(|| "none".to_owned(), |before| before.to_string());
            format!("\n  {partition}: {before} -> {after}")
        });
    let skipped: i64 = plan.iter().map(Reset::skipped).sum();
    let skipped = if skipped > 0 { format!("; it will not read {skipped} events") } else { String::new() };
    format!("the offsets of group {group} will be set{skipped}{}", lines.collect::<String>())
}

fn again(settings: &Settings, args: &ResetOffsets) -> CommandLine {
    let line = CommandLine::new(settings, "group reset-offsets").word(&args.group);
    let line = line.value("--to", Some(args.to));
    args.topics.iter().fold(line, |line, scope| line.value("--topic", Some(scope)))
}

async fn delete(settings: &Settings, names: &[String]) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open_own(settings).await?;
    for name in names {
        require_empty(&kafka.client.group(name).await?)?;
    }
    let again = names.iter().fold(CommandLine::new(settings, "group delete"), |line, name| line.word(name));
    let text = format!("{} will be deleted with all committed offsets", names.join(", "));
    agree(settings, text, &again)?;
    let mut deleted = Vec::new();
    for name in names {
        if !settings.dry_run {
            let result = kafka.client.delete_group(name).await;
            result.map_err(|error| after(Failure::from(error), &deleted))?;
        }
        deleted.push(name.clone());
    }
    let document = group::delete_document(&kafka.cluster, settings.dry_run, deleted);
    view::show(settings, &document, |_| group::deleted(&document));
    Ok(Exit::Ok)
}

/// A failure after some of the groups were deleted.
fn after(failure: Failure, deleted: &[String]) -> Failure {
    if deleted.is_empty() {
        failure
    } else {
        failure.detail(format!("deleted before that: {}", deleted.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::offsets::OffsetRange;

    #[test]
    fn the_question_says_what_will_not_be_read() {
        let reset = |partition, before, after| Reset {
            partition: TopicPartition::new("orders", partition),
            before,
            after,
            range: OffsetRange { start: 0, end: 20 },
        };
        let text = question("billing", &[reset(0, Some(5), 20), reset(1, None, 20), reset(2, Some(20), 20)]);
        assert_eq!(
            text,
            "the offsets of group billing will be set; it will not read 35 events\n  \
             partition 0 of orders: 5 -> 20\n  partition 1 of orders: none -> 20"
        );
        assert!(!question("billing", &[reset(0, Some(5), 0)]).contains("not read"));
    }
}
