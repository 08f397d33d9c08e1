//! Lines of a command that may never end, such as `tail -f`, as they come.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::SshError;
use super::connection::Host;
use super::exec::{self, Source, Status, Task};
use super::wire::{Deadline, Stop};

/// Lines that may wait for a slow reader; then the host waits.
const WAITING: usize = 1024;
/// Longest line; a longer one comes in pieces.
const LONGEST: usize = 64 * 1024;
/// As good as for ever.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line, without its end.
    Line(Source, String),
    /// It has ended; nothing comes after that.
    Ended(Status),
}

/// How often a command hears from us that we are there, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// From one line to the next.
    pub every: Duration,
    /// Longest wait for the answer to one.
    pub late: Duration,
}

/// What a command with a pulse answers.
const ANSWER: &[u8] = b".\n";

/// The lines of a command. Dropping them cuts the command off.
#[derive(Debug)]
pub struct Lines {
    said: mpsc::Receiver<Result<Said, SshError>>,
}

impl Lines {
    /// The next line, or how it ended; then none.
    ///
    /// # Errors
    /// `Lost` when the host goes silent.
    pub async fn next(&mut self) -> Option<Result<Said, SshError>> {
        self.said.recv().await
    }

    /// What is there already, without waiting: `None` when there is nothing, `Some(None)` when nothing comes any more.
    #[allow(clippy::option_option, reason = "two answers without a line, and each means something else")]
    pub fn ready(&mut self) -> Option<Option<Result<Said, SshError>>> {
        match self.said.try_recv() {
            Ok(said) => Some(Some(said)),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(None),
        }
    }

    pub(super) async fn of(host: Arc<Host>, command: String, pulse: Option<Pulse>) -> Result<Self, SshError> {
        let (sender, said) = mpsc::channel(WAITING);
        let (reply, opened) = oneshot::channel();
        let theirs = Arc::clone(&host);
        host.spawn("ssh lines", move || follow(&theirs, &command, pulse, reply, &sender))?;
        opened.await.unwrap_or_else(|_| Err(host.gave_up()))?;
        Ok(Self { said })
    }
}

fn follow(
    host: &Host,
    command: &str,
    pulse: Option<Pulse>,
    reply: oneshot::Sender<Result<(), SshError>>,
    sender: &mpsc::Sender<Result<Said, SshError>>,
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
    let heart = pulse.map(Heart::new);
    let mut output = |source, bytes: &[u8]| {
        if let (Some(heart), Source::Stdout) = (&heart, source)
            && bytes.chunks(ANSWER.len()).all(|chunk| chunk == ANSWER)
        {
            heart.answered();
            return Ok(());
        }
        let half = if source == Source::Stdout { &mut halves[0] } else { &mut halves[1] };
        half.take(bytes, sender)
    };
    let task = Task {
        command,
        input: &mut Beats(heart.as_ref()),
        deadline: Deadline::after(EVER),
        silence: host.limits.silence,
        output: &mut output,
        check: &|| {
            if sender.is_closed() {
                return Err(Stop::Abandoned);
            }
            if heart.as_ref().is_some_and(Heart::is_late) { Err(Stop::Silent) } else { Ok(()) }
        },
    };
    let result = exec::run(&mut wire, host.limits.open, task);
    for half in &mut halves {
        _ = half.rest(sender);
    }
    let last = result.map(Said::Ended).map_err(|broken| host.explain(command, None, &broken));
    // Nobody may be listening any more, which is then why it ended.
    _ = sender.blocking_send(last);
}

/// Lines sent so that the command knows that we are there: one at a time, each when the one before was answered.
struct Heart {
    pulse: Pulse,
    sent: Cell<Instant>,
    is_answered: Cell<bool>,
}

impl Heart {
    fn new(pulse: Pulse) -> Self {
        Self { pulse, sent: Cell::new(Instant::now()), is_answered: Cell::new(true) }
    }

    fn answered(&self) {
        self.is_answered.set(true);
    }

    fn is_late(&self) -> bool {
        !self.is_answered.get() && self.sent.get().elapsed() > self.pulse.late
    }

    /// Whether it is time for the next one, which is sent then.
    fn beats(&self) -> bool {
        let beats = self.is_answered.get() && self.sent.get().elapsed() >= self.pulse.every;
        if beats {
            self.sent.set(Instant::now());
            self.is_answered.set(false);
        }
        beats
    }
}

/// The heart as a command's input; without one there is none.
struct Beats<'a>(Option<&'a Heart>);

impl Read for Beats<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match (self.0, into.first_mut()) {
            (None, _) | (_, None) => Ok(0),
            (Some(heart), Some(first)) if heart.beats() => {
                *first = b'\n';
                Ok(1)
            }
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The line that has begun.
struct Half {
    source: Source,
    begun: Vec<u8>,
}

impl Half {
    fn new(source: Source) -> Self {
        Self { source, begun: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8], sender: &mpsc::Sender<Result<Said, SshError>>) -> Result<(), Stop> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() >= LONGEST {
                self.send(sender)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self, sender: &mpsc::Sender<Result<Said, SshError>>) -> Result<(), Stop> {
        if self.begun.is_empty() { Ok(()) } else { self.send(sender) }
    }

    fn send(&mut self, sender: &mpsc::Sender<Result<Said, SshError>>) -> Result<(), Stop> {
        let line = self.begun.strip_suffix(b"\n").unwrap_or(&self.begun);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        self.begun.clear();
        sender.blocking_send(Ok(Said::Line(self.source, line))).map_err(|_| Stop::Abandoned)
    }
}
