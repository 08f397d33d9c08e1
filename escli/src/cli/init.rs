//! `escli init`.

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes cluster.yaml, or the file that -c names (`-c -` prints it). Never overwrites a file. Without
hosts it uses three placeholder addresses.\n\n\
Examples:
  escli init 10.0.0.1 10.0.0.2 10.0.0.3 --name orders --user admin
  escli -c - init node1.example node2.example node3.example"
)]
pub struct Args {
    /// Host names or addresses, one per node.
    #[arg(value_name = "HOST", num_args = ..=9)]
    pub hosts: Vec<String>,
    /// The cluster's name: letters, digits and dashes.
    #[arg(long, default_value = "eventstream")]
    pub name: String,
    /// User to log in as [default: your own user name].
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}
