//! `escli`: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use escli::cli::Cli;
use escli::settings::{Environment, Settings};
use escli::{commands, view};

fn main() -> ExitCode {
    // Answers the shell and ends when this is a question for completions.
    clap_complete::CompleteEnv::with_factory(escli::command).var(commands::completions::VARIABLE).complete();
    let cli = Cli::parse();
    let settings = Settings::new(&cli.global, Environment::of_process());
    let exit = match commands::run(&cli.command, &settings) {
        Ok(exit) => exit,
        Err(failure) => {
            view::failure(&settings, &failure);
            failure.exit
        }
    };
    exit.into()
}
