//! What can go wrong on the way to a host. A variant for each case in which a caller does something else.

use std::fmt;

/// Nothing came of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SshError {
    /// Nobody there, or no answer in time. Nothing was run.
    #[error("{0}")]
    Unreachable(Report),
    /// The host's key is not believed, or it does not let us in. Nothing was run.
    #[error("{0}")]
    Refused(Report),
    /// It was tried and failed, or made no sense from the start. Nothing was run.
    #[error("{0}")]
    Failed(Report),
    /// The host went silent, or time ran out, after a command was sent: it may have run, and may be running still.
    #[error("{0}")]
    Lost(Report),
}

impl SshError {
    /// Nobody there, or no answer in time.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable(Report::new(message))
    }

    /// The host's key is not believed, or it does not let us in.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused(Report::new(message))
    }

    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Report::new(message))
    }

    /// The host went silent after a command was sent.
    pub fn lost(message: impl Into<String>) -> Self {
        Self::Lost(Report::new(message))
    }

    /// What the operator reads.
    pub fn report(&self) -> &Report {
        match self {
            Self::Unreachable(report) | Self::Refused(report) | Self::Failed(report) | Self::Lost(report) => {
                report
            }
        }
    }

    fn report_mut(&mut self) -> &mut Report {
        match self {
            Self::Unreachable(report) | Self::Refused(report) | Self::Failed(report) | Self::Lost(report) => {
                report
            }
        }
    }

    /// Adds one line of evidence.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.report_mut().details.push(line.into());
        self
    }

    /// Adds lines of evidence.
    #[must_use]
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.report_mut().details.extend(lines);
        self
    }

    /// Adds one thing to do next.
    #[must_use]
    pub fn hint(mut self, line: impl Into<String>) -> Self {
        self.report_mut().hints.push(line.into());
        self
    }
}

/// An error as the operator reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What happened, on which host; one sentence without a full stop.
    pub message: String,
    /// Evidence, line by line.
    pub details: Vec<String>,
    /// What to do next; the commands in it can be pasted.
    pub hints: Vec<String>,
}

impl Report {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
