//! ListOffsets: the first offset, the next one, the first at or after a point in time, or that of the newest time.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use tokio::task::spawn_blocking;

use super::answer::Answer;
use super::frame::{BadRequest, Outcome, Request};
use super::ids::leader_epoch as epoch_of;
use super::leader_epoch;
use super::partition_read::Isolation;
use super::reading::{self, LiveBatch, Source, Sources};
use super::records::first_since;
use super::session::Session;
use crate::batch_index::Wanted;
use crate::node::handle::Handle;
use crate::runtime::stored_batches as stored;
use crate::state_machine::batch::BatchHeader;
use crate::state_machine::{Partition, Position, StateMachine};
use crate::storage::batch_reader::BatchReader;

/// Asks for the offset that the next event will get.
const LATEST: i64 = -1;
/// Asks for the oldest event's offset.
const EARLIEST: i64 = -2;
/// Asks for the event with the newest timestamp.
const NEWEST: i64 = -3;
/// Asks for the oldest event that the leader itself has; here it has all.
const EARLIEST_LOCAL: i64 = -4;
/// Asks for the newest event that lies in remote storage, which there is none of.
const LATEST_TIERED: i64 = -5;
/// Bytes of batches that are looked through at a time.
const CHUNK: usize = 256 << 10;
/// Versions from which on the last three may be asked for.
const NEWEST_SINCE: i16 = 7;
const EARLIEST_LOCAL_SINCE: i16 = 8;
const LATEST_TIERED_SINCE: i16 = 9;

/// Serves ListOffsets.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ListOffsetsRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let mut lookups = match leader_epoch::prove(&session).await {
            Ok(epoch) => look(&session.node().state_machine(), &body, epoch, to.version),
            Err(error) => {
                body.topics.iter().flat_map(|topic| &topic.partitions).map(|_| Err(error)).collect()
            }
        };
        if lookups.iter().any(|lookup| matches!(lookup, Ok(Lookup::Search(_)))) {
            let node = session.node().clone();
            // It reads and decompresses: however many ask, few do so at a time.
            let _turn = session.shared.searches.acquire().await;
            lookups = match spawn_blocking(move || {
                lookups.into_iter().map(|lookup| search(&node, lookup)).collect()
            })
            .await
            {
                Ok(found) => found,
                Err(_) => return Outcome::Close,
            };
        }
        to.send(&answer(&body, &lookups, to.version))
    }))
}

/// An event's place, as the answer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    offset: i64,
    /// Its own, where a time was asked for; else -1.
    timestamp: i64,
    /// Leader epoch of the event; -1 when it is not known. Never a later one: its reader would seem to have read what is
    /// not here.
    epoch: i32,
}

impl Found {
    const NOTHING: Self = Self { offset: -1, timestamp: -1, epoch: -1 };

    fn at(partition: &Partition, offset: i64) -> Self {
        Self { offset, timestamp: -1, epoch: partition.term_of(offset).map_or(-1, epoch_of) }
    }
}

/// What is known of one partition's offset.
#[derive(Debug, PartialEq, Eq)]
enum Lookup {
    Found(Found),
    /// The log must be searched for a time.
    Search(Search),
}

#[derive(Debug, PartialEq, Eq)]
struct Search {
    source: Source,
    wanted: Time,
    from: Position,
    /// The oldest event kept; the log may hold older ones.
    start_offset: i64,
    /// Where the partition ends for whoever asks.
    end: i64,
    /// End of what may be read of the log.
    high: u64,
}

/// Which event a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// The first one at or after this time.
    Since(i64),
    /// The first one of the newest time, which was never newer than this.
    Newest(i64),
}

fn look(
    state_machine: &StateMachine,
    body: &ListOffsetsRequest,
    epoch: i32,
    version: i16,
) -> Vec<Result<Lookup, ResponseError>> {
    let mut lookups = Vec::new();
    let mut seen = HashSet::new();
    for topic in &body.topics {
        for wanted in &topic.partitions {
            // A search reads the log. As in Kafka, a partition is asked for once in a request.
            if !seen.insert((&topic.name, wanted.partition_index)) {
                lookups.push(Err(ResponseError::InvalidRequest));
                continue;
            }
            let source = Source::resolve(state_machine, &topic.name, wanted.partition_index);
            let partition = source.as_ref().and_then(|source| source.find(state_machine));
            lookups.push(match (source.clone(), partition) {
                (Some(source), Some(partition)) => leader_epoch::check(wanted.current_leader_epoch, epoch)
                    .and_then(|()| {
                        let end = Isolation::of(body.isolation_level).end_of(partition);
                        one(state_machine, source, (partition, end), (wanted.timestamp, version))
                    }),
                _ => Err(ResponseError::UnknownTopicOrPartition),
            });
        }
    }
    lookups
}

fn one(
    state_machine: &StateMachine,
    source: Source,
    (partition, end): (&Partition, i64),
    (timestamp, version): (i64, i16),
) -> Result<Lookup, ResponseError> {
    let start_offset = partition.start_offset();
    let (wanted, from) = match timestamp {
        LATEST => return Ok(Lookup::Found(Found::at(partition, end))),
        EARLIEST => return Ok(Lookup::Found(Found::at(partition, start_offset))),
        EARLIEST_LOCAL if version >= EARLIEST_LOCAL_SINCE => {
            return Ok(Lookup::Found(Found::at(partition, start_offset)));
        }
        LATEST_TIERED if version >= LATEST_TIERED_SINCE => return Ok(Lookup::Found(Found::NOTHING)),
        NEWEST if version >= NEWEST_SINCE => {
            let newest = partition.max_timestamp().unwrap_or(i64::MIN);
            (Time::Newest(newest), partition.locate_time(newest))
        }
        0.. => (Time::Since(timestamp), partition.locate_time(timestamp)),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let Some(from) = from.filter(|_| start_offset < end) else {
        return Ok(Lookup::Found(Found::NOTHING));
    };
    let high = state_machine.applied_index() + 1;
    Ok(Lookup::Search(Search { source, wanted, from, start_offset, end, high }))
}

fn search(node: &Handle, lookup: Result<Lookup, ResponseError>) -> Result<Lookup, ResponseError> {
    let Ok(Lookup::Search(search)) = lookup else { return lookup };
    match search.run(node) {
        Ok(found) => Ok(Lookup::Found(found.unwrap_or(Found::NOTHING))),
        Err(error) => {
            tracing::error!(%error, "the log could not be searched for a Kafka client");
            Err(ResponseError::KafkaStorageError)
        }
    }
}

impl Search {
    fn run(self, node: &Handle) -> io::Result<Option<Found>> {
        let (Time::Since(time) | Time::Newest(time)) = self.wanted;
        let (mut wanted, mut best) = (Wanted::Time(time), Best::default());
        if !self.by_index(node.batches(), &mut wanted, &mut best)? {
            self.by_walk(node, wanted, &mut best)?;
        }
        Ok(best.found)
    }

    /// Searches the batches that the index knows. Returns false if it does not know all that are needed; the next one is
    /// what is `wanted` then.
    fn by_index(&self, reader: &BatchReader, wanted: &mut Wanted, best: &mut Best) -> io::Result<bool> {
        let key = (self.source.topic, self.source.partition);
        loop {
            let Some(chosen) = reader.find(key, *wanted, self.from.index, CHUNK) else { return Ok(false) };
            if chosen.is_empty() {
                return Ok(true);
            }
            let batches = stored::read(reader, &chosen)?;
            for (stored, batch) in chosen.iter().zip(&batches) {
                let end_offset = stored.batch.end_offset();
                let live = LiveBatch {
                    base_offset: stored.batch.base_offset,
                    last_offset: end_offset - 1,
                    leader_epoch: epoch_of(stored.term),
                    batch,
                };
                if self.consider(&live, best).is_break() {
                    return Ok(true);
                }
                // The events that the time was reached with may be deleted. Then the search begins with those that are not.
                *wanted = Wanted::Offset(end_offset.max(self.start_offset));
            }
            if batches.len() < chosen.len() {
                return Ok(false);
            }
        }
    }

    /// Searches the log itself, from what is `wanted` on.
    fn by_walk(&self, node: &Handle, wanted: Wanted, best: &mut Best) -> io::Result<()> {
        let mut at = reading::place_in_log(node, &self.source, wanted, self.from)?;
        let sources = Sources::new(vec![self.source.clone()]);
        while at.index < self.high {
            let entries = reading::read(node, &sources, at.index, self.high)?;
            if entries.is_empty() {
                break;
            }
            for batches in &entries {
                let is_searched =
                    |live: &LiveBatch<'_>| matches!(wanted, Wanted::Offset(next) if live.last_offset < next);
                let flow = batches.walk(0, &mut at, |live| match is_searched(&live) {
                    true => ControlFlow::Continue(()),
                    false => self.consider(&live, best),
                })?;
                if flow.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn consider(&self, live: &LiveBatch<'_>, best: &mut Best) -> ControlFlow<()> {
        if live.base_offset >= self.end {
            return ControlFlow::Break(());
        }
        // A marker holds no event.
        let header = BatchHeader::read(live.batch).filter(|header| !header.is_control());
        let newest = header.map_or(i64::MIN, |header| header.max_timestamp);
        let (since, most) = match self.wanted {
            Time::Since(since) => (since, i64::MIN),
            // No batch before was as new.
            Time::Newest(most) => (best.timestamp.map_or(newest, |best| newest.max(best + 1)), most),
        };
        if header.is_none() || newest < since || live.last_offset < self.start_offset {
            return ControlFlow::Continue(());
        }
        // The log may hold events of the batch that are to be forgotten.
        let from = (self.start_offset - live.base_offset).max(0);
        if let Some((delta, timestamp)) = first_since(live.batch, from, since) {
            let offset = live.base_offset + delta;
            best.found = Some(Found { offset, timestamp, epoch: live.leader_epoch });
            best.timestamp = Some(timestamp);
        }
        let done = best.timestamp.is_some_and(|best| best >= most);
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What a search has come upon so far.
#[derive(Debug, Default)]
struct Best {
    found: Option<Found>,
    timestamp: Option<i64>,
}

fn answer(
    body: &ListOffsetsRequest,
    lookups: &[Result<Lookup, ResponseError>],
    version: i16,
) -> ListOffsetsResponse {
    let mut lookups = lookups.iter();
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(lookups.by_ref()).map(|(wanted, lookup)| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            match lookup {
                Ok(Lookup::Found(Found { offset, timestamp, epoch })) => {
                    // Older versions have no place for the epoch.
                    let epoch = if version >= 4 { *epoch } else { -1 };
                    answer.with_offset(*offset).with_timestamp(*timestamp).with_leader_epoch(epoch)
                }
                Ok(Lookup::Search(_)) => answer.with_error_code(ResponseError::UnknownServerError.code()),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::encodes;
    use crate::net::kafka::transactions::tests::under_way;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::{ApiKey, TopicName};

    #[test]
    fn a_partition_asked_about_again_and_again_is_looked_for_once() {
        let partition = ListOffsetsPartition::default().with_timestamp(5);
        let topic = ListOffsetsTopic::default().with_partitions(vec![partition; 100_000]);
        let body = ListOffsetsRequest::default().with_topics(vec![topic.clone(), topic]);
        let lookups = look(&StateMachine::default(), &body, 1, 8);
        let again = lookups.iter().filter(|lookup| **lookup == Err(ResponseError::InvalidRequest));
        assert_eq!((lookups.len(), again.count()), (200_000, 199_999));
        assert_eq!(lookups[0], Err(ResponseError::UnknownTopicOrPartition));
    }

    /// What is known at once of a topic with ten events of term 2 and ten of term 4, by a leader of epoch 9.
    fn ask(timestamp: i64, current_epoch: i32, version: i16) -> Result<Lookup, ResponseError> {
        let partition = ListOffsetsPartition::default()
            .with_timestamp(timestamp)
            .with_current_leader_epoch(current_epoch);
        let topic =
            ListOffsetsTopic::default().with_name(TopicName("t".into())).with_partitions(vec![partition]);
        let body = ListOffsetsRequest::default().with_topics(vec![topic]);
        look(&state_machine(&[2, 4]), &body, 9, version).remove(0)
    }

    #[test]
    fn an_offset_comes_with_the_epoch_of_its_event_not_with_the_leaders() {
        let found = |offset, epoch| Ok(Lookup::Found(Found { offset, timestamp: -1, epoch }));
        assert_eq!((ask(EARLIEST, -1, 6), ask(LATEST, -1, 6)), (found(0, 2), found(20, 4)));
        assert_eq!(ask(EARLIEST_LOCAL, -1, 8), found(0, 2));
    }

    #[test]
    fn for_committed_readers_a_partition_ends_where_a_transaction_is_under_way() {
        let end = |is_aborted, isolation_level| {
            let partition = ListOffsetsPartition::default().with_timestamp(LATEST);
            let topic =
                ListOffsetsTopic::default().with_name(TopicName("t".into())).with_partitions(vec![partition]);
            let body =
                ListOffsetsRequest::default().with_isolation_level(isolation_level).with_topics(vec![topic]);
            match look(&under_way(is_aborted), &body, 9, 6).remove(0) {
                Ok(Lookup::Found(found)) => found.offset,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((end(false, 0), end(false, 1)), (20, 10));
        assert_eq!((end(true, 0), end(true, 1)), (21, 21), "the marker has an offset");
    }

    #[test]
    fn what_a_version_does_not_have_is_unsupported() {
        let unsupported = Err(ResponseError::UnsupportedVersion);
        assert!(matches!(ask(NEWEST, -1, 7), Ok(Lookup::Search(_))));
        assert_eq!(ask(LATEST_TIERED, -1, 9), Ok(Lookup::Found(Found::NOTHING)));
        for (special, version) in
            [(NEWEST, 6), (EARLIEST_LOCAL, 7), (LATEST_TIERED, 8), (-6, 10), (i64::MIN, 10)]
        {
            assert_eq!(ask(special, -1, version), unsupported, "{special}");
        }
    }

    #[test]
    fn whoever_knows_another_leader_is_told_so() {
        assert!(ask(LATEST, 9, 6).is_ok());
        assert_eq!(ask(LATEST, 8, 6), Err(ResponseError::FencedLeaderEpoch));
        assert_eq!(ask(LATEST, 10, 6), Err(ResponseError::UnknownLeaderEpoch));
    }

    #[test]
    fn answers_go_to_the_partitions_that_were_asked_about() {
        let topic = |indexes: std::ops::Range<i32>| {
            let partitions = indexes.map(|index| ListOffsetsPartition::default().with_partition_index(index));
            ListOffsetsTopic::default().with_partitions(partitions.collect())
        };
        let body = ListOffsetsRequest::default().with_topics(vec![topic(0..2), topic(5..6)]);
        let lookups = vec![
            Ok(Lookup::Found(Found { offset: 10, timestamp: -1, epoch: 4 })),
            Err(ResponseError::UnknownTopicOrPartition),
            Ok(Lookup::Found(Found::NOTHING)),
        ];
        encodes(ApiKey::ListOffsets, |version| answer(&body, &lookups, version));
        let answer = answer(&body, &lookups, 6);
        let seen: Vec<_> = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.partition_index, partition.error_code, partition.offset))
            .collect();
        assert_eq!(seen, [(0, 0, 10), (1, 3, -1), (5, 0, -1)]);
    }
}
