//! A connection to a host, for async code: a thread of its own does the waiting, one command after the other.

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

/// Most output that a command may have, in bytes.
const MAX_OUTPUT: usize = 256 << 20;

/// Less is not to be told from a host that answers.
const MIN_SILENCE: Duration = Duration::from_secs(3);

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.status == Status::Exited(0)
    }

    /// Standard output as text, without blanks at its ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text, without blanks at its ends.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// A connection to a host; clones share it. It ends when the last of them is dropped.
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
    /// Connects and logs in.
    ///
    /// # Errors
    /// `Unreachable`, `Refused` or `Failed`, within `limits.open` and the time in which the operator is asked something.
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
            // Nobody waits any more, or nothing came of it: the thread ends.
            if reply.send(answer).is_ok() && wire.is_some() {
                Worker { host: theirs, wire }.work(&queue);
            }
        })?;
        opened.await.unwrap_or_else(|_| Err(host.gave_up()))?;
        Ok(Self { jobs, host })
    }

    /// Where it leads.
    pub fn destination(&self) -> &Destination {
        &self.host.destination
    }

    /// Runs a command line in the remote user's shell and waits for its end. Commands run one after the other; the limit
    /// counts from this one's beginning. When nobody waits for the answer any more, the command is cut off.
    ///
    /// A connection that has died in the meantime is opened again, once; a command that may have run is not repeated.
    ///
    /// # Errors
    /// `Lost` when it may have run, the other kinds when it did not.
    pub async fn run(&self, command: &str, input: Input, limit: Duration) -> Result<Output, SshError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { command: command.to_owned(), input, limit, reply };
        self.jobs.send(job).map_err(|_| self.host.gave_up())?;
        answer.await.unwrap_or_else(|_| Err(self.host.gave_up()))
    }

    /// Runs a command on a connection of its own and passes its lines on as they come, until it ends or the lines are
    /// dropped.
    ///
    /// # Errors
    /// As for opening a connection.
    pub async fn stream(&self, command: &str) -> Result<Lines, SshError> {
        Lines::of(Arc::clone(&self.host), command.to_owned(), None).await
    }

    /// The same for a command that reads a line from time to time and answers it with a dot, for as long as it does. Its
    /// other lines are passed on.
    ///
    /// # Errors
    /// As for opening a connection.
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
            // Told or not, it is over.
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
                // It died while nobody looked; nothing was sent.
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
