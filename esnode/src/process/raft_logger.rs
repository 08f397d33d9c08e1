//! Raft's own account of what it does, passed on to this program's log.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};

struct ToTracing;

/// A logger for raft-rs.
pub fn new() -> Logger {
    Logger::root(ToTracing.fuse(), o!())
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        // Raft tells every step at info; an operator wants the driver's own account of it.
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info => tracing::debug!(target: "raft", "{}", record.msg()),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }
}
