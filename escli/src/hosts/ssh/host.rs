//! A host with what is needed to open connections to it, and the errors of commands on it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ssh2::ErrorCode;

use super::dial::dial;
use super::exec::Broken;
use super::wire::{Deadline, Wire, WireError};
use super::{Destination, Passphrases, SshError};

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For connecting and logging in, from name resolution on and with all jump hosts; also for opening a channel.
    pub open: Duration,
    /// How long a host may be silent while a command runs. At least three seconds, since the host is asked for a sign
    /// of life every two seconds or less often.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open: Duration::from_secs(5), silence: Duration::from_secs(15) }
    }
}

/// What is needed to open a connection, again or a further one.
pub(super) struct Host {
    pub(super) destination: Destination,
    pub(super) passphrases: Arc<Passphrases>,
    pub(super) limits: Limits,
}

impl Host {
    pub(super) fn dial(&self, deadline: Deadline) -> Result<Wire, SshError> {
        let wire = dial(&self.destination, &self.passphrases, deadline)?;
        let seconds = (self.limits.silence / 3).as_secs().max(1);
        wire.session.set_keepalive(true, u32::try_from(seconds).unwrap_or(u32::MAX));
        Ok(wire)
    }

    pub(super) fn spawn(&self, what: &str, work: impl FnOnce() + Send + 'static) -> Result<(), SshError> {
        let name = format!("{what} {}", self.destination.name);
        let spawned = thread::Builder::new().name(name).spawn(work);
        spawned.map(|_| ()).map_err(|error| SshError::failed(format!("cannot start a thread: {error}")))
    }

    /// The error if the connection's thread has ended, which only a panic can do.
    pub(super) fn gave_up(&self) -> SshError {
        SshError::lost(format!("{}: the connection's thread has ended", self.destination.name))
    }

    /// Returns the error for a command that has no result.
    pub(super) fn explain(&self, command: &str, limit: Option<Duration>, broken: &Broken) -> SshError {
        let (name, command) = (&self.destination.name, shortened(command));
        let Broken { sent, stop } = broken;
        let message = match (stop, limit) {
            (WireError::Timeout, Some(limit)) if *sent => {
                format!("{name}: `{command}` has not ended after {limit:?}")
            }
            _ if *sent => format!("{name}: lost sight of `{command}`: {}", stop.text()),
            (WireError::Error(error), _) if is_denial(error) => {
                return SshError::failed(format!("{name} does not run commands: {}", stop.text()))
                    .hint("its sshd may limit sessions (MaxSessions) or force a command");
            }
            _ => return SshError::unreachable(format!("{name} does not answer: {}", stop.text())),
        };
        SshError::lost(message).detail("it may have run, and may be running still")
    }
}

fn is_denial(error: &ssh2::Error) -> bool {
    let denials =
        [libssh2_sys::LIBSSH2_ERROR_CHANNEL_FAILURE, libssh2_sys::LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED];
    denials.iter().any(|code| error.code() == ErrorCode::Session(*code))
}

/// Returns the beginning of a command, enough to recognise it.
pub(super) fn shortened(command: &str) -> String {
    let line = command.lines().next().unwrap_or_default();
    let short: String = line.chars().take(60).collect();
    if short.len() < command.len() { format!("{short}...") } else { short }
}
