//! `escli produce`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `produce`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads standard input until it ends; each line is an event. An event counts as written once it is on
disk on a majority of the nodes, and each is written once, also when the leader changes meanwhile.
Lines are sent as they come.

Events with the same key go to the same partition, the one that Kafka's own clients choose; events
without a key are spread over all partitions.

Document of -o json: topic, written, partitions[]: partition, events, first_offset, last_offset.

Exit codes: 0 when every event was acknowledged, else not 0; the error says how many were.\n\n\
Examples:
  echo hello | escli produce greetings
  escli produce orders --key-separator : < orders.txt
  escli produce orders --header source=import --partition 0 < orders.txt"
)]
pub struct Args {
    /// Name of the topic, which must exist.
    #[arg(value_name = "TOPIC", add = ArgValueCandidates::new(complete::topics))]
    pub topic: String,
    /// Take what comes before the first SEP in a line as the event's key.
    #[arg(long, value_name = "SEP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub key_separator: Option<String>,
    /// Write all events to this partition.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// A header for every event; may be repeated with other names.
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = super::topic::pair)]
    pub headers: Vec<(String, String)>,
}
