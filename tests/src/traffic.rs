//! Producers and readers on every node that go on through faults and write down what they see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::records::Compression;

use crate::client::{self, Client, Code, Event};
use crate::cluster::{Cluster, PATIENCE};
use crate::history::{History, Look, Write};

/// A client gives an answer up after this.
const LIMIT: Duration = Duration::from_millis(500);
/// Pause of a client that was refused.
const PAUSE: Duration = Duration::from_millis(5);

type Reading = (Vec<Look>, Vec<Event>);

/// An idempotent producer, a plain one and a reader per node.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Result<Vec<Write>>>>,
    readers: Vec<JoinHandle<Result<Reading>>>,
}

impl Traffic {
    /// Starts them on partition 0 of `topic`; `round` makes their values unique.
    pub fn start(cluster: &Cluster, topic: &str, round: u64) -> Self {
        Self::among(&cluster.ids().into_iter().map(|id| cluster.kafka(id)).collect::<Vec<_>>(), topic, round)
    }

    /// The same for nodes at these addresses.
    pub fn among(nodes: &[SocketAddr], topic: &str, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seat = |first: usize, name: String| Seat {
            stop: Arc::clone(&stop),
            nodes: nodes.to_vec(),
            turn: first,
            client: None,
            topic: topic.to_owned(),
            name,
        };
        let (mut producers, mut readers) = (Vec::new(), Vec::new());
        for first in 0..nodes.len() {
            let plain = seat(first, format!("{round}-plain{first}"));
            let idempotent = seat(first, format!("{round}-once{first}"));
            let reader = seat(first, format!("{round}-reader{first}"));
            producers.push(std::thread::spawn(move || plain.write_once()));
            producers.push(std::thread::spawn(move || idempotent.write_until_acknowledged()));
            readers.push(std::thread::spawn(move || reader.read()));
        }
        Self { stop, producers, readers }
    }

    /// Ends it and adds what was seen to `history`.
    pub fn finish(self, history: &mut History) -> Result<()> {
        self.stop.store(true, Relaxed);
        for producer in self.producers {
            history.extend(producer.join().expect("a producer never panics")?, Vec::new(), Vec::new());
        }
        for reader in self.readers {
            let (looks, read) = reader.join().expect("a reader never panics")?;
            history.extend(Vec::new(), looks, read);
        }
        Ok(())
    }
}

/// One client: it stays with a node until that fails or refuses it.
struct Seat {
    stop: Arc<AtomicBool>,
    nodes: Vec<SocketAddr>,
    turn: usize,
    client: Option<Client>,
    topic: String,
    name: String,
}

impl Seat {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Asks the node of the moment; whatever is not an answer leads to the next node.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Client, &str) -> Result<Result<T, Code>>,
    ) -> Result<Option<T>> {
        if self.client.is_none() {
            self.client = Client::connect(self.nodes[self.turn % self.nodes.len()], LIMIT).ok();
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
            ensure!(error.is_retriable(), "{} was told {error:?}, which no retry cures", self.name);
        }
        Ok(None)
    }

    fn write(&self, number: u64, idempotent: bool) -> Write {
        let (producer, sent) = (self.name.clone(), Instant::now());
        Write { producer, number, idempotent, sent, acknowledged: None }
    }

    /// A plain producer: after a failure it goes on with the next value, for it cannot know what became of this one.
    fn write_once(mut self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        while self.goes_on() {
            let mut write = self.write(writes.len() as u64, false);
            let batch = client::batch(&[write.value().as_bytes()], Compression::None)?;
            let offset = self.ask(|client, topic| client.produce_batch(topic, 0, batch))?;
            write.acknowledged = offset.map(|offset| (Instant::now(), offset));
            writes.push(write);
        }
        Ok(writes)
    }

    /// An idempotent producer: the same sequence number until it is acknowledged, also after the end was called.
    fn write_until_acknowledged(mut self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        let Some(id) = self.insist(Client::producer_id)? else { return Ok(writes) };
        while self.goes_on() {
            let mut write = self.write(writes.len() as u64, true);
            let batch = client::numbered(write.value().as_bytes(), id, i32::try_from(writes.len())?)?;
            let topic = self.topic.clone();
            let offset = self.insist(|client| client.produce_batch(&topic, 0, batch.clone()))?;
            write.acknowledged = offset.map(|offset| (Instant::now(), offset));
            writes.push(write);
        }
        Ok(writes)
    }

    fn insist<T>(
        &mut self,
        mut ask: impl FnMut(&mut Client) -> Result<Result<T, Code>>,
    ) -> Result<Option<T>> {
        let mut patience = None;
        loop {
            if let Some(answer) = self.ask(|client, _| ask(client))? {
                return Ok(Some(answer));
            }
            // Faults may last as long as they like; what counts is the time after the end was called.
            let since = patience.get_or_insert_with(Instant::now);
            if self.goes_on() {
                *since = Instant::now();
            } else if since.elapsed() > PATIENCE {
                bail!("{} found no node that serves it in {PATIENCE:?}", self.name);
            }
        }
    }

    /// A reader: asks where the log ends, and reads on until there.
    fn read(mut self) -> Result<Reading> {
        let (mut looks, mut read) = (Vec::new(), Vec::<Event>::new());
        while self.goes_on() {
            let next = read.last().map_or(0, |event| event.offset + 1);
            let asked = Instant::now();
            let Some(end) = self.ask(|client, topic| client.list_offsets(topic, 0, -1))? else { continue };
            looks.push(Look { asked, end });
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
        Ok((looks, read))
    }
}
