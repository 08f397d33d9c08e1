//! The command line as operators type it.

use clap::{CommandFactory, Parser};

use super::*;

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let wrong = [
        "up --nodes 3",
        "up --local --nodes 0",
        "up --local --nodes 10",
        "up --local --base-port 80",
        "stop one",
        "-q -v stop",
        "--timeout 0s stop",
        "--timeout soon stop",
        "--concurrency 0 stop",
        "down --confirm local",
    ];
    for line in wrong {
        let parsed = Cli::try_parse_from(["escli"].into_iter().chain(line.split(' ')));
        assert_eq!(parsed.map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
    }
}

#[test]
fn global_options_may_stand_before_and_after_the_command() {
    for line in ["escli -o json --timeout 90s stop 1 2", "escli stop 1 2 --timeout 1m30s -o json"] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!((cli.global.output, cli.global.timeout.as_secs()), (Output::Json, 90));
        assert!(matches!(cli.command, Command::Stop(args) if args.nodes == [1, 2]));
    }
}
