//! How a run ends: the exit codes, and the error an operator reads. Knows nothing of commands or terminals.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// Exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// The operation failed.
    Failed = 1,
    /// The command line or cluster.yaml is invalid.
    Usage = 2,
    /// A check refused the operation; nothing was changed.
    Refused = 3,
    /// Some steps ran, then one failed; the same command continues from there.
    Partial = 4,
    /// `--timeout` passed.
    Timeout = 5,
    /// Another operation holds the lock.
    Locked = 6,
    /// No node, or not the one asked for, could be reached.
    Unreachable = 7,
    /// The cluster is reachable and not healthy.
    Unhealthy = 10,
    /// The cluster differs from cluster.yaml.
    Differences = 11,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The number given to the shell.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error as the operator reads it: what happened and where, the evidence, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The exit code.
    #[serde(skip)]
    pub exit: Exit,
    /// What happened, on which node; one sentence without a full stop.
    pub message: String,
    /// Evidence, line by line: reasons, or the node's last log lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to do next; the commands in it can be pasted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure without evidence or hints.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), hints: Vec::new() }
    }

    /// The operation failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line or cluster.yaml is invalid.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds one line of evidence.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds one thing to do next.
    #[must_use]
    pub fn hint(mut self, line: impl Into<String>) -> Self {
        self.hints.push(line.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
