//! `escli up`.

use std::path::PathBuf;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    escli up --local                     three nodes on this machine\n  \
    escli up --local --nodes 5 --dir ./five --base-port 20000\n  \
    escli up --dry-run                   what would be done for ./cluster.yaml")]
pub struct Args {
    /// A cluster on this machine; its cluster.yaml is written on the first run and is the truth from then on.
    #[arg(long)]
    pub local: bool,
    /// How many nodes the new local cluster has; 3 when nothing is said.
    #[arg(long, requires = "local", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: Option<u8>,
    /// Where the local cluster lives; $XDG_DATA_HOME/eventstream/local when nothing is said.
    #[arg(long, requires = "local", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// First port of the new local cluster: node i gets PORT+i-1 for clients, +100 for nodes, +200 for the admin API.
    ///
    /// Without it node i gets 9000+i-1, 9100+i-1 and 8080+i-1.
    #[arg(long, requires = "local", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65000))]
    pub base_port: Option<u16>,
    /// The node's program. Without it: deploy.binary, $ESNODE, beside escli, the PATH.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}
