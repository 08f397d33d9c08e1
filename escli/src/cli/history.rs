//! `escli history`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Operations are those that were begun from this account, kept under $XDG_STATE_HOME/eventstream; with -c only those of
that cluster.yaml.

`resume` looks at the cluster again and plans what is left; it refuses when the members have changed meanwhile.\n\n\
Examples:
  escli history
  escli history show 20260131T101530.123Z-restart-4711
  escli history resume              the last one that did not come to its end
  escli history abort 20260131T101530.123Z-restart-4711
  escli history -o json | jq -r '.operations[] | select(.state == \"unfinished\") | .id'"
)]
pub struct Args {
    /// What to do; list when nothing is said.
    #[command(subcommand)]
    pub what: Option<What>,
}

/// What to do with the past.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// One line for each operation: when, who, what, how it ended.
    #[command(after_help = "Examples:\n  escli history list")]
    List,
    /// One operation, step by step.
    #[command(after_help = "Examples:\n  escli history show 20260131T101530.123Z-restart-4711")]
    Show {
        /// Its id; the last one when none is given.
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
        id: Option<String>,
    },
    /// Go on with an operation that did not come to its end.
    #[command(after_help = "Examples:\n  escli history resume\n  escli history resume --dry-run")]
    Resume {
        /// Its id; the last one when none is given.
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
        id: Option<String>,
    },
    /// Say that an operation is over; what it did stays as it is.
    #[command(after_help = "Examples:\n  escli history abort 20260131T101530.123Z-restart-4711")]
    Abort {
        /// Its id.
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
        id: String,
    },
}
