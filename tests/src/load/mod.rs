//! Clients that go on through faults and record what they saw, for [`LoadHistory`] to check; a probe and a
//! writer that measure interruptions.

pub mod history;
pub mod probe;
pub mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::records::Compression;

use crate::client::{self, Client, Code, Event};
use crate::cluster::{Cluster, MAX_WAIT};
use history::{EndRead, LoadHistory, Write};

/// Limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(5);

type Reading = (Vec<EndRead>, Vec<Event>);

/// For each node an idempotent producer, a plain one and a reader.
pub struct Load {
    stop: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Result<Vec<Write>>>>,
    readers: Vec<JoinHandle<Result<Reading>>>,
}

impl Load {
    /// Starts the clients on partition 0 of `topic`. `round` makes their values unique.
    pub fn start(cluster: &Cluster, topic: &str, round: u64) -> Self {
        Self::on(&cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect::<Vec<_>>(), topic, round)
    }

    /// The same for nodes at these addresses.
    pub fn on(nodes: &[SocketAddr], topic: &str, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |first: usize, name: String| LoadClient {
            stop: Arc::clone(&stop),
            nodes: nodes.to_vec(),
            turn: first,
            client: None,
            topic: topic.to_owned(),
            name,
        };
        let (mut producers, mut readers) = (Vec::new(), Vec::new());
        for first in 0..nodes.len() {
            let plain = client(first, format!("{round}-plain{first}"));
            let idempotent = client(first, format!("{round}-once{first}"));
            let reader = client(first, format!("{round}-reader{first}"));
            producers.push(std::thread::spawn(move || plain.write_once()));
            producers.push(std::thread::spawn(move || idempotent.write_until_acknowledged()));
            readers.push(std::thread::spawn(move || reader.read()));
        }
        Self { stop, producers, readers }
    }

    /// Stops the clients and adds what they saw to `history`. The cluster must be serving: idempotent
    /// producers stop only once their last event is acknowledged.
    pub fn finish(self, history: &mut LoadHistory) -> Result<()> {
        self.stop.store(true, Relaxed);
        for producer in self.producers {
            history.extend(producer.join().expect("a producer never panics")?, Vec::new(), Vec::new());
        }
        for reader in self.readers {
            let (ends, read) = reader.join().expect("a reader never panics")?;
            history.extend(Vec::new(), ends, read);
        }
        Ok(())
    }
}

/// One client: it stays with a node until that fails or refuses it, then goes to the next.
struct LoadClient {
    stop: Arc<AtomicBool>,
    nodes: Vec<SocketAddr>,
    turn: usize,
    client: Option<Client>,
    topic: String,
    name: String,
}

impl LoadClient {
    fn is_running(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Asks the current node. Any failure leads to the next node; an error that no retry cures fails the
    /// test.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Client, &str) -> Result<Result<T, Code>>,
    ) -> Result<Option<T>> {
        if self.client.is_none() {
            self.client = Client::connect(self.nodes[self.turn % self.nodes.len()], REQUEST_TIMEOUT).ok();
        }
        let answer = self.client.as_mut().map(|client| ask(client, &self.topic));
        let code = match answer {
            Some(Ok(Ok(value))) => return Ok(Some(value)),
            Some(Ok(Err(code))) => Some(code),
            Some(Err(_)) | None => None,
        };
        self.client = None;
        self.turn += 1;
        std::thread::sleep(PAUSE);
        if let Some(error) = code.and_then(ResponseError::try_from_code) {
            ensure!(error.is_retriable(), "{} was told {error:?}, which is not retriable", self.name);
        }
        Ok(None)
    }

    fn write(&self, number: u64, idempotent: bool) -> Write {
        let (producer, sent) = (self.name.clone(), Instant::now());
        Write { producer, number, idempotent, sent, acknowledged: None }
    }

    /// A plain producer: after a failure it goes on with the next value, since it cannot know what became of
    /// this one.
    fn write_once(mut self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        while self.is_running() {
            let mut write = self.write(writes.len() as u64, false);
            let batch = client::batch(&[write.value().as_bytes()], Compression::None)?;
            let offset = self.ask(|client, topic| client.produce_batch(topic, 0, batch))?;
            write.acknowledged = offset.map(|offset| (Instant::now(), offset));
            writes.push(write);
        }
        Ok(writes)
    }

    /// An idempotent producer: sends the same sequence number until it is acknowledged, even after the load
    /// was stopped.
    fn write_until_acknowledged(mut self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        let Some(id) = self.retry(Client::producer_id)? else { return Ok(writes) };
        while self.is_running() {
            let mut write = self.write(writes.len() as u64, true);
            let batch = client::numbered(write.value().as_bytes(), id, i32::try_from(writes.len())?)?;
            let topic = self.topic.clone();
            let offset = self.retry(|client| client.produce_batch(&topic, 0, batch.clone()))?;
            write.acknowledged = offset.map(|offset| (Instant::now(), offset));
            writes.push(write);
        }
        Ok(writes)
    }

    /// Asks until there is an answer, for at most [`MAX_WAIT`] after the load was stopped.
    fn retry<T>(&mut self, mut ask: impl FnMut(&mut Client) -> Result<Result<T, Code>>) -> Result<Option<T>> {
        let mut stopped_at = None;
        loop {
            if let Some(answer) = self.ask(|client, _| ask(client))? {
                return Ok(Some(answer));
            }
            // Faults may last as long as they like; only the time after the load was stopped counts.
            let since = stopped_at.get_or_insert_with(Instant::now);
            if self.is_running() {
                *since = Instant::now();
            } else if since.elapsed() > MAX_WAIT {
                bail!("no node served {} within {MAX_WAIT:?} after the load was stopped", self.name);
            }
        }
    }

    /// A reader: asks where the log ends, and reads up to there.
    fn read(mut self) -> Result<Reading> {
        let (mut ends, mut read) = (Vec::new(), Vec::<Event>::new());
        while self.is_running() {
            let next = read.last().map_or(0, |event| event.offset + 1);
            let asked = Instant::now();
            let Some(end) = self.ask(|client, topic| client.list_offsets(topic, 0, -1))? else { continue };
            ends.push(EndRead { asked, end });
            ensure!(next <= end, "{} had read up to {next} and was told of an end at {end}", self.name);
            let Some((events, _)) = self.ask(|client, topic| client.fetch(topic, 0, next))? else { continue };
            let first = events.first().map(|event| event.offset);
            ensure!(
                first.map_or(next == end, |first| first == next),
                "{} asked for {next} when the log ended at {end}, and got {first:?}",
                self.name
            );
            read.extend(events);
            std::thread::sleep(PAUSE);
        }
        Ok((ends, read))
    }
}
