//! Lines of a command that may never end, such as `tail -f`, as they come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

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

    pub(super) async fn of(host: Arc<Host>, command: String) -> Result<Self, SshError> {
        let (sender, said) = mpsc::channel(WAITING);
        let (reply, opened) = oneshot::channel();
        let theirs = Arc::clone(&host);
        host.spawn("ssh lines", move || follow(&theirs, &command, reply, &sender))?;
        opened.await.unwrap_or_else(|_| Err(host.gave_up()))?;
        Ok(Self { said })
    }
}

fn follow(
    host: &Host,
    command: &str,
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
    let mut output = |source, bytes: &[u8]| {
        let half = if source == Source::Stdout { &mut halves[0] } else { &mut halves[1] };
        half.take(bytes, sender)
    };
    let task = Task {
        command,
        input: &mut io::empty(),
        deadline: Deadline::after(EVER),
        silence: host.limits.silence,
        output: &mut output,
        wanted: &|| !sender.is_closed(),
    };
    let result = exec::run(&mut wire, host.limits.open, task);
    for half in &mut halves {
        _ = half.rest(sender);
    }
    let last = result.map(Said::Ended).map_err(|broken| host.explain(command, None, &broken));
    // Nobody may be listening any more, which is then why it ended.
    _ = sender.blocking_send(last);
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
