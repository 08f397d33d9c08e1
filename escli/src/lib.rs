//! The operator's tool as a library; `main.rs` is a shell around [`commands::run`].
//!
//! From the top down, and never the other way:
//!
//! - `commands`: one file per subcommand, and what changing commands share (`operation`, `target`)
//! - `cli`: the command line as clap reads it; it ends where [`settings`] begins
//! - `view`: everything that is printed, and the documents that programs read
//! - `kafka`: the nodes' Kafka API: topics, events and consumer groups
//! - `admin_client`: the nodes' admin API, and how their ports are reached
//! - `hosts`: the machines that nodes run on, `local` ones or `remote` ones over `ssh`
//! - `backup`, `support_bundle`, `monitoring`: the files that escli writes for others to keep
//! - `overview`: PURE. What nodes report, judged
//! - `engine`: runs any plan through its ports, and gathers the facts that plans are made from
//! - `cluster_file`: finds, reads, starts and edits a cluster.yaml
//! - `plan`: PURE. Facts in, an immutable plan (or a refusal) out; knows `shared` and nothing else
//! - `settings`, `failure`, `output`, `files`: how escli was called, how a run ends, how it prints, how it writes files
//! - `operator_error`: the shape of every error that an operator reads

pub mod admin_client;
pub mod backup;
pub mod cli;
pub mod cluster_file;
pub mod commands;
pub mod engine;
pub mod failure;
pub mod files;
pub mod hosts;
pub mod kafka;
pub mod monitoring;
pub mod operator_error;
pub mod output;
pub mod overview;
pub mod plan;
pub mod settings;
pub mod support_bundle;
pub mod view;

/// Returns the whole command line, for completions, man pages and tests.
pub fn command() -> clap::Command {
    <cli::Cli as clap::CommandFactory>::command()
}
