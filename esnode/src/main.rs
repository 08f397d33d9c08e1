//! `esnode`: parse, run, exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use esnode::maintenance::{recovery, verify};
use esnode::node;
use esnode::process::args::{Args, Task};
use esnode::process::config::Config;
use esnode::process::{abort_on_panic, version};
use shared::ids::ClusterId;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.version {
        println!("{}", version::describe(args.json));
        return ExitCode::SUCCESS;
    }
    let filter = match args.log.parse::<Targets>() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("esnode: --log {:?}: {error}; say error, warn, info, debug or trace", args.log);
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
    run(args).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: Args) -> Result<ExitCode> {
    let config = || Config::load(&args.config, args.node_id);
    match args.task {
        None => {
            abort_on_panic::install();
            node::run(config()?)?;
        }
        Some(Task::Rebuild { cluster_id, members }) => {
            let recovered = recovery::run(&config()?, ClusterId(cluster_id), &members)?;
            println!("{}", serde_json::to_string(&recovered)?);
        }
        Some(Task::Verify { data_dir, json }) => {
            let verified = verify::data_dir(&data_dir)?;
            println!("{}", verify::describe(&data_dir, &verified, json)?);
            if !verified.ok {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
