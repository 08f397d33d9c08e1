//! `escli produce`: lines in, events out.

use std::io::{self, BufRead, Read};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::kafka::Kafka;
use crate::cli::produce::Args;
use crate::engine::interrupt::Interrupt;
use crate::failure::{Exit, Failure};
use crate::kafka::producer::Producer;
use crate::kafka::records::NewEvent;
use crate::settings::Settings;
use crate::view::{self, produce};

/// Lines that wait to be sent.
const MAX_WAITING: usize = 10_000;
/// Bytes of the events that are sent together.
const MAX_SENT_BYTES: usize = 4 << 20;
/// Longest line, in bytes: no topic takes larger events.
const MAX_LINE: u64 = 16 << 20;

/// Writes every line, and says how many were acknowledged.
///
/// # Errors
/// Usage; refused; a line cannot be read, or not every event was acknowledged.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let began = Instant::now();
    let headers = headers(&args.headers)?;
    let mut kafka = Kafka::open_own(settings).await?;
    if kafka.has_used_stdin() {
        return Err(Failure::usage("standard input cannot be both cluster.yaml and the events")
            .hint(format!("name the file:  escli -c path/to/cluster.yaml produce {}", args.topic)));
    }
    let mut producer = Producer::open(&mut kafka.client, &args.topic, args.partition, headers).await?;
    if settings.dry_run {
        view::remark(settings, &format!("would write the lines of standard input to {}", args.topic));
        return Ok(Exit::Ok);
    }
    let interrupt =
        Interrupt::listen().map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut lines = Lines { received: read(), separator: args.key_separator.clone(), count: 0 };
    let result = write_all(&mut kafka, &mut producer, &mut lines, &interrupt).await;
    let document = produce::document(&kafka.cluster, &args.topic, producer.written(), began.elapsed());
    match result {
        Ok(()) => {
            view::show(settings, &document, |_| produce::text(&document));
            Ok(Exit::Ok)
        }
        Err(failure) => Err(failure.detail(produce::text(&document).trim_end())),
    }
}

/// The headers of every event.
fn headers(pairs: &[(String, String)]) -> Result<Vec<(String, Bytes)>, Failure> {
    for (at, (key, _)) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|(other, _)| other == key) {
            return Err(Failure::usage(format!("--header {key} is given twice")));
        }
    }
    Ok(pairs.iter().map(|(key, value)| (key.clone(), Bytes::from(value.clone()))).collect())
}

async fn write_all(
    kafka: &mut Kafka,
    producer: &mut Producer,
    lines: &mut Lines,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    loop {
        let events = tokio::select! {
            events = lines.next() => events?,
            () = interrupt.reached(1) => return Err(Failure::new(Exit::Interrupted, "interrupted")),
        };
        if events.is_empty() {
            return Ok(());
        }
        // What was begun is finished: whether it was written would not be known otherwise.
        tokio::select! {
            written = producer.write(&mut kafka.client, events) => written?,
            () = interrupt.reached(2) => {
                let failure = Failure::new(Exit::Interrupted, "interrupted");
                return Err(failure.detail("some events were sent and not acknowledged yet; they may be written"));
            }
        }
    }
}

/// Reads standard input on a thread of its own: nothing can interrupt the wait for a line.
fn read() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, received) = mpsc::channel(MAX_WAITING);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let line = match line(&mut input) {
                Ok(None) => return,
                Ok(Some(line)) => Ok(line),
                Err(error) => Err(error),
            };
            let is_end = line.is_err();
            if sender.blocking_send(line).is_err() || is_end {
                return;
            }
        }
    });
    received
}

/// The next line without its end; `None` at the end of the input.
fn line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // One byte more for the end of the longest line.
    input.take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 >= MAX_LINE => {
            Err(io::Error::other(format!("a line is longer than {MAX_LINE} bytes")))
        }
        Some(last) => {
            line.push(last);
            Ok(Some(line))
        }
    }
}

/// The lines of standard input, as events.
struct Lines {
    received: mpsc::Receiver<io::Result<Vec<u8>>>,
    separator: Option<String>,
    /// Lines that were taken.
    count: u64,
}

impl Lines {
    /// Waits for a line, and takes those that have come meanwhile; none at the end.
    async fn next(&mut self) -> Result<Vec<NewEvent>, Failure> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut line = self.received.recv().await;
        while let Some(read) = line {
            self.count += 1;
            let number = self.count;
            let read =
                read.map_err(|error| Failure::failed(format!("line {number} of standard input: {error}")))?;
            bytes += read.len();
            events.push(self.event(read)?);
            line = if bytes < MAX_SENT_BYTES { self.received.try_recv().ok() } else { None };
        }
        Ok(events)
    }

    fn event(&self, line: Vec<u8>) -> Result<NewEvent, Failure> {
        let line = Bytes::from(line);
        let Some(separator) = &self.separator else {
            return Ok(NewEvent { key: None, value: Some(line) });
        };
        let at = line.windows(separator.len()).position(|window| window == separator.as_bytes());
        let at = at.ok_or_else(|| {
            Failure::failed(format!("line {} of standard input has no {separator:?}", self.count))
        })?;
        let value = line.slice(at + separator.len()..);
        Ok(NewEvent { key: Some(line.slice(..at)), value: Some(value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut input: &[u8]) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| line(&mut input).unwrap()).collect()
    }

    #[test]
    fn every_line_is_an_event_also_an_empty_one_and_one_without_an_end() {
        assert_eq!(lines(b"a\n\nb"), [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
        assert_eq!(lines(b"a\r\n"), [b"a\r".to_vec()]);
        assert!(lines(b"").is_empty());
        let longest = vec![b'x'; usize::try_from(MAX_LINE).unwrap()];
        assert_eq!(lines(&[&longest[..], b"\n"].concat()).concat(), longest);
        assert!(line(&mut &[&longest[..], b"x\n"].concat()[..]).is_err());
    }

    #[tokio::test]
    async fn the_key_is_what_comes_before_the_first_separator() {
        let taken = |input: &'static [&'static str]| async move {
            let (sender, received) = mpsc::channel(8);
            for line in input {
                sender.send(Ok(line.as_bytes().to_vec())).await.unwrap();
            }
            drop(sender);
            Lines { received, separator: Some("::".to_owned()), count: 0 }.next().await
        };
        let events = taken(&["k::v::w", "::x", "y::"]).await.unwrap();
        let texts = events.iter().map(|event| (event.key.clone().unwrap(), event.value.clone().unwrap()));
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [("k", "v::w"), ("", "x"), ("y", "")].map(|(k, v)| (k.into(), v.into()))
        );
        let failure = taken(&["a::b", "c"]).await.unwrap_err();
        assert_eq!(failure.message, "line 2 of standard input has no \"::\"");
    }

    #[test]
    fn a_header_is_given_once() {
        let pair = |key: &str| (key.to_owned(), "v".to_owned());
        assert_eq!(headers(&[pair("a"), pair("b")]).unwrap().len(), 2);
        assert_eq!(headers(&[pair("a"), pair("b"), pair("a")]).unwrap_err().kind, Exit::Usage);
    }
}
