//! How a run ends: its exit code, and the error that the operator reads. Knows nothing of commands or terminals.

use std::process::ExitCode;

use serde::Serialize;

use crate::operator_error::OperatorError;

/// The exit codes. Scripts rely on the numbers.
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
    /// Some steps were performed, then one failed; the same command continues from there.
    Partial = 4,
    /// The time limit of `--timeout` passed.
    Timeout = 5,
    /// Another operation holds the lock.
    Locked = 6,
    /// No node answered, or not the one that the command is about.
    Unreachable = 7,
    /// The cluster answers, but is not healthy.
    Unhealthy = 10,
    /// The cluster differs from its cluster.yaml.
    Differences = 11,
    /// The operator pressed Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// Returns the number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a run failed, as the operator reads it; the kind is the exit code.
pub type Failure = OperatorError<Exit>;

impl Failure {
    /// Returns the failure of an operation.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Returns the failure for a command line or a cluster.yaml that is invalid.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}
