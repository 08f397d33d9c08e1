//! What can go wrong between this machine and a host. There is a kind for each case that callers treat differently.

use crate::operator_error::OperatorError;

/// Why no command was run on a host, or why nobody knows whether it was.
pub type SshError = OperatorError<SshErrorKind>;

/// What went wrong between this machine and a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshErrorKind {
    /// Nothing answered in time. No command was run.
    Unreachable,
    /// The host's key is not trusted, or the host did not let us log in. No command was run.
    Refused,
    /// An attempt failed, or the configuration is invalid. No command was run.
    Failed,
    /// The host went silent, or time ran out, after a command was sent: it may have run, and may be running still.
    Lost,
}

impl SshError {
    /// Returns an error of kind [`SshErrorKind::Unreachable`].
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(SshErrorKind::Unreachable, message)
    }

    /// Returns an error of kind [`SshErrorKind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(SshErrorKind::Refused, message)
    }

    /// Returns an error of kind [`SshErrorKind::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(SshErrorKind::Failed, message)
    }

    /// Returns an error of kind [`SshErrorKind::Lost`].
    pub fn lost(message: impl Into<String>) -> Self {
        Self::new(SshErrorKind::Lost, message)
    }
}
