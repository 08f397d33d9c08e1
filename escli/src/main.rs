//! The program `escli`: parses the command line, runs the command, and returns its exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use escli::cli::Cli;
use escli::failure::Exit;
use escli::settings::{Environment, Settings};
use escli::{commands, view};

fn main() -> ExitCode {
    // If a shell asks for completions, this answers and ends the process.
    clap_complete::CompleteEnv::with_factory(escli::command).var(commands::completions::VARIABLE).complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return explained(&said),
    };
    let settings = cli.global.settings(Environment::of_process());
    let settings = Settings { passphrases: Arc::new(view::passphrases(&settings)), ..settings };
    let exit = match commands::run(&cli.command, &settings) {
        Ok(exit) => exit,
        Err(failure) => {
            view::failure(&settings, &failure);
            failure.kind
        }
    };
    view::final_exit(exit).into()
}

/// Prints what clap has to say. Help and version go to standard output; everything else is an error.
fn explained(said: &clap::Error) -> ExitCode {
    let exit = if said.use_stderr() { Exit::Usage } else { Exit::Ok };
    let printed = said.print();
    if !said.use_stderr() {
        view::written(&printed);
    }
    view::final_exit(exit).into()
}
