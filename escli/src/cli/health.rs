//! `escli health`.

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
#[command(after_help = "HEALTHY      every voter follows one leader and keeps up
DEGRADED     it accepts writes, and something is wrong
UNAVAILABLE  as far as can be seen from here it accepts no writes
UNKNOWN      no node answers

Exit codes: 0 healthy, 10 degraded or unavailable, 7 when no node answers.\n\n\
Examples:
  escli health
  escli health -q && echo fine       for scripts: only the exit code
  escli health -o json | jq -r '.reasons[]'")]
pub struct Args {}
