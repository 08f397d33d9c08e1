//! One command on a wire: input in, output out, both at once, until it has ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use libssh2_sys::{LIBSSH2_ERROR_CHANNEL_CLOSED, LIBSSH2_ERROR_EAGAIN};
use ssh2::{Channel, ErrorCode};

use super::SshError;
use super::wire::{Deadline, Wire, WireError};

/// How much is read and written at once.
const CHUNK: usize = 64 * 1024;
/// How often somebody who waits is asked whether they still do.
const TICK: Duration = Duration::from_millis(250);

/// What a command reads from its standard input.
///
/// A connection that breaks looks to the command like the end of its input: what must be whole is to be checked there
/// before it is used.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// Nothing.
    #[default]
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of this machine.
    File(PathBuf),
}

impl Input {
    /// Opens it, so that a file that is not there is found before anything runs.
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
    /// With this code.
    Exited(i32),
    /// By this signal, without `SIG`.
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

/// Where output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes output as it comes; an error ends it all.
pub type Sink<'a> = &'a mut dyn FnMut(Source, &[u8]) -> Result<(), WireError>;

/// A command to run.
pub struct Task<'a> {
    /// The line for the remote shell.
    pub command: &'a str,
    /// What it reads; what would block has nothing to say just now, and is asked again soon.
    pub input: &'a mut dyn Read,
    /// Until when it must have ended.
    pub deadline: Deadline,
    /// A host that says nothing for that long, and does not answer when asked, is taken for dead.
    pub silence: Duration,
    /// What takes the output.
    pub output: Sink<'a>,
    /// Why it should not go on.
    pub check: &'a dyn Fn() -> Result<(), WireError>,
}

/// Why a command came to nothing.
#[derive(Debug)]
pub struct Broken {
    /// Whether it was handed over, so that it may have run.
    pub sent: bool,
    /// What happened.
    pub stop: WireError,
}

/// Runs a command to its end. Opening a channel for it must take no longer than `open`.
///
/// # Errors
/// When the host refuses, goes silent, or time runs out. The wire is of no use then.
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
        // libssh2 has many words for it, most of them of no use.
        WireError::Error(_) if wire.is_closed() => Broken { sent, stop: WireError::Closed },
        stop => Broken { sent, stop },
    })
}

struct Running<'w, 'a> {
    wire: &'w mut Wire,
    channel: Channel,
    /// Input on its way, from `written` to `full`.
    buffer: Vec<u8>,
    written: usize,
    full: usize,
    /// The input has ended, and the host knows.
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

    /// Passes input on.
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
            // It has ended, or closed its input, without reading all of it.
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

    /// Takes output over, one chunk at most.
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

    /// Whether something can be done at once: any call takes in all that has arrived, for the others too, and the socket
    /// says nothing of it then.
    fn has_work(&self) -> bool {
        let waits = !self.fed && self.written < self.full && !self.wire.is_sending();
        self.channel.read_window().available > 0 || (waits && self.channel.write_window().remaining > 0)
    }

    /// Does it again while a packet of it is half sent, before anything else is done. None: it would have to wait.
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

    /// Does it until it is done.
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

    /// Whether the host has closed the channel, so that nothing reads the input any more.
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

    /// Waits a little, and ends what nobody waits for, what takes too long, and what is dead.
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

/// The error of libssh2 behind one of a stream, which has lost its number.
fn behind(error: &io::Error, wire: &Wire) -> ssh2::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return ssh2::Error::from_errno(ErrorCode::Session(LIBSSH2_ERROR_EAGAIN));
    }
    ssh2::Error::last_session_error(&wire.session).unwrap_or_else(ssh2::Error::unknown)
}
