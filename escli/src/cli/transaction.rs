//! `escli transaction`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `transaction`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A transaction under way holds back whoever reads committed events only: they see nothing of a
partition behind its first event in it. It ends when its producer ends it, when its timeout has passed,
or when a producer with the same id begins.

States:
  Ongoing         under way: holds back readers. If its producer is gone, wait for the timeout, or start
                  the producer again: that aborts it at once
  CompleteCommit  the last one was committed, and none is under way: nothing to do
  CompleteAbort   the last one was aborted, and none is under way: nothing to do
  Empty           none has begun since the producer did: nothing to do

Documents of -o json:
  list        transactions[]: id, state, producer_id, age_ms
  describe    transactions[]: id, state, producer_id, producer_epoch, timeout_ms, began, began_ms, age_ms,
              partitions[]: topic, partition

Examples:
  escli transaction list
  escli transaction describe billing
  escli transaction list -o json | jq -r '.transactions[] | select(.state == \"Ongoing\") | .id'"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with transactions.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// List the transactional ids: first those with a transaction under way, the oldest first.
    #[command(after_help = "Examples:\n  escli transaction list")]
    List,
    /// Show since when transactions are under way, when they time out, and in which partitions they are.
    #[command(after_help = "Examples:\n  escli transaction describe billing")]
    Describe {
        /// Transactional ids.
        #[arg(value_name = "ID", required = true, add = ArgValueCandidates::new(complete::transactions))]
        ids: Vec<String>,
    },
}
