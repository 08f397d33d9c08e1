//! `escli up`.

use std::path::PathBuf;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    escli up --local                     three nodes on this machine\n  \
    escli up --local --nodes 5 --dir ./five --base-port 20000\n  \
    escli up --dry-run                   the steps for ./cluster.yaml")]
pub struct Args {
    /// Run a cluster on this machine. The first run writes its cluster.yaml; edit that file to change the cluster.
    #[arg(long)]
    pub local: bool,
    /// Number of nodes of a new local cluster [default: 3].
    #[arg(long, requires = "local", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: Option<u8>,
    /// Directory of the local cluster [default: $XDG_DATA_HOME/eventstream/local].
    #[arg(long, requires = "local", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// First port of a new local cluster: node i gets PORT+i-1 for clients, +100 for nodes, +200 for the admin API.
    ///
    /// By default node i gets 9000+i-1, 9100+i-1 and 8080+i-1.
    #[arg(long, requires = "local", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65000))]
    pub base_port: Option<u16>,
    /// The esnode program [default: deploy.binary, $ESNODE, next to escli, PATH].
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}
