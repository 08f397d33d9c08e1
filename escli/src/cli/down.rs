//! `escli down`.

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli down                        keeps the data; `escli up` continues with it
  escli down --purge-data           asks for the cluster's name
  escli down --purge-data --yes --confirm local")]
pub struct Args {
    /// Also delete the data of every node; asks for the cluster's name.
    #[arg(long)]
    pub purge_data: bool,
    /// The cluster's name, for --purge-data without a terminal; also needs --yes.
    #[arg(long, value_name = "NAME", requires = "purge_data")]
    pub confirm: Option<String>,
    /// Kill a node that does not stop in time (SIGKILL); it recovers from its log at the next start.
    #[arg(long)]
    pub force: bool,
}
