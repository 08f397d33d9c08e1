//! `escli watch`: inspects the cluster again and again; shows a live view on a terminal, and prints lines elsewhere.

use std::future::pending;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep_until;

use super::probe::Probe;
use crate::cli::watch::Args;
use crate::engine::interrupt::Interrupt;
use crate::failure::{Exit, Failure};
use crate::overview::{Overview, Until};
use crate::settings::Settings;
use crate::view::watch::{History, Key, Screen};
use crate::view::{self, document};

/// Shows the cluster until the operator quits, or until the condition of `--until` is met.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Timeout`] if `--timeout` passes first; if the
/// terminal is closed.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let probe = Probe::open(settings)?;
    let live = settings.env.stdout_is_terminal && !settings.output.is_machine();
    let interrupt =
        Interrupt::listen().map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut output = if live { Output::live(settings, args)? } else { Output::lines(settings) };
    let began = Instant::now();
    // Without a condition there is nothing that `--timeout` could limit.
    let deadline = args.until.as_ref().map(|_| began + settings.timeout);
    let mut goal = None;
    loop {
        let next = Instant::now() + args.interval;
        let seen = tokio::select! {
            seen = probe.inspect() => seen,
            exit = output.quit() => return Ok(quit(exit, args.until.as_ref())),
            () = interrupt.reached(1) => return Ok(Exit::Interrupted),
            () = reached(deadline) => return Err(timeout(settings, args, output.last())),
        };
        goal = goal.or(seen.commit_index);
        let done = args.until.as_ref().is_some_and(|until| until.is_reached(&seen, goal));
        if !output.show(began.elapsed(), seen)? || done {
            return Ok(Exit::Ok);
        }
        tokio::select! {
            () = sleep_until(next.into()) => {}
            exit = output.quit() => return Ok(quit(exit, args.until.as_ref())),
            () = interrupt.reached(1) => return Ok(Exit::Interrupted),
            () = reached(deadline) => return Err(timeout(settings, args, output.last())),
        }
    }
}

/// Returns the exit code after the operator has quit: a failure only if a condition was waited for.
fn quit(key: Key, until: Option<&Until>) -> Exit {
    if key == Key::Quit && until.is_none() { Exit::Ok } else { Exit::Interrupted }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

fn timeout(settings: &Settings, args: &Args, last: Option<&Overview>) -> Failure {
    let until = args.until.as_ref().map(ToString::to_string).unwrap_or_default();
    let time = settings.timeout;
    let mut failure = Failure::new(Exit::Timeout, format!("{until} was not reached within {time:?}"));
    failure.details = last.map(|seen| seen.reasons.clone()).unwrap_or_default();
    if let (Some(Until::Version(_)), Some(seen)) = (&args.until, last) {
        failure = failure.detail(format!("running versions: {}", seen.versions.join(", ")));
    }
    failure.hint("escli health").hint("escli logs")
}

/// Where inspections are shown.
enum Output<'a> {
    Lines {
        settings: &'a Settings,
        last: Option<Overview>,
    },
    Live {
        screen: Screen,
        keys: UnboundedReceiver<Key>,
        history: History,
        footer: String,
        last: Option<Overview>,
    },
}

impl<'a> Output<'a> {
    fn lines(settings: &'a Settings) -> Self {
        Self::Lines { settings, last: None }
    }

    fn live(settings: &Settings, args: &Args) -> Result<Self, Failure> {
        let screen = Screen::open(view::out_paint(settings).is_on())
            .map_err(|error| Failure::failed(format!("cannot draw on the terminal: {error}")))?;
        let until = args.until.as_ref().map_or_else(String::new, |until| format!(" · until {until}"));
        let footer = format!("q quit · every {:?}{until}", args.interval);
        Ok(Self::Live { keys: screen.keys(), screen, history: History::default(), footer, last: None })
    }

    fn last(&self) -> Option<&Overview> {
        match self {
            Self::Lines { last, .. } | Self::Live { last, .. } => last.as_ref(),
        }
    }

    /// Shows one inspection; returns `false` if standard output is closed.
    fn show(&mut self, at: Duration, seen: Overview) -> Result<bool, Failure> {
        match self {
            Self::Lines { settings, last } => {
                let read = view::put(&document::item(settings.output, &seen));
                *last = Some(seen);
                Ok(read)
            }
            Self::Live { screen, history, footer, last, .. } => {
                history.push(at, &seen);
                screen.show(&seen, history, footer).map_err(|error| gone(&error))?;
                *last = Some(seen);
                Ok(true)
            }
        }
    }

    /// Waits until the operator quits. Meanwhile draws again whenever the terminal changes its size.
    async fn quit(&mut self) -> Key {
        let Self::Live { screen, keys, history, footer, last } = self else { return pending().await };
        loop {
            match keys.recv().await {
                Some(Key::Redraw) => {
                    if let Some(seen) = last {
                        // If the terminal is closed, the next inspection fails.
                        let _ = screen.show(seen, history, footer);
                    }
                }
                Some(key) => return key,
                None => return pending().await,
            }
        }
    }
}

fn gone(error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot draw on the terminal: {error}"))
}
