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
pub mod diff;
pub mod down;
pub mod exec;
pub mod explain;
pub mod health;
pub mod history;
pub mod init;
pub mod logs;
pub mod man;
pub mod monitoring;
pub mod plan;
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
pub mod transfer_leader;
pub mod up;
pub mod upgrade;
pub mod validate;
pub mod verify;
pub mod version;
pub mod watch;

/// Operate an EventStream cluster: bring it up, look at it, change it safely.
#[derive(Debug, Parser)]
#[command(name = "escli", version, propagate_version = false, disable_version_flag = false)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
#[command(after_long_help = "Exit codes:
  0 done        1 failed         2 usage            3 refused, nothing was changed
  4 partial: run it again to go on                  5 --timeout passed
  6 another operation holds the lock                7 nobody could be reached
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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The cluster's file; `-` reads standard input.
    ///
    /// Without it, in this order: $ESCLI_CONFIG, ./cluster.yaml, the local cluster last brought up.
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Format of the data on standard output.
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true, value_name = "FORMAT")]
    pub output: Format,
    /// When to use colour; NO_COLOR is honoured.
    #[arg(long, value_enum, default_value_t = ColorChoice::Auto, global = true, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Only errors on standard error.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More about what is done and why; twice for more.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Give up the whole operation after this time.
    #[arg(long, value_parser = duration, default_value = "10m", global = true, value_name = "TIME")]
    pub timeout: Duration,
    /// Give up on one host, or on one answer of a node, after this time.
    #[arg(long, value_parser = duration, default_value = "5s", global = true, value_name = "TIME")]
    pub host_timeout: Duration,
    /// How many hosts are worked on at once.
    #[arg(long, default_value_t = 10, global = true, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// ApiAnswer yes to questions; never overrides a safety check.
    #[arg(short = 'y', long, global = true)]
    pub yes: bool,
    /// Show the steps that would run, and run none.
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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the cluster up; safe to repeat.
    Up(up::Args),
    /// Start nodes that are down; leave the others alone.
    Start(start::Args),
    /// Stop nodes: followers first, the leader last.
    Stop(stop::Args),
    /// Restart nodes one at a time: followers first, the leader last.
    Restart(restart::Args),
    /// Give nodes their changed cluster.yaml, and restart those that run with an older one.
    Reload(reload::Args),
    /// Hand leadership to another node.
    TransferLeader(transfer_leader::Args),
    /// Give the nodes another program, one at a time: followers first, the leader last.
    Upgrade(upgrade::Args),
    /// Take a node in: prepared, started, caught up, then a voter.
    AddNode(add_node::Args),
    /// Let a node go, for good.
    RemoveNode(remove_node::Args),
    /// Put a new node in the place of another, dead or alive.
    ReplaceNode(replace_node::Args),
    /// Copy everything that was acknowledged into one file, or a folder.
    Backup(backup::Args),
    /// Bring a new cluster up that carries on where a backup ends.
    Restore(restore::Args),
    /// Read all that stopped nodes have on their disks, or a backup, and say what is damaged.
    Verify(verify::Args),
    /// Carry on with one node when a majority is lost for good. Loses what only the others had.
    Recover(recover::Args),
    /// Stop the whole cluster, and with --purge-data delete its data.
    Down(down::Args),
    /// Write what Prometheus and Grafana need to watch the cluster.
    Monitoring(monitoring::Args),
    /// Show the steps that `up` would run, and why.
    Plan(plan::Args),
    /// Compare what nodes should be given with their files and with what runs.
    Diff(diff::Args),
    /// Look at the cluster once.
    Status(status::Args),
    /// Say whether the cluster is healthy, and why not.
    Health(health::Args),
    /// Say which of the promised alerts fire.
    Alerts(alerts::Args),
    /// Look at the cluster again and again.
    Watch(watch::Args),
    /// See whether hosts are ready for their nodes.
    Check(check::Args),
    /// Run a command on every host.
    Exec(exec::Args),
    /// Show what nodes logged.
    Logs(logs::Args),
    /// Gather what somebody who helps needs to see into one archive.
    SupportBundle(support_bundle::Args),
    /// Show what was done, and go on with what did not come to its end.
    History(history::Args),
    /// Write a cluster.yaml to begin with.
    Init(init::Args),
    /// Say what the keys of cluster.yaml mean.
    Explain(explain::Args),
    /// Check cluster.yaml without touching anything.
    Validate(validate::Args),
    /// Show the file each node gets.
    Render(render::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Print the manual page.
    Man(man::Args),
    /// Say what this escli is.
    Version(version::Args),
}

/// `2` or `n2`, as nodes are called where they are shown.
pub fn node(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix(['n', 'N']).unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let id = number.parse().ok().filter(|id| is_number && (1..=MAX_NODE_ID).contains(id));
    id.ok_or_else(|| format!("expected a node, such as 2 or n2, from 1 to {MAX_NODE_ID}"))
}

/// `10m`, `1h30m`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a time such as 500ms, 5s or 10m";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| expected.to_owned())?;
    let time = Duration::try_from(parsed).map_err(|_| expected.to_owned())?;
    if time.is_zero() { Err(expected.to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests;
