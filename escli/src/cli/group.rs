//! `escli group`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;
use crate::kafka::position::Position;
use crate::kafka::reset::Scope;

/// Arguments of `group`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Documents of -o json:
  list        groups[]: name, state, protocol_type
  describe    groups[]: name, state, protocol, lag, members[], partitions[]
              members[]: id, instance, client, host, partitions
              partitions[]: topic, partition, committed_offset, end_offset, lag, member
  reset-offsets
              group, dry_run, partitions[]: topic, partition, before, after, start_offset, end_offset
  delete      operation, dry_run, groups[]

Examples:
  escli group list
  escli group describe billing
  escli group reset-offsets billing --to 2026-01-31T10:15:30Z --dry-run
  escli group delete billing
  escli group describe billing -o json | jq '.groups[].lag'")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with groups.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// List the groups.
    #[command(after_help = "Examples:\n  escli group list")]
    List,
    /// Show the members of groups, and how far they lag in each partition.
    #[command(after_help = "The lag is the number of events that the group has not committed yet.\n\n\
Examples:\n  escli group describe billing")]
    Describe {
        /// Names of groups.
        #[arg(value_name = "GROUP", required = true, add = ArgValueCandidates::new(complete::groups))]
        groups: Vec<String>,
    },
    /// Set the committed offsets of a group without members; asks first.
    ResetOffsets(ResetOffsets),
    /// Delete groups without members, with their committed offsets; asks first.
    #[command(after_help = "Examples:\n  escli group delete billing")]
    Delete {
        /// Names of groups.
        #[arg(value_name = "GROUP", required = true, add = ArgValueCandidates::new(complete::groups))]
        groups: Vec<String>,
    },
}

/// Arguments of `group reset-offsets`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "TO is `earliest`, `latest`, an offset such as 1200, a time such as 2026-01-31T10:15:30Z, or an age
such as 90m. An offset outside a partition becomes the closest one inside.

Stop all consumers of the group first: the offsets of a group with members are theirs. With --topic
a group that does not exist yet is created, and its consumers will begin there.\n\n\
Examples:
  escli group reset-offsets billing --to earliest --dry-run
  escli group reset-offsets billing --to 1200 --topic orders:0
  escli group reset-offsets billing --to 90m --topic orders --topic bills --yes"
)]
pub struct ResetOffsets {
    /// Name of the group.
    #[arg(value_name = "GROUP", add = ArgValueCandidates::new(complete::groups))]
    pub group: String,
    /// Where the group is to go on.
    #[arg(long, value_name = "TO")]
    pub to: Position,
    /// A topic, or some of its partitions, such as orders:0,2; may be repeated [default: what the group has committed].
    #[arg(long = "topic", value_name = "TOPIC[:N,...]", add = ArgValueCandidates::new(complete::topics))]
    pub topics: Vec<Scope>,
}
