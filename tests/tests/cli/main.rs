//! The command line as its users meet it, without a cluster: help, exit codes, output, terminals.

#![allow(clippy::unwrap_used, reason = "where a program cannot be run, the test has failed")]

mod commands;
mod consume;
mod events;
mod groups;
mod produce;
mod terminal;

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tests::cli;

/// A cluster of three nodes that do not run.
const THREE_NODES: &str = "\
cluster:
  name: orders
  nodes:
    - { id: 1, host: 127.88.77.1 }
    - { id: 2, host: 127.88.77.2 }
    - { id: 3, host: 127.88.77.3 }
";

/// A folder with this cluster.yaml.
fn with_file(content: impl AsRef<[u8]>) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("cluster.yaml"), content).unwrap();
    home
}

/// escli in `home`, with no other environment.
fn command(home: &Path, line: &str) -> Command {
    let args: Vec<_> = line.split_whitespace().collect();
    let mut command = cli::escli(home, &args);
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin");
    command
}

/// Runs escli to its end.
fn escli(home: &Path, line: &str) -> Output {
    command(home, line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn out(output: &Output) -> String {
    text(&output.stdout)
}

fn err(output: &Output) -> String {
    text(&output.stderr)
}
