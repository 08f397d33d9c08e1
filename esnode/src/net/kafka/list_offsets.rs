//! ListOffsets: the first offset, the next one, or the first at or after a point in time.

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

use super::apis::Answer;
use super::errors;
use super::frame::{BadRequest, Outcome, Request};
use super::reading::{self, Source, Sources};
use super::records::first_since;
use super::session::{Session, leader_epoch};
use crate::handle::Handle;
use crate::stream::{Position, Stream};

/// Asks for the offset that the next event will get.
const LATEST: i64 = -1;
/// Asks for the oldest event's offset.
const EARLIEST: i64 = -2;

/// Serves ListOffsets.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: ListOffsetsRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let mut lookups = match lead(&session).await {
            Ok(epoch) => look(&session.node().stream(), &body, epoch),
            Err(error) => {
                body.topics.iter().flat_map(|topic| &topic.partitions).map(|_| Err(error)).collect()
            }
        };
        if lookups.iter().any(|lookup| matches!(lookup, Ok(Lookup::Search(_)))) {
            let node = session.node().clone();
            lookups = match spawn_blocking(move || {
                lookups.into_iter().map(|lookup| search(&node, lookup)).collect()
            })
            .await
            {
                Ok(found) => found,
                Err(_) => return Outcome::Close,
            };
        }
        to.send(&answer(&body, &lookups, leader_epoch(session.leadership().term), to.version))
    }))
}

/// Makes sure that this node leads still and knows all that was committed; gives its epoch.
async fn lead(session: &Session) -> Result<i32, ResponseError> {
    let now = session.leadership();
    if !now.serving {
        return Err(ResponseError::NotLeaderOrFollower);
    }
    session.node().read_barrier().await.map_err(errors::produce)?;
    Ok(leader_epoch(now.term))
}

/// What is known of one partition's offset.
#[derive(Debug, PartialEq, Eq)]
enum Lookup {
    /// The offset, with the timestamp found there or -1.
    Found(i64, i64),
    /// The log must be searched for a time.
    Search(Search),
}

#[derive(Debug, PartialEq, Eq)]
struct Search {
    source: Source,
    timestamp: i64,
    from: Position,
    /// The oldest event kept; the log may hold older ones.
    start_offset: i64,
    /// End of what may be read.
    high: u64,
}

fn look(stream: &Stream, body: &ListOffsetsRequest, epoch: i32) -> Vec<Result<Lookup, ResponseError>> {
    let mut lookups = Vec::new();
    let mut seen = HashSet::new();
    for topic in &body.topics {
        for wanted in &topic.partitions {
            // A search reads the log. As in Kafka, a partition is asked for once in a request.
            if !seen.insert((&topic.name, wanted.partition_index)) {
                lookups.push(Err(ResponseError::InvalidRequest));
                continue;
            }
            let source = Source::resolve(stream, &topic.name, wanted.partition_index);
            let partition = source.as_ref().and_then(|source| source.find(stream));
            lookups.push(match (source, partition) {
                _ if wanted.current_leader_epoch > epoch => Err(ResponseError::UnknownLeaderEpoch),
                (Some(source), Some(partition)) => match wanted.timestamp {
                    LATEST => Ok(Lookup::Found(partition.next_offset(), -1)),
                    EARLIEST => Ok(Lookup::Found(partition.start_offset(), -1)),
                    timestamp if timestamp < 0 => Err(ResponseError::InvalidRequest),
                    timestamp => Ok(match partition.locate_time(timestamp) {
                        None => Lookup::Found(-1, -1),
                        Some(from) => Lookup::Search(Search {
                            source,
                            timestamp,
                            from,
                            start_offset: partition.start_offset(),
                            high: stream.applied_index() + 1,
                        }),
                    }),
                },
                _ => Err(ResponseError::UnknownTopicOrPartition),
            });
        }
    }
    lookups
}

fn search(node: &Handle, lookup: Result<Lookup, ResponseError>) -> Result<Lookup, ResponseError> {
    let Ok(Lookup::Search(search)) = lookup else { return lookup };
    match search.run(node) {
        Ok(found) => {
            Ok(found.map_or(Lookup::Found(-1, -1), |(offset, timestamp)| Lookup::Found(offset, timestamp)))
        }
        Err(error) => {
            tracing::error!(%error, "the log could not be searched for a Kafka client");
            Err(ResponseError::KafkaStorageError)
        }
    }
}

impl Search {
    fn run(self, node: &Handle) -> io::Result<Option<(i64, i64)>> {
        let mut at = self.from;
        let sources = Sources::new(vec![self.source]);
        let mut found = None;
        while at.index < self.high {
            let entries = reading::read(node, &sources, at.index, self.high)?;
            if entries.is_empty() {
                break;
            }
            for batches in &entries {
                let flow =
                    batches.walk(0, &mut at, |live| match first_since(live.batch, self.timestamp) {
                        Some((delta, timestamp)) if live.base_offset + delta >= self.start_offset => {
                            found = Some((live.base_offset + delta, timestamp));
                            ControlFlow::Break(())
                        }
                        _ => ControlFlow::Continue(()),
                    })?;
                if flow.is_break() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}

fn answer(
    body: &ListOffsetsRequest,
    lookups: &[Result<Lookup, ResponseError>],
    epoch: i32,
    version: i16,
) -> ListOffsetsResponse {
    let mut lookups = lookups.iter();
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(lookups.by_ref()).map(|(wanted, lookup)| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            match lookup {
                Ok(Lookup::Found(offset, timestamp)) => {
                    // Older versions have no place for the epoch.
                    let epoch = if version >= 4 { epoch } else { -1 };
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
    use crate::net::kafka::tests::encodes;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

    #[test]
    fn a_partition_asked_about_again_and_again_is_looked_for_once() {
        let partition = ListOffsetsPartition::default().with_timestamp(5);
        let topic = ListOffsetsTopic::default().with_partitions(vec![partition; 100_000]);
        let body = ListOffsetsRequest::default().with_topics(vec![topic.clone(), topic]);
        let lookups = look(&Stream::default(), &body, 1);
        let again = lookups.iter().filter(|lookup| **lookup == Err(ResponseError::InvalidRequest));
        assert_eq!((lookups.len(), again.count()), (200_000, 199_999));
        assert_eq!(lookups[0], Err(ResponseError::UnknownTopicOrPartition));
    }

    #[test]
    fn answers_go_to_the_partitions_that_were_asked_about() {
        let topic = |indexes: std::ops::Range<i32>| {
            let partitions = indexes.map(|index| ListOffsetsPartition::default().with_partition_index(index));
            ListOffsetsTopic::default().with_partitions(partitions.collect())
        };
        let body = ListOffsetsRequest::default().with_topics(vec![topic(0..2), topic(5..6)]);
        let lookups = vec![
            Ok(Lookup::Found(10, -1)),
            Err(ResponseError::UnknownTopicOrPartition),
            Ok(Lookup::Found(-1, -1)),
        ];
        encodes(ApiKey::ListOffsets, |version| answer(&body, &lookups, 4, version));
        let answer = answer(&body, &lookups, 4, 6);
        let seen: Vec<_> = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.partition_index, partition.error_code, partition.offset))
            .collect();
        assert_eq!(seen, [(0, 0, 10), (1, 3, -1), (5, 0, -1)]);
    }
}
