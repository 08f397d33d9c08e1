//! `escli`: parse, run, exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use escli::cli::Cli;
use escli::failure::Exit;
use escli::settings::{Environment, Settings};
use escli::{commands, view};

fn main() -> ExitCode {
    // Answers the shell and ends when this is a question for completions.
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
            failure.exit
        }
    };
    view::final_exit(exit).into()
}

/// Help and version are data like any other; everything else that clap says is an error.
fn explained(said: &clap::Error) -> ExitCode {
    let exit = if said.use_stderr() { Exit::Usage } else { Exit::Ok };
    let printed = said.print();
    if !said.use_stderr() {
        view::written(&printed);
    }
    view::final_exit(exit).into()
}
