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
fn nodes_are_called_by_number_and_by_name_alone_and_in_lists() {
    for line in ["stop 2 3", "stop n2 n3", "stop 2,3", "stop n2,3", "stop N2,n3"] {
        let cli = Cli::try_parse_from(["escli"].into_iter().chain(line.split(' '))).unwrap();
        assert!(matches!(cli.command, Command::Stop(args) if args.nodes == [2, 3]), "{line}");
    }
    let all = "start restart reload diff logs exec status render backup transfer-leader add-node remove-node replace-node recover";
    for name in all.split(' ') {
        let words = match name {
            "status" | "render" | "backup" => "--node n2",
            "transfer-leader" => "--to n2",
            "replace-node" => "n2 n4 --host x",
            "recover" => "--survivor n2 --lost n1,3",
            "exec" => "n1,2 3 -- uptime",
            "add-node" | "remove-node" => "n2",
            _ => "n1,2 3",
        };
        let line = format!("escli {name} {words}");
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    for wrong in ["n", "", "nn2", "2n", "0", "n0", "+2", "n+2", "2147483648", "2,", "two", " 2"] {
        let said = Cli::try_parse_from(["escli", "stop", wrong]).unwrap_err().to_string();
        assert!(said.contains("expected a node, such as 2 or n2"), "{wrong:?}: {said}");
    }
    let said = Cli::try_parse_from(["escli", "exec", "uptime"]).unwrap_err().to_string();
    assert!(said.contains("the command goes after --: escli exec -- uptime ..."), "{said}");
}

#[test]
fn global_options_may_stand_before_and_after_the_command() {
    for line in ["escli -o json --timeout 90s stop 1 2", "escli stop 1 2 --timeout 1m30s -o json"] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!((cli.global.output, cli.global.timeout.as_secs()), (Format::Json, 90));
        assert!(matches!(cli.command, Command::Stop(args) if args.nodes == [1, 2]));
    }
}
