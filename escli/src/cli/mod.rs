//! The command line: clap structs only. A command sees its own `Args`, and everything below it `Settings`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use shared::ids::{MAX_NODE_ID, NodeId};

use crate::hosts::ssh::{NoPrompt, Passphrases};
use crate::output::{ColorChoice, Format};
use crate::settings::{Environment, Settings};

pub mod add_node;
pub mod alerts;
pub mod backup;
pub mod check;
pub mod complete;
pub mod completions;
pub mod consume;
pub mod diff;
pub mod down;
pub mod exec;
pub mod explain;
pub mod group;
pub mod health;
pub mod history;
pub mod init;
pub mod logs;
pub mod man;
pub mod monitoring;
pub mod plan;
pub mod produce;
pub mod recover;
pub mod reload;
pub mod remove_node;
pub mod render;
pub mod replace_node;
pub mod restart;
pub mod restore;
pub mod start;
pub mod status;
pub mod stop;
pub mod support_bundle;
pub mod topic;
pub mod transaction;
pub mod transfer_leader;
pub mod up;
pub mod upgrade;
pub mod validate;
pub mod verify;
pub mod version;
pub mod watch;

/// Operate an EventStream cluster: bring it up, monitor it, change it safely.
#[derive(Debug, Parser)]
#[command(name = "escli", version, propagate_version = false, disable_version_flag = false)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
#[command(after_long_help = "Exit codes:
  0 success     1 failure        2 usage error      3 refused, no changes were made
  4 partial: run the command again to continue      5 --timeout passed
  6 another operation holds the lock                7 no node could be reached
  10 unhealthy  11 differences   130 interrupted

Data goes to standard output, progress and errors to standard error.

Examples:
  escli up --local                three nodes on this machine
  escli status
  escli watch --until healthy")]
pub struct Cli {
    /// Options of every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The cluster.yaml; `-` reads standard input.
    ///
    /// Default, in this order: $ESCLI_CONFIG, ./cluster.yaml, the local cluster last brought up.
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Format of the data on standard output.
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true, value_name = "FORMAT")]
    pub output: Format,
    /// When to use colour; NO_COLOR is honoured.
    #[arg(long, value_enum, default_value_t = ColorChoice::Auto, global = true, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Print only errors on standard error.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print what is done and why; repeat for more.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Time limit for the whole operation.
    #[arg(long, value_parser = duration, default_value = "10m", global = true, value_name = "TIME")]
    pub timeout: Duration,
    /// Time limit for one command on a host, and for one answer of a node.
    #[arg(long, value_parser = duration, default_value = "5s", global = true, value_name = "TIME")]
    pub host_timeout: Duration,
    /// Number of hosts to work on at once.
    #[arg(long, default_value_t = 10, global = true, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// Answer yes to questions; does not override safety checks.
    #[arg(short = 'y', long, global = true)]
    pub yes: bool,
    /// Show the steps without running them.
    #[arg(long, global = true)]
    pub dry_run: bool,
}

impl Global {
    /// Returns the settings that these options and this environment amount to. Nobody is asked for passphrases.
    pub fn settings(&self, env: Environment) -> Settings {
        Settings {
            config: self.config.as_deref().map(|path| env.expanded(path)),
            output: self.output,
            color: self.color,
            quiet: self.quiet,
            verbose: self.verbose,
            timeout: self.timeout,
            host_timeout: self.host_timeout,
            concurrency: usize::from(self.concurrency),
            yes: self.yes,
            dry_run: self.dry_run,
            env,
            passphrases: Arc::new(Passphrases::new(NoPrompt)),
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the cluster up; safe to repeat.
    Up(up::Args),
    /// Start nodes that are down.
    Start(start::Args),
    /// Stop nodes: followers first, the leader last.
    Stop(stop::Args),
    /// Restart nodes one at a time: followers first, the leader last.
    Restart(restart::Args),
    /// Apply a changed cluster.yaml: update the nodes' files and restart nodes that run with an older one.
    Reload(reload::Args),
    /// Transfer leadership to another node.
    TransferLeader(transfer_leader::Args),
    /// Upgrade the nodes to another version, one at a time: followers first, the leader last.
    Upgrade(upgrade::Args),
    /// Add a node to the cluster, as a learner first and then as a voter.
    AddNode(add_node::Args),
    /// Remove a node from the cluster permanently.
    RemoveNode(remove_node::Args),
    /// Replace a node, dead or alive, with a new one.
    ReplaceNode(replace_node::Args),
    /// Back up everything that was acknowledged to a file or a directory.
    Backup(backup::Args),
    /// Bring up a new cluster from a backup.
    Restore(restore::Args),
    /// Check every file of stopped nodes, or of a backup, and report corruption; read-only.
    Verify(verify::Args),
    /// Recover from permanent loss of quorum: start a new cluster from one node's log. Unsafe; use as a last resort.
    Recover(recover::Args),
    /// Stop the whole cluster; with --purge-data also delete its data.
    Down(down::Args),
    /// List, describe, create, alter and delete topics.
    Topic(topic::Args),
    /// Write the lines of standard input to a topic, each as an event.
    Produce(produce::Args),
    /// Print the events of a topic.
    Consume(consume::Args),
    /// List, describe, reset and delete consumer groups.
    Group(group::Args),
    /// List and describe transactions.
    Transaction(transaction::Args),
    /// Write the configuration that Prometheus and Grafana need to monitor the cluster.
    Monitoring(monitoring::Args),
    /// Show the steps that `up` would run, and why.
    Plan(plan::Args),
    /// Compare the wanted configuration with the nodes' files and with what they run.
    Diff(diff::Args),
    /// Show the state of the cluster and its nodes.
    Status(status::Args),
    /// Report whether the cluster is healthy, and why not.
    Health(health::Args),
    /// Report which of the documented alerts fire.
    Alerts(alerts::Args),
    /// Watch the state of the cluster, or wait for a condition.
    Watch(watch::Args),
    /// Check whether hosts are ready for their nodes.
    Check(check::Args),
    /// Run a command on every host.
    Exec(exec::Args),
    /// Show the nodes' logs.
    Logs(logs::Args),
    /// Collect the information that support needs in one archive.
    SupportBundle(support_bundle::Args),
    /// Show past operations, and resume one that did not finish.
    History(history::Args),
    /// Write a first cluster.yaml.
    Init(init::Args),
    /// Explain the keys of cluster.yaml.
    Explain(explain::Args),
    /// Validate cluster.yaml, offline.
    Validate(validate::Args),
    /// Print the configuration file of each node.
    Render(render::Args),
    /// Print the completion script for a shell.
    Completions(completions::Args),
    /// Print the manual pages.
    Man(man::Args),
    /// Print the version of escli.
    Version(version::Args),
}

/// Parses a node: `2`, or `n2` as it is printed.
///
/// # Errors
/// What was expected.
pub fn node(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix(['n', 'N']).unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let id = number.parse().ok().filter(|id| is_number && (1..=MAX_NODE_ID).contains(id));
    id.ok_or_else(|| format!("expected a node, such as 2 or n2, from 1 to {MAX_NODE_ID}"))
}

/// Parses a time: `10m`, `1h30m`, `500ms`.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a time such as 500ms, 5s or 10m";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| expected.to_owned())?;
    let time = Duration::try_from(parsed).map_err(|_| expected.to_owned())?;
    if time.is_zero() { Err(expected.to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests;
