//! The operator's tool as a library: `main.rs` is a shell around [`commands::run`].
//!
//! One direction only: `main -> cli, settings, commands`; `commands -> settings, observe, plan, engine, view, client,
//! local`; `engine -> plan`; `local`, `remote` (by way of `ssh`) and `client` implement the ports of the engine; `plan` knows `shared` and
//! nothing else; `overview` judges what `plan::facts` hold. Only `view` and `main.rs` print.

pub mod backup;
pub mod bundle;
pub mod cli;
pub mod client;
pub mod commands;
pub mod complete;
pub mod described;
pub mod edit;
pub mod engine;
pub mod evidence;
pub mod exit;
pub mod hosts;
pub mod identity;
pub mod last_words;
pub mod local;
pub mod memory;
pub mod monitoring;
pub mod observe;
pub mod overview;
pub mod plan;
pub mod printable;
pub mod remote;
pub mod report;
pub mod route;
pub mod settings;
pub mod sha256;
pub mod ssh;
pub mod starter;
pub mod view;

/// The whole command line, for completions, man pages and tests.
pub fn command() -> clap::Command {
    <cli::Cli as clap::CommandFactory>::command()
}
