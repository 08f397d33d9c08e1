//! Runs one command in a session: sends input and receives output at the same time, until the command has ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use libssh2_sys::{LIBSSH2_ERROR_CHANNEL_CLOSED, LIBSSH2_ERROR_EAGAIN};
use ssh2::{Channel, ErrorCode};

use super::SshError;
use super::wire::{Deadline, Wire, WireError};

/// Number of bytes read or written at once.
const CHUNK: usize = 64 * 1024;
/// Time between two checks whether the caller still waits.
const TICK: Duration = Duration::from_millis(250);

/// The standard input of a command.
///
/// If the connection breaks, the command sees the end of its input. A command that needs all of it must check that
/// before it uses it.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// No input.
    #[default]
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file on this machine.
    File(PathBuf),
}

impl Input {
    /// Opens the input, so that a missing file is reported before anything runs.
    pub(super) fn open(&self) -> Result<Box<dyn Read + '_>, SshError> {
        match self {
            Self::None => Ok(Box::new(io::empty())),
            Self::Bytes(bytes) => Ok(Box::new(bytes.as_slice())),
            Self::File(path) => {
                let file = File::open(path);
                let file = file.and_then(|file| {
                    let is_dir = file.metadata()?.is_dir();
                    if is_dir { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
                });
                let failed = |error| SshError::failed(format!("cannot read {}: {error}", path.display()));
                Ok(Box::new(file.map_err(failed)?))
            }
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this status.
    Exited(i32),
    /// It was killed by this signal, named without `SIG`.
    Signalled(String),
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signalled(signal) => write!(f, "killed by SIG{signal}"),
        }
    }
}

/// The stream that output was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives output as it arrives. An error ends the command.
pub type Sink<'a> = &'a mut dyn FnMut(Source, &[u8]) -> Result<(), WireError>;

/// A command to run.
pub struct Task<'a> {
    /// The command line for the remote shell.
    pub command: &'a str,
    /// Its standard input. If reading returns `WouldBlock`, it is tried again a little later.
    pub input: &'a mut dyn Read,
    /// When it must have ended.
    pub deadline: Deadline,
    /// How long the host may be silent, although it is asked for a sign of life, before it is taken for dead.
    pub silence: Duration,
    /// Receives the output.
    pub output: Sink<'a>,
    /// Called from time to time; an error ends the command.
    pub check: &'a dyn Fn() -> Result<(), WireError>,
}

/// Why a command has no result.
#[derive(Debug)]
pub struct Broken {
    /// Whether the command was sent, so that it may have run.
    pub sent: bool,
    /// What happened.
    pub stop: WireError,
}

/// Runs a command to its end. Opening its channel must take no longer than `open`.
///
/// # Errors
/// If the host refuses, goes silent, or time runs out. The session cannot be used any more then.
pub fn run(wire: &mut Wire, open: Duration, task: Task<'_>) -> Result<Status, Broken> {
    let mut deadline = task.deadline.or_after(open);
    let (sent, result) = match wire.until(&mut deadline, |session| session.channel_session()) {
        Err(stop) => (false, Err(stop)),
        Ok(channel) => {
            wire.listen();
            let buffer = vec![0; CHUNK];
            let mut running =
                Running { wire: &mut *wire, channel, buffer, written: 0, full: 0, fed: false, task };
            (true, running.finish())
        }
    };
    result.map_err(|stop| match stop {
        // libssh2 reports a closed connection by many different errors.
        WireError::Error(_) if wire.is_closed() => Broken { sent, stop: WireError::Closed },
        stop => Broken { sent, stop },
    })
}

struct Running<'w, 'a> {
    wire: &'w mut Wire,
    channel: Channel,
    /// Input that is being sent; the part from `written` to `full` is still to be sent.
    buffer: Vec<u8>,
    written: usize,
    full: usize,
    /// The input has ended, and the host was told so.
    fed: bool,
    task: Task<'a>,
}

impl Running<'_, '_> {
    fn finish(&mut self) -> Result<Status, WireError> {
        let mut chunk = vec![0; CHUNK];
        self.patiently(|running| running.channel.exec(running.task.command))?;
        loop {
            let mut moved = self.feed()?;
            moved |= self.drain(Source::Stdout, &mut chunk)?;
            moved |= self.drain(Source::Stderr, &mut chunk)?;
            if moved || self.has_work() {
                continue;
            }
            if self.channel.eof() && (self.fed || self.is_closed()?) {
                return self.status();
            }
            self.pause()?;
        }
    }

    /// Sends input; returns whether anything was sent.
    fn feed(&mut self) -> Result<bool, WireError> {
        if self.fed {
            return Ok(false);
        }
        if self.written == self.full {
            let read = match self.task.input.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                read => read.map_err(WireError::Input)?,
            };
            (self.written, self.full) = (0, read);
        }
        let (written, full) = (self.written, self.full);
        let sent = if full == 0 {
            self.whole(|running| running.channel.send_eof().map(|()| 0))
        } else {
            self.whole(|running| {
                let rest = &running.buffer[written..full];
                let written = running.channel.write(rest);
                written.map_err(|error| behind(&error, running.wire))
            })
        };
        match sent {
            Ok(None) => return Ok(false),
            Ok(Some(count)) => self.written += count,
            // The command has ended, or closed its input, without reading all of it.
            Err(WireError::Error(error))
                if error.code() == ErrorCode::Session(LIBSSH2_ERROR_CHANNEL_CLOSED) =>
            {
                self.fed = true;
                return Ok(false);
            }
            Err(stop) => return Err(stop),
        }
        self.fed = full == 0;
        Ok(true)
    }

    /// Receives at most one chunk of output; returns whether anything was received.
    fn drain(&mut self, source: Source, chunk: &mut [u8]) -> Result<bool, WireError> {
        let mut stream = match source {
            Source::Stdout => self.channel.stream(0),
            Source::Stderr => self.channel.stderr(),
        };
        match self.whole(|running| stream.read(chunk).map_err(|error| behind(&error, running.wire)))? {
            None | Some(0) => Ok(false),
            Some(count) => (self.task.output)(source, &chunk[..count]).map(|()| true),
        }
    }

    /// Returns whether something can be done without waiting. Any call of libssh2 reads everything that has arrived,
    /// for all streams, so the socket need not become readable again.
    fn has_work(&self) -> bool {
        let waits = !self.fed && self.written < self.full && !self.wire.is_sending();
        self.channel.read_window().available > 0 || (waits && self.channel.write_window().remaining > 0)
    }

    /// Calls `step`, and repeats it as long as a packet of it is only partly sent, since libssh2 allows no other call
    /// then. Returns `None` if it would have to wait otherwise.
    fn whole<T>(
        &mut self,
        mut step: impl FnMut(&mut Self) -> Result<T, ssh2::Error>,
    ) -> Result<Option<T>, WireError> {
        loop {
            match step(self) {
                Ok(done) => return Ok(Some(done)),
                Err(error) if error.code() != ErrorCode::Session(LIBSSH2_ERROR_EAGAIN) => {
                    return Err(WireError::Error(error));
                }
                Err(_) if !self.wire.is_sending() => return Ok(None),
                Err(_) => self.pause()?,
            }
        }
    }

    /// Repeats `step` until it succeeds.
    fn patiently<T>(
        &mut self,
        mut step: impl FnMut(&mut Self) -> Result<T, ssh2::Error>,
    ) -> Result<T, WireError> {
        loop {
            match self.whole(&mut step)? {
                Some(done) => return Ok(done),
                None => self.pause()?,
            }
        }
    }

    /// Returns whether the host has closed the channel, so that nothing reads the input any more.
    fn is_closed(&mut self) -> Result<bool, WireError> {
        self.whole(|running| running.channel.wait_close()).map(|closed| closed.is_some())
    }

    fn status(&mut self) -> Result<Status, WireError> {
        self.patiently(|running| running.channel.close())?;
        self.patiently(|running| running.channel.wait_close())?;
        let signal = self.channel.exit_signal().map_err(WireError::Error)?.exit_signal;
        let code = self.channel.exit_status().map_err(WireError::Error)?;
        Ok(signal.map_or(Status::Exited(code), Status::Signalled))
    }

    /// Waits a little. Returns an error if the caller does not wait any more, time has run out, or the host is silent.
    fn pause(&mut self) -> Result<(), WireError> {
        let left = self.task.deadline.left();
        if left.is_zero() {
            return Err(WireError::Timeout);
        }
        (self.task.check)()?;
        if self.wire.silent_for() > self.task.silence {
            return Err(WireError::Silent);
        }
        if !self.wire.is_sending() {
            self.wire.session.keepalive_send().map_err(WireError::Error)?;
        }
        self.wire.wait(left.min(TICK));
        Ok(())
    }
}

/// Returns the libssh2 error behind an error of a stream, which does not contain its number.
fn behind(error: &io::Error, wire: &Wire) -> ssh2::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return ssh2::Error::from_errno(ErrorCode::Session(LIBSSH2_ERROR_EAGAIN));
    }
    ssh2::Error::last_session_error(&wire.session).unwrap_or_else(ssh2::Error::unknown)
}
