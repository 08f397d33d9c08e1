//! `esnode`: parse, run, exit code.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser};
use esnode::config::Config;
use esnode::{node, version};
use tracing_subscriber::EnvFilter;

/// A node of a replicated event log that speaks the Kafka wire protocol.
#[derive(Parser)]
#[command(
    name = "esnode",
    disable_version_flag = true,
    after_help = "Examples:\n  esnode --node-id=1 --config=/opt/eventstream/config/cluster.yaml\n  esnode --version --json"
)]
struct Args {
    /// Which node of cluster.yaml this is; overrides cluster.node_id
    #[arg(long, value_name = "ID")]
    node_id: Option<u64>,
    /// The cluster's configuration
    #[arg(long, value_name = "FILE", default_value = "cluster.yaml")]
    config: PathBuf,
    /// What to log: error, warn, info, debug or trace, also per module
    #[arg(long, value_name = "FILTER", env = "ESNODE_LOG", default_value = "info")]
    log: String,
    /// Print the version and exit
    #[arg(long, short = 'V', action = ArgAction::SetTrue)]
    version: bool,
    /// With --version: everything about the build, as JSON
    #[arg(long, requires = "version")]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.version {
        println!("{}", version::describe(args.json));
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match Config::load(&args.config, args.node_id).and_then(node::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
