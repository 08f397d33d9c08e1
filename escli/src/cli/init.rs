//! `escli init`.

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes cluster.yaml, or the file that -c names (`-c -` prints it), and never over one that is there. Without hosts it
takes three addresses that are to be replaced.\n\n\
Examples:
  escli init 10.0.0.1 10.0.0.2 10.0.0.3 --name orders --user admin
  escli -c - init node1.example node2.example node3.example"
)]
pub struct Args {
    /// Names or addresses of the hosts, one for each node.
    #[arg(value_name = "HOST", num_args = ..=9)]
    pub hosts: Vec<String>,
    /// The cluster's name: letters, digits and dashes.
    #[arg(long, default_value = "eventstream")]
    pub name: String,
    /// Whom to log in as there; whoever you are here, when not given.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}
