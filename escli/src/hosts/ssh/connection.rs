//! A connection to a host for async code. A thread of its own runs the commands, one after the other, and does the
//! waiting.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::exec::{self, Broken, Input, Source, Status, Task};
use super::host::{Host, Limits, shortened};
use super::stream::{KeepAlive, Lines};
use super::wire::{Deadline, Wire, WireError};
use super::{Destination, Passphrases, SshError};

/// Largest output of one command, in bytes.
const MAX_OUTPUT: usize = 256 << 20;

/// The shortest limit for silence. With a shorter one, a live host could seem dead.
const MIN_SILENCE: Duration = Duration::from_secs(3);

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How the command ended.
    pub status: Status,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns whether the command exited with status 0.
    pub fn success(&self) -> bool {
        self.status == Status::Exited(0)
    }

    /// Returns standard output as text, without white space at its ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Returns standard error as text, without white space at its ends.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// A connection to a host. Clones share it, and it is closed when the last one is dropped.
#[derive(Clone)]
pub struct Connection {
    jobs: mpsc::Sender<Job>,
    host: Arc<Host>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection to {}", self.host.destination.address())
    }
}

struct Job {
    command: String,
    input: Input,
    limit: Duration,
    reply: oneshot::Sender<Result<Output, SshError>>,
}

impl Connection {
    /// Connects to the host and logs in.
    ///
    /// # Errors
    /// `Unreachable`, `Refused` or `Failed`, within `limits.open`; time in which the operator answers a question does
    /// not count.
    pub async fn open(
        destination: Destination,
        passphrases: Arc<Passphrases>,
        limits: Limits,
    ) -> Result<Self, SshError> {
        let limits = Limits { silence: limits.silence.max(MIN_SILENCE), ..limits };
        let host = Arc::new(Host { destination, passphrases, limits });
        let (jobs, queue) = mpsc::channel();
        let (reply, opened) = oneshot::channel();
        let theirs = Arc::clone(&host);
        host.spawn("ssh", move || {
            let result = theirs.dial(Deadline::after(theirs.limits.open));
            let (wire, answer) = match result {
                Ok(wire) => (Some(wire), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // If no caller waits any more, or there is no connection, the thread ends.
            if reply.send(answer).is_ok() && wire.is_some() {
                Worker { host: theirs, wire }.work(&queue);
            }
        })?;
        opened.await.unwrap_or_else(|_| Err(host.gave_up()))?;
        Ok(Self { jobs, host })
    }

    /// The host at the other end.
    pub fn destination(&self) -> &Destination {
        &self.host.destination
    }

    /// Runs a command line in the remote user's shell, and waits for its end. Commands run one after the other, and
    /// `limit` counts from the start of this one. If the caller stops waiting, the command is cut off.
    ///
    /// If the connection has broken since the last command, it is opened again, once. A command that may have run is
    /// not repeated.
    ///
    /// # Errors
    /// `Lost` if the command may have run, another kind if it did not.
    pub async fn run(&self, command: &str, input: Input, limit: Duration) -> Result<Output, SshError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { command: command.to_owned(), input, limit, reply };
        self.jobs.send(job).map_err(|_| self.host.gave_up())?;
        answer.await.unwrap_or_else(|_| Err(self.host.gave_up()))
    }

    /// Runs a command on a connection of its own. Its lines can be read as they arrive, until it ends or the returned
    /// value is dropped.
    ///
    /// # Errors
    /// Those of opening a connection.
    pub async fn stream(&self, command: &str) -> Result<Lines, SshError> {
        Lines::of(Arc::clone(&self.host), command.to_owned(), None).await
    }

    /// As [`Self::stream`], for a command that waits for a line from time to time and answers it with a line that is a
    /// dot. The line is sent as often as `keep_alive` says. Other lines of the command are passed on.
    ///
    /// # Errors
    /// Those of opening a connection.
    pub async fn hold(&self, command: &str, keep_alive: KeepAlive) -> Result<Lines, SshError> {
        Lines::of(Arc::clone(&self.host), command.to_owned(), Some(keep_alive)).await
    }
}

struct Worker {
    host: Arc<Host>,
    wire: Option<Wire>,
}

impl Worker {
    fn work(mut self, queue: &mpsc::Receiver<Job>) {
        loop {
            match queue.recv_timeout(self.host.limits.silence / 3) {
                Ok(job) => self.perform(job),
                Err(RecvTimeoutError::Timeout) => self.keep_alive(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(wire) = self.wire {
            // The connection is closed even if the host does not get this message.
            _ = wire.session.disconnect(None, "done", None);
        }
    }

    fn keep_alive(&mut self) {
        if self.wire.as_ref().is_some_and(|wire| wire.session.keepalive_send().is_err()) {
            self.wire = None;
        }
    }

    fn perform(&mut self, job: Job) {
        let Job { command, input, limit, mut reply } = job;
        if reply.is_closed() {
            return;
        }
        let result = self.run(&command, &input, limit, &mut reply);
        _ = reply.send(result);
    }

    fn run(
        &mut self,
        command: &str,
        input: &Input,
        limit: Duration,
        reply: &mut oneshot::Sender<Result<Output, SshError>>,
    ) -> Result<Output, SshError> {
        if command.contains('\0') {
            return Err(SshError::failed(format!("`{}` holds a NUL byte", shortened(command))));
        }
        let deadline = Deadline::after(limit);
        let mut fresh = false;
        loop {
            let host = Arc::clone(&self.host);
            let mut wire = match self.wire.take() {
                Some(wire) => wire,
                None => {
                    fresh = true;
                    host.dial(deadline.or_after(host.limits.open))?
                }
            };
            match attempt(&mut wire, &host, command, input, deadline, reply)? {
                Ok(output) => {
                    self.wire = Some(wire);
                    return Ok(output);
                }
                Err(broken) if fresh || broken.sent || deadline.left().is_zero() => {
                    return Err(host.explain(command, Some(limit), &broken));
                }
                // The connection broke while it was idle, so nothing was sent.
                Err(_) => {}
            }
        }
    }
}

fn attempt(
    wire: &mut Wire,
    host: &Host,
    command: &str,
    input: &Input,
    deadline: Deadline,
    reply: &oneshot::Sender<Result<Output, SshError>>,
) -> Result<Result<Output, Broken>, SshError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut output = |source, bytes: &[u8]| {
        let into = if source == Source::Stdout { &mut stdout } else { &mut stderr };
        into.extend_from_slice(bytes);
        if into.len() > MAX_OUTPUT { Err(WireError::TooMuch) } else { Ok(()) }
    };
    let mut input = input.open()?;
    let task = Task {
        command,
        input: &mut *input,
        deadline,
        silence: host.limits.silence,
        output: &mut output,
        check: &|| if reply.is_closed() { Err(WireError::Abandoned) } else { Ok(()) },
    };
    let result = exec::run(wire, host.limits.open, task);
    Ok(result.map(|status| Output { status, stdout, stderr }))
}
