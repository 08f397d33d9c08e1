//! `escli health`.

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
#[command(after_help = "HEALTHY      every voter follows one leader and has caught up
DEGRADED     the cluster accepts writes, but something is wrong
UNAVAILABLE  as far as escli can see, the cluster accepts no writes
UNKNOWN      no node answers

Exit codes: 0 healthy, 10 degraded or unavailable, 7 when no node answers.\n\n\
Examples:
  escli health
  escli health -q && echo fine       for scripts: exit code only
  escli health -o json | jq -r '.reasons[]'")]
pub struct Args {}
