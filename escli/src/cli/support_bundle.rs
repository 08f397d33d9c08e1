//! `escli support-bundle`.

use std::path::PathBuf;

/// Arguments of `support-bundle`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing on the cluster. In the archive are, as far as they can be had: cluster.yaml, what escli status, plan,
diff and check say, the newest journals of operations, and for each node its own cluster.yaml, version, service, log,
metrics and status, its machine's disks and memory, and what operators did there. manifest.json lists every part, and for
each that is missing the reason. Of events there is nothing in it.

Values of what is named like a password, secret or token, logins in addresses, private keys and comments in cluster.yaml
are taken out. Look into the archive before you pass it on all the same: nobody knows what else was logged.\n\n\
Examples:
  escli support-bundle
  escli support-bundle --file /tmp/for-support.tar.gz --lines 10000
  escli support-bundle -o json | jq '.missing'"
)]
pub struct Args {
    /// The archive, which must not be there yet; eventstream-CLUSTER-TIME.tar.gz here when not given.
    #[arg(long, value_name = "FILE.tar.gz", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// So many of each node's last log lines.
    #[arg(short = 'n', long, default_value_t = 2000, value_name = "N")]
    pub lines: usize,
}
