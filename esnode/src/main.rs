//! `esnode`: parse, run, exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use esnode::args::{Args, Task};
use esnode::config::Config;
use esnode::{node, panics, verify, version};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.version {
        println!("{}", version::describe(args.json));
        return ExitCode::SUCCESS;
    }
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("esnode: --log {:?}: {error}; say error, warn, info, debug or trace", args.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let ended = match &args.task {
        Some(task) => run(task),
        None => {
            panics::end_the_node();
            Config::load(&args.config, args.node_id).and_then(node::run).map(|()| ExitCode::SUCCESS)
        }
    };
    ended.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: &Task) -> anyhow::Result<ExitCode> {
    let Task::Verify { data_dir, json } = task;
    let verified = verify::data_dir(data_dir)?;
    println!("{}", verify::describe(data_dir, &verified, *json)?);
    Ok(if verified.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
