//! `escli topic`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Largest number of partitions that a topic can be asked to have.
const MAX_PARTITIONS: i64 = 100_000;

/// Arguments of `topic`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Topics are reached through the client ports of the nodes in cluster.yaml.

Documents of -o json:
  list        topics[]: name, id, partitions
  describe    topics[]: name, id, events, partitions[], configs[]
              partitions[]: partition, leader, replicas[], in_sync[], start_offset, end_offset
              configs[]: key, value, is_set (false: the cluster's default)
  create, alter, delete
              operation, dry_run, topics[]: name, partitions

Examples:
  escli topic list
  escli topic create orders --partitions 3 --set retention.ms=604800000
  escli topic describe orders
  escli topic alter orders --set max.message.bytes=2097152 --unset retention.ms
  escli topic delete orders --dry-run
  escli topic list -o json | jq -r '.topics[].name'")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// List the topics.
    #[command(
        after_help = "Examples:\n  escli topic list\n  escli topic list -o wide       also counts the events"
    )]
    List,
    /// Show the partitions and settings of topics.
    #[command(after_help = "The table shows only settings that were set; -o wide shows all of them.\n\n\
Examples:\n  escli topic describe orders\n  escli topic describe orders -o wide")]
    Describe {
        /// Names of topics.
        #[arg(value_name = "TOPIC", required = true, add = ArgValueCandidates::new(complete::topics))]
        topics: Vec<String>,
    },
    /// Create a topic.
    #[command(after_help = "With --dry-run the cluster only says whether it would create the topic.\n\n\
Examples:\n  escli topic create orders\n  escli topic create orders --partitions 3 --set retention.ms=604800000")]
    Create(Create),
    /// Add partitions to a topic, or change its settings.
    #[command(
        after_help = "Events stay where they are when partitions are added, and keys go to other partitions from
then on. A retention that becomes shorter deletes events, so it asks first.

With --dry-run the cluster only says whether it would make the changes.\n\n\
Examples:\n  escli topic alter orders --partitions 6\n  escli topic alter orders --set retention.bytes=1073741824\n  \
escli topic alter orders --unset retention.bytes"
    )]
    Alter(Alter),
    /// Delete topics with all their events; asks first.
    #[command(after_help = "Examples:\n  escli topic delete orders\n  escli topic delete orders bills --yes")]
    Delete {
        /// Names of topics.
        #[arg(value_name = "TOPIC", required = true, add = ArgValueCandidates::new(complete::topics))]
        topics: Vec<String>,
    },
}

/// Arguments of `topic create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Name of the topic.
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Number of partitions [default: topics.default_partitions of cluster.yaml].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=MAX_PARTITIONS))]
    pub partitions: Option<i32>,
    /// A setting, such as retention.ms=604800000; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
}

/// Arguments of `topic alter`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Alter {
    /// Name of the topic.
    #[arg(value_name = "TOPIC", add = ArgValueCandidates::new(complete::topics))]
    pub topic: String,
    /// Number of partitions that the topic is to have in all; it can only grow.
    #[arg(long, value_name = "N", group = "change", value_parser = clap::value_parser!(i32).range(1..=MAX_PARTITIONS))]
    pub partitions: Option<i32>,
    /// A setting and its new value; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", group = "change", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// A setting to return to the cluster's default; may be repeated.
    #[arg(long, value_name = "KEY", group = "change")]
    pub unset: Vec<String>,
}

/// Parses `KEY=VALUE`.
///
/// # Errors
/// What was expected.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
