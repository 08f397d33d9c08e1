//! The shape of every error that an operator reads: what happened, the evidence for it, and what to do next.

use std::fmt;

use serde::Serialize;

/// An error as the operator reads it. `Kind` is what callers distinguish: an exit code, or why a host was not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorError<Kind> {
    /// What callers distinguish. Operators and documents do not see it.
    #[serde(skip)]
    pub kind: Kind,
    /// What happened, and on which node or host; one sentence without a full stop.
    pub message: String,
    /// Evidence, line by line: reasons, or the last lines of a log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to do next; the commands in it can be pasted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl<Kind> OperatorError<Kind> {
    /// Returns an error without evidence or hints.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new(), hints: Vec::new() }
    }

    /// Adds one line of evidence.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds lines of evidence.
    #[must_use]
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    /// Adds one thing to do next.
    #[must_use]
    pub fn hint(mut self, line: impl Into<String>) -> Self {
        self.hints.push(line.into());
        self
    }

    /// Returns the same text for callers that distinguish other kinds.
    pub fn with_kind<Other>(self, kind: Other) -> OperatorError<Other> {
        let Self { message, details, hints, .. } = self;
        OperatorError { kind, message, details, hints }
    }
}

impl<Kind> fmt::Display for OperatorError<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<Kind: fmt::Debug> std::error::Error for OperatorError<Kind> {}
