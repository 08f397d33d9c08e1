//! `escli history`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Shows operations that were started from this account; their journals are in
$XDG_STATE_HOME/eventstream. With -c, shows only operations of that cluster.yaml.

`resume` inspects the cluster again and plans the remaining steps. It refuses if the members have
changed since.\n\n\
Examples:
  escli history
  escli history show 20260131T101530.123Z-restart-4711
  escli history resume              the last operation, if it did not finish
  escli history abort 20260131T101530.123Z-restart-4711
  escli history -o json | jq -r '.operations[] | select(.state == \"unfinished\") | .id'")]
pub struct Args {
    /// What to do [default: list].
    #[command(subcommand)]
    pub what: Option<What>,
}

/// What to do with past operations.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// List operations: when, who, what, and how they ended.
    #[command(after_help = "Examples:\n  escli history list")]
    List,
    /// Show one operation, step by step.
    #[command(after_help = "Examples:\n  escli history show 20260131T101530.123Z-restart-4711")]
    Show {
        /// Id of the operation [default: the last one].
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
        id: Option<String>,
    },
    /// Resume an operation that did not finish.
    #[command(after_help = "Examples:\n  escli history resume\n  escli history resume --dry-run")]
    Resume {
        /// Id of the operation [default: the last one].
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
        id: Option<String>,
    },
    /// Mark an operation as finished; what it has done stays as it is.
    #[command(after_help = "Examples:\n  escli history abort 20260131T101530.123Z-restart-4711")]
    Abort {
        /// Id of the operation.
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::operations))]
        id: String,
    },
}
