//! Reads the lines of a command that may never end, such as `tail -f`, as they arrive.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::SshError;
use super::exec::{self, Source, Status, Task};
use super::host::Host;
use super::wire::{Deadline, WireError};

/// Number of lines that wait for a slow reader; beyond that, the host has to wait.
const MAX_WAITING_LINES: usize = 1024;
/// Longest line, in bytes; a longer one is split.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// A limit that is never reached.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Something that a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// It printed a line; given without the line end.
    Line(Source, String),
    /// It ended. No event follows.
    Ended(Status),
}

/// How a command is told that we are still there.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Time from one line to the next.
    pub interval: Duration,
    /// Longest wait for the answer to a line.
    pub timeout: Duration,
}

/// What the command answers to such a line.
const ANSWER: &[u8] = b".\n";

/// The lines of a running command. Dropping the value cuts the command off.
#[derive(Debug)]
pub struct Lines {
    said: mpsc::Receiver<Result<StreamEvent, SshError>>,
}

impl Lines {
    /// Returns the next line, or, as the last event, how the command ended; `None` after that.
    ///
    /// # Errors
    /// `Lost` if the host goes silent.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, SshError>> {
        self.said.recv().await
    }

    /// Returns what has already arrived, without waiting: `None` if nothing has, `Some(None)` after the last event.
    #[allow(clippy::option_option, reason = "two answers without a line, and each means something else")]
    pub fn ready(&mut self) -> Option<Option<Result<StreamEvent, SshError>>> {
        match self.said.try_recv() {
            Ok(said) => Some(Some(said)),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(None),
        }
    }

    pub(super) async fn of(
        host: Arc<Host>,
        command: String,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Self, SshError> {
        let (sender, said) = mpsc::channel(MAX_WAITING_LINES);
        let (reply, opened) = oneshot::channel();
        let theirs = Arc::clone(&host);
        host.spawn("ssh lines", move || follow(&theirs, &command, keep_alive, reply, &sender))?;
        opened.await.unwrap_or_else(|_| Err(host.gave_up()))?;
        Ok(Self { said })
    }
}

fn follow(
    host: &Host,
    command: &str,
    keep_alive: Option<KeepAlive>,
    reply: oneshot::Sender<Result<(), SshError>>,
    sender: &mpsc::Sender<Result<StreamEvent, SshError>>,
) {
    let mut wire = match host.dial(Deadline::after(host.limits.open)) {
        Ok(wire) => wire,
        Err(error) => {
            _ = reply.send(Err(error));
            return;
        }
    };
    if reply.send(Ok(())).is_err() {
        return;
    }
    let mut halves = [Half::new(Source::Stdout), Half::new(Source::Stderr)];
    let heartbeat = keep_alive.map(Heartbeat::new);
    let mut output = |source, bytes: &[u8]| {
        if let (Some(heartbeat), Source::Stdout) = (&heartbeat, source)
            && bytes.chunks(ANSWER.len()).all(|chunk| chunk == ANSWER)
        {
            heartbeat.answered();
            return Ok(());
        }
        let half = if source == Source::Stdout { &mut halves[0] } else { &mut halves[1] };
        half.take(bytes, sender)
    };
    let task = Task {
        command,
        input: &mut Heartbeats(heartbeat.as_ref()),
        deadline: Deadline::after(NO_DEADLINE),
        silence: host.limits.silence,
        output: &mut output,
        check: &|| {
            if sender.is_closed() {
                return Err(WireError::Abandoned);
            }
            if heartbeat.as_ref().is_some_and(Heartbeat::is_late) { Err(WireError::Silent) } else { Ok(()) }
        },
    };
    let result = exec::run(&mut wire, host.limits.open, task);
    for half in &mut halves {
        _ = half.rest(sender);
    }
    let last = result.map(StreamEvent::Ended).map_err(|broken| host.explain(command, None, &broken));
    // If the receiver is gone, that is why the command was ended.
    _ = sender.blocking_send(last);
}

/// Sends the lines that tell the command that we are still there, each one after the previous one was answered.
struct Heartbeat {
    keep_alive: KeepAlive,
    sent: Cell<Instant>,
    is_answered: Cell<bool>,
}

impl Heartbeat {
    fn new(keep_alive: KeepAlive) -> Self {
        Self { keep_alive, sent: Cell::new(Instant::now()), is_answered: Cell::new(true) }
    }

    fn answered(&self) {
        self.is_answered.set(true);
    }

    fn is_late(&self) -> bool {
        !self.is_answered.get() && self.sent.get().elapsed() > self.keep_alive.timeout
    }

    /// Returns whether the next line is due, and notes that it is sent.
    fn beats(&self) -> bool {
        let beats = self.is_answered.get() && self.sent.get().elapsed() >= self.keep_alive.interval;
        if beats {
            self.sent.set(Instant::now());
            self.is_answered.set(false);
        }
        beats
    }
}

/// The standard input of the command: the heartbeat's lines, or nothing without a heartbeat.
struct Heartbeats<'a>(Option<&'a Heartbeat>);

impl Read for Heartbeats<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match (self.0, into.first_mut()) {
            (None, _) | (_, None) => Ok(0),
            (Some(heartbeat), Some(first)) if heartbeat.beats() => {
                *first = b'\n';
                Ok(1)
            }
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A line whose end has not arrived yet.
struct Half {
    source: Source,
    begun: Vec<u8>,
}

impl Half {
    fn new(source: Source) -> Self {
        Self { source, begun: Vec::new() }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        sender: &mpsc::Sender<Result<StreamEvent, SshError>>,
    ) -> Result<(), WireError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() >= MAX_LINE_BYTES {
                self.send(sender)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self, sender: &mpsc::Sender<Result<StreamEvent, SshError>>) -> Result<(), WireError> {
        if self.begun.is_empty() { Ok(()) } else { self.send(sender) }
    }

    fn send(&mut self, sender: &mpsc::Sender<Result<StreamEvent, SshError>>) -> Result<(), WireError> {
        let line = self.begun.strip_suffix(b"\n").unwrap_or(&self.begun);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        self.begun.clear();
        sender.blocking_send(Ok(StreamEvent::Line(self.source, line))).map_err(|_| WireError::Abandoned)
    }
}
