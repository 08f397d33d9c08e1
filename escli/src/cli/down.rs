//! `escli down`.

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Delete every node's data as well; asks for the cluster's name.
    #[arg(long)]
    pub purge_data: bool,
    /// The cluster's name, for --purge-data without a terminal; needs --yes as well.
    #[arg(long, value_name = "NAME", requires = "purge_data")]
    pub confirm: Option<String>,
    /// Kill a node that does not end by itself (SIGKILL); it recovers from its log on the next start.
    #[arg(long)]
    pub force: bool,
}
