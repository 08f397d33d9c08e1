//! `escli consume`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;
use crate::kafka::consumer::Isolation;
use crate::kafka::position::Position;

/// Arguments of `consume`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the events that are there, and ends; with --follow it goes on until Ctrl-C. Reads without a
consumer group, and commits nothing. Events of one partition come in order.

FROM is `beginning`, `end`, an offset such as 1200, a time such as 2026-01-31T10:15:30Z, or an age
such as 90m. An offset outside a partition becomes the closest one inside.

With -o json each event is a line: partition, offset, timestamp, timestamp_ms, key, value, headers[]:
key, value. What is not UTF-8 stands in key_base64 or value_base64 instead.\n\n\
Examples:
  escli consume orders
  escli consume orders --from 10m --follow
  escli consume orders --partition 0 --from 1200 --count 1
  escli consume orders --key-separator :
  escli consume orders --isolation read_committed
  escli consume orders -o json | jq -r 'select(.key == \"42\") | .value'"
)]
pub struct Args {
    /// Name of the topic.
    #[arg(value_name = "TOPIC", add = ArgValueCandidates::new(complete::topics))]
    pub topic: String,
    /// Where to begin.
    #[arg(long, value_name = "FROM", default_value = "beginning")]
    pub from: Position,
    /// Read only these partitions; all of them by default.
    #[arg(long = "partition", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    pub partitions: Vec<i32>,
    /// End after this many events.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Which events to read, in respect of transactions.
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "read_uncommitted")]
    pub isolation: Isolation,
    /// Keep printing new events until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Print the key and SEP before each value.
    #[arg(long, value_name = "SEP")]
    pub key_separator: Option<String>,
    /// Print keys and values unchanged; by default control characters are escaped.
    #[arg(long)]
    pub raw: bool,
}
