//! `escli support-bundle`.

use std::path::PathBuf;

/// Arguments of `support-bundle`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing on the cluster. The archive contains, where available: cluster.yaml; the output of
escli status, plan, diff and check; the newest operation journals; and for each node its
cluster.yaml, version, service, log, metrics and status, the disks and memory of its machine, and
the operations performed there. manifest.json lists every part, with the reason for each missing
one. The archive contains no events.

Values named like a password, secret or token, credentials in URLs, private keys and comments in
cluster.yaml are redacted. Review the archive before you share it: the logs may contain anything.\n\n\
Examples:
  escli support-bundle
  escli support-bundle --file /tmp/for-support.tar.gz --lines 10000
  escli support-bundle -o json | jq '.missing'"
)]
pub struct Args {
    /// The archive to create; it must not exist [default: ./eventstream-CLUSTER-TIME.tar.gz].
    #[arg(long, value_name = "FILE.tar.gz", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Number of log lines of each node.
    #[arg(short = 'n', long, default_value_t = 2000, value_name = "N")]
    pub lines: usize,
}
