//! What one partition contributes to the answer to a Fetch.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, EpochEndOffset, PartitionData};

use super::errors;
use super::ids::{TopicKey, leader_epoch as leader_epoch_of};
use super::leader_epoch;
use super::reading::{self, Batches, Source};
use super::records::deliver;
use crate::batch_index::Wanted;
use crate::node::handle::Handle;
use crate::runtime::stored_batches as stored;
use crate::state_machine::{Partition, Position, StateMachine};
use crate::storage::batch_reader::{BatchReader, StoredBatch};

/// How much of a partition its readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything.
    ReadUncommitted,
    /// What no transaction under way may still change, and which of it was aborted.
    ReadCommitted,
}

impl Isolation {
    /// As requests say it.
    pub fn of(level: i8) -> Self {
        if level == 1 { Self::ReadCommitted } else { Self::ReadUncommitted }
    }

    /// The offset at which the partition ends for such a reader.
    pub fn end_of(self, partition: &Partition) -> i64 {
        match self {
            Self::ReadUncommitted => partition.high_watermark(),
            Self::ReadCommitted => partition.last_stable_offset(),
        }
    }
}

/// One partition of a fetch.
#[derive(Debug)]
pub struct PartitionRead {
    /// Topic asked for.
    topic: TopicKey,
    /// Partition asked for.
    pub partition: i32,
    /// Leader epoch that the client knows; -1 when it does not say.
    pub epoch: i32,
    /// Leader epoch of what the client has read last; -1 when it does not say.
    last_epoch: i32,
    /// Next offset to deliver.
    pub offset: i64,
    /// Room left for this partition, in bytes.
    pub room: usize,
    /// Whether it can be read.
    pub state: State,
    /// What is delivered.
    pub out: Vec<u8>,
    /// The request names the partition more than once, and this is not the first time.
    again: bool,
    isolation: Isolation,
    /// Offset of the first event asked for.
    first: i64,
    aborted: Vec<AbortedTransaction>,
    start_offset: i64,
    high_watermark: i64,
    last_stable_offset: i64,
    /// Where the partition ends for this reader.
    end: i64,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It cannot be read.
    Failed(ResponseError),
    /// What the client has read is not what is in the log: leader epoch and offset from which on it may differ.
    Diverged(i32, i64),
    /// All there is has been delivered, as far as is known.
    Drained(Source),
    /// What comes next is in the log from here on.
    Behind(Source, Position),
    /// There is no room for what comes next, which is here.
    Full(Source, Position),
}

/// Room in the whole answer.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes left.
    pub bytes: usize,
    /// Bytes taken. The first batch is taken whatever its size, or a reader could never get past it.
    pub taken: usize,
}

impl Room {
    pub fn take(&mut self, size: usize, own: &mut usize) -> bool {
        let fits = size <= self.bytes && size <= *own;
        if fits || self.taken == 0 {
            self.bytes = self.bytes.saturating_sub(size);
            self.taken += size;
            *own = own.saturating_sub(size);
            return true;
        }
        false
    }

    /// What was taken for this was not there.
    fn give_back(&mut self, size: usize) {
        self.taken -= size;
    }
}

impl State {
    /// Whether it makes the client give up or go back: nothing to be said by a node that may lead no more.
    pub fn needs_proof(&self) -> bool {
        let errors = [
            ResponseError::OffsetOutOfRange,
            ResponseError::UnknownTopicOrPartition,
            ResponseError::UnknownTopicId,
        ];
        matches!(self, Self::Diverged(..)) || matches!(self, Self::Failed(error) if errors.contains(error))
    }
}

impl PartitionRead {
    /// A read of at most `room` bytes, of what is `wanted` of a topic; `again` when it was before.
    pub fn new(
        topic: TopicKey,
        wanted: &FetchPartition,
        room: usize,
        isolation: Isolation,
        again: bool,
    ) -> Self {
        let state = State::Failed(ResponseError::UnknownTopicOrPartition);
        Self {
            topic,
            partition: wanted.partition,
            epoch: wanted.current_leader_epoch,
            last_epoch: wanted.last_fetched_epoch,
            offset: wanted.fetch_offset,
            room,
            state,
            out: Vec::new(),
            again,
            isolation,
            first: wanted.fetch_offset,
            aborted: Vec::new(),
            start_offset: -1,
            high_watermark: -1,
            last_stable_offset: -1,
            end: -1,
        }
    }

    /// Compares with the state what there is to deliver. `epoch` is this node's, none where it does not lead;
    /// `known` remembers where an earlier read of the partition ended.
    pub fn look(
        &mut self,
        state_machine: &StateMachine,
        epoch: Option<i32>,
        known: impl FnOnce(&Source, i64) -> Option<Position>,
    ) {
        self.state = match epoch {
            _ if self.again => State::Failed(ResponseError::InvalidRequest),
            None => State::Failed(ResponseError::NotLeaderOrFollower),
            Some(epoch) => leader_epoch::check(self.epoch, epoch)
                .and_then(|()| self.locate(state_machine, epoch, known))
                .unwrap_or_else(State::Failed),
        };
    }

    fn locate(
        &mut self,
        state_machine: &StateMachine,
        epoch: i32,
        known: impl FnOnce(&Source, i64) -> Option<Position>,
    ) -> Result<State, ResponseError> {
        let unknown = ResponseError::UnknownTopicOrPartition;
        let cluster = state_machine.cluster_id().map(|id| id.0).unwrap_or_default();
        let topic = self.topic.find(state_machine, cluster).ok_or_else(|| self.topic.unknown())?;
        let source = Source::of(topic, self.partition).ok_or(unknown)?;
        let partition = source.find(state_machine).ok_or(unknown)?;
        (self.start_offset, self.high_watermark) = (partition.start_offset(), partition.high_watermark());
        self.last_stable_offset = partition.last_stable_offset();
        self.end = self.isolation.end_of(partition);
        if self.offset < self.start_offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if let Some((epoch, end)) = self.diverges(partition, epoch) {
            return Ok(State::Diverged(epoch, end));
        }
        if self.offset > self.high_watermark {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if self.offset >= self.end {
            return Ok(State::Drained(source));
        }
        let indexed = partition.locate(self.offset).ok_or(ResponseError::OffsetOutOfRange)?;
        // Both are right; the later one saves more.
        let at = known(&source, self.offset).filter(|at| at.index > indexed.index).unwrap_or(indexed);
        Ok(State::Behind(source, at))
    }

    /// Where the log that the client has read from parts from this one, if it says what it has read last, and it does.
    fn diverges(&self, partition: &Partition, own: i32) -> Option<(i32, i64)> {
        // What has been delivered since the client asked is of this log.
        if self.last_epoch < 0 || !self.out.is_empty() {
            return None;
        }
        let (epoch, end) = leader_epoch::end_of(partition, self.last_epoch, own);
        (epoch < self.last_epoch || end < self.offset).then_some((epoch, end))
    }

    /// The entry to read next, if there is anything to read before `high`.
    pub fn wants(&self, high: u64) -> Option<u64> {
        match &self.state {
            State::Behind(_, at) if self.offset < self.end && at.index < high => Some(at.index),
            _ => None,
        }
    }

    /// Takes room for what the index knows of what comes next; `None` if it does not know.
    pub fn choose(&mut self, reader: &BatchReader, room: &mut Room) -> Option<Vec<StoredBatch>> {
        let State::Behind(source, at) = &self.state else { return None };
        let (key, limit) = ((source.topic, source.partition), room.bytes.min(self.room));
        let mut chosen = reader.find(key, Wanted::Offset(self.offset), at.index, limit)?;
        chosen.first().filter(|first| first.batch.base_offset <= self.offset)?;
        // Offsets have no gaps, so the index is wrong where they would.
        let joins = |pair: &[StoredBatch]| pair[0].batch.end_offset() == pair[1].batch.base_offset;
        if let Some(gap) = chosen.windows(2).position(|pair| !joins(pair)) {
            reader.discard_index(&chosen[gap], "a batch does not join the next one");
            reader.discard_index(&chosen[gap + 1], "a batch does not join the one before it");
            chosen.truncate(gap + 1);
        }
        let (end, own) = (self.end, &mut self.room);
        let taken = chosen
            .iter()
            .take_while(|stored| stored.batch.base_offset < end && room.take(stored::size(stored), own));
        let count = taken.count();
        chosen.truncate(count);
        Some(chosen)
    }

    /// Delivers batches that it has chosen, as far as they could be read.
    pub fn take_stored(&mut self, chosen: &[StoredBatch], batches: &[Bytes], room: &mut Room) {
        for (stored, batch) in chosen.iter().zip(batches) {
            deliver(batch, stored.batch.base_offset, leader_epoch_of(stored.term), &mut self.out);
            self.offset = stored.batch.end_offset();
        }
        chosen[batches.len()..].iter().for_each(|missing| room.give_back(stored::size(missing)));
    }

    /// What it has chosen is read; what comes next waits for the next fetch. Returns false if none of it could be read.
    pub fn stop_if_read(&mut self, chosen: &[StoredBatch]) -> bool {
        if chosen.first().is_some_and(|first| self.offset < first.batch.end_offset()) {
            return false;
        }
        if let State::Behind(source, at) = &self.state
            && self.offset < self.end
        {
            self.state = State::Full(source.clone(), *at);
        }
        true
    }

    /// Finds where in the log to walk to what comes next. Returns false if that is in a pack, which is damaged.
    pub fn begin_walk(&mut self, node: &Handle) -> bool {
        let State::Behind(source, at) = &self.state else { return false };
        let placed = reading::place_in_log(node, source, Wanted::Offset(self.offset), *at);
        self.state = match placed {
            Ok(at) => State::Behind(source.clone(), at),
            Err(error) => {
                tracing::error!(%error, "events could not be read for a Kafka client");
                State::Failed(ResponseError::KafkaStorageError)
            }
        };
        matches!(self.state, State::Behind(..))
    }

    /// Takes its batches from one entry.
    pub fn take(&mut self, place: usize, batches: &Batches, room: &mut Room) -> io::Result<()> {
        let State::Behind(source, at) = &mut self.state else { return Ok(()) };
        let (offset, out, left, end) = (&mut self.offset, &mut self.out, &mut self.room, self.end);
        let flow = batches.walk(place, at, |live| {
            if live.base_offset >= end {
                return ControlFlow::Break(());
            }
            if live.last_offset >= *offset {
                if !room.take(live.batch.len(), left) {
                    return ControlFlow::Break(());
                }
                deliver(live.batch, live.base_offset, live.leader_epoch, out);
                *offset = live.last_offset + 1;
            }
            ControlFlow::Continue(())
        })?;
        if flow.is_break() && self.offset < self.end {
            self.state = State::Full(source.clone(), *at);
        }
        Ok(())
    }

    /// Finds which of the transactions in what is delivered were aborted. If events of it were deleted since, that is not
    /// known any more.
    pub fn find_aborted(&mut self, state_machine: &StateMachine) {
        let (State::Drained(source) | State::Behind(source, _) | State::Full(source, _)) = &self.state else {
            return;
        };
        if self.isolation == Isolation::ReadUncommitted || self.out.is_empty() {
            return;
        }
        match source.find(state_machine).filter(|partition| partition.start_offset() <= self.first) {
            Some(partition) => {
                let aborted = partition.aborted_between(self.first, self.offset).into_iter();
                self.aborted = aborted
                    .map(|aborted| {
                        AbortedTransaction::default()
                            .with_producer_id(aborted.producer.into())
                            .with_first_offset(aborted.first)
                    })
                    .collect();
            }
            None => {
                self.out.clear();
                self.offset = self.first;
                self.state = State::Failed(ResponseError::OffsetOutOfRange);
            }
        }
    }

    /// This partition's part of the answer.
    pub fn answer(self) -> PartitionData {
        let answer = PartitionData::default().with_partition_index(self.partition);
        match self.state {
            State::Failed(error) => {
                answer.with_error_code(error.code()).with_high_watermark(-1).with_records(Some(Bytes::new()))
            }
            state => {
                let answer = answer
                    .with_error_code(errors::NONE)
                    .with_high_watermark(self.high_watermark)
                    .with_last_stable_offset(self.last_stable_offset)
                    .with_aborted_transactions(
                        (self.isolation == Isolation::ReadCommitted).then_some(self.aborted),
                    )
                    .with_log_start_offset(self.start_offset)
                    .with_records(Some(self.out.into()));
                match state {
                    State::Diverged(epoch, end) => answer.with_diverging_epoch(
                        EpochEndOffset::default().with_epoch(epoch).with_end_offset(end),
                    ),
                    _ => answer,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::reading::tests::{batch, entry};
    use crate::net::kafka::tests::encodes;
    use kafka_protocol::messages::fetch_response::FetchableTopicResponse;
    use kafka_protocol::messages::{ApiKey, FetchResponse};
    use uuid::Uuid;

    const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

    fn source() -> Source {
        Source { topic: 1, partition: 0 }
    }

    /// A read from `offset` on, with an entry 4 that begins at offset 100.
    fn read(offset: i64, room: usize) -> PartitionRead {
        let state = State::Behind(source(), Position { index: 4, base_offset: 100 });
        PartitionRead { state, high_watermark: 1000, end: 1000, start_offset: 0, ..wanting(offset, -1, room) }
    }

    /// One that a client asks for that has read last in this leader epoch.
    fn wanting(offset: i64, last_epoch: i32, room: usize) -> PartitionRead {
        let wanted = FetchPartition::default().with_fetch_offset(offset).with_last_fetched_epoch(last_epoch);
        PartitionRead::new(TopicKey::Name("t".into()), &wanted, room, UNCOMMITTED, false)
    }

    fn offsets(read: &PartitionRead) -> Vec<i64> {
        let mut rest = &read.out[..];
        let mut offsets = Vec::new();
        while let Some((head, _)) = rest.split_first_chunk::<16>() {
            offsets.push(i64::from_be_bytes(head[..8].try_into().unwrap()));
            assert_eq!(head[12..], 6i32.to_be_bytes(), "leader epoch");
            rest = &rest[70..];
        }
        offsets
    }

    fn three() -> Batches {
        entry(4, &[(0, batch(5, 70)), (0, batch(5, 70)), (0, batch(5, 70))])
    }

    #[test]
    fn a_fetch_inside_a_batch_gets_the_whole_batch() {
        let mut read = read(107, 1000);
        read.take(0, &three(), &mut Room { bytes: 1000, taken: 0 }).unwrap();
        assert_eq!((offsets(&read), read.offset), (vec![105, 110], 115));
        assert_eq!(read.state, State::Behind(source(), Position { index: 5, base_offset: 115 }));
    }

    #[test]
    fn what_does_not_fit_waits_where_it_is() {
        for (own, all) in [(150, 1000), (1000, 150)] {
            let mut read = read(100, own);
            let mut room = Room { bytes: all, taken: 0 };
            read.take(0, &three(), &mut room).unwrap();
            assert_eq!((offsets(&read), read.offset, room.taken), (vec![100, 105], 110, 140));
            assert_eq!(read.state, State::Full(source(), Position { index: 4, base_offset: 100 }));
        }
    }

    #[test]
    fn the_first_batch_of_an_answer_comes_whatever_its_size_and_only_that() {
        let mut room = Room { bytes: 1, taken: 0 };
        let mut first = read(100, 1);
        first.take(0, &three(), &mut room).unwrap();
        assert_eq!(offsets(&first), [100]);
        let mut second = read(100, 1);
        second.take(0, &three(), &mut room).unwrap();
        assert!(second.out.is_empty());
        assert!(matches!(second.state, State::Full(..)));
    }

    #[test]
    fn an_answer_tells_the_high_watermark_and_an_error_does_not() {
        let mut good = read(100, 1000);
        good.take(0, &three(), &mut Room { bytes: 1000, taken: 0 }).unwrap();
        let answer = good.answer();
        let topic = FetchableTopicResponse::default().with_partitions(vec![answer.clone()]);
        encodes(ApiKey::Fetch, |_| FetchResponse::default().with_responses(vec![topic.clone()]));
        assert_eq!((answer.error_code, answer.high_watermark), (0, 1000));
        assert_eq!(answer.records.map(|records| records.len()), Some(210));
        assert_eq!(answer.aborted_transactions, None);
        let failed =
            PartitionRead { state: State::Failed(ResponseError::OffsetOutOfRange), ..read(100, 1000) };
        let answer = failed.answer();
        assert_eq!((answer.error_code, answer.high_watermark, answer.records), (1, -1, Some(Bytes::new())));
    }

    #[test]
    fn a_committed_reader_stops_where_a_transaction_is_under_way() {
        let mut read = PartitionRead { end: 110, isolation: Isolation::ReadCommitted, ..read(100, 1000) };
        read.take(0, &three(), &mut Room { bytes: 1000, taken: 0 }).unwrap();
        assert_eq!((offsets(&read), read.offset), (vec![100, 105], 110));
        assert_eq!(read.state, State::Behind(source(), Position { index: 4, base_offset: 100 }));
        assert_eq!(read.wants(9), None);
        assert_eq!(read.answer().aborted_transactions, Some(vec![]));
    }

    #[test]
    fn a_consumer_of_another_log_is_told_where_they_part() {
        let state_machine = leader_epoch::tests::state_machine(&[2, 4, 7]);
        let look = |offset, last_epoch| {
            let mut read = wanting(offset, last_epoch, 1000);
            read.look(&state_machine, Some(9), |_, _| None);
            read.state
        };
        for (offset, last_epoch) in [(5, 2), (10, 2), (20, 4), (30, 7), (25, -1), (30, 9)] {
            assert!(!look(offset, last_epoch).needs_proof(), "{offset} after {last_epoch}");
        }
        assert_eq!((look(11, 2), look(30, 4)), (State::Diverged(2, 10), State::Diverged(4, 20)));
        assert_eq!((look(5, 3), look(40, 8)), (State::Diverged(2, 10), State::Diverged(7, 30)));
        let out_of_range = State::Failed(ResponseError::OffsetOutOfRange);
        assert_eq!((look(31, -1), look(-1, 7)), (out_of_range.clone(), out_of_range));
        assert_eq!(look(31, 7), State::Diverged(7, 30), "it knows better than to go back to the start");
        let answer = PartitionRead { state: State::Diverged(4, 20), ..read(100, 1000) }.answer();
        assert_eq!((answer.error_code, answer.records), (0, Some(Bytes::new())));
        assert_eq!((answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset), (4, 20));
    }

    #[test]
    fn a_client_that_knows_another_leader_gets_no_events() {
        let state_machine = leader_epoch::tests::state_machine(&[2]);
        let look = |current, own| {
            let wanted = FetchPartition::default().with_current_leader_epoch(current);
            let mut read = PartitionRead::new(TopicKey::Name("t".into()), &wanted, 1000, UNCOMMITTED, false);
            read.look(&state_machine, own, |_, _| None);
            read.state
        };
        assert!(
            matches!(look(9, Some(9)), State::Behind(..)) && matches!(look(-1, Some(9)), State::Behind(..))
        );
        assert_eq!(look(8, Some(9)), State::Failed(ResponseError::FencedLeaderEpoch));
        assert_eq!(look(10, Some(9)), State::Failed(ResponseError::UnknownLeaderEpoch));
        assert_eq!(look(9, None), State::Failed(ResponseError::NotLeaderOrFollower));
    }

    #[test]
    fn a_topic_is_found_by_its_id_and_another_of_its_name_is_not() {
        let state_machine = leader_epoch::tests::state_machine(&[2]);
        let look = |id, partition| {
            let wanted = FetchPartition::default().with_partition(partition);
            let mut read =
                PartitionRead::new(TopicKey::Id(Uuid::from_u128(id)), &wanted, 1000, UNCOMMITTED, false);
            read.look(&state_machine, Some(9), |_, _| None);
            read.state
        };
        assert!(matches!(look(1, 0), State::Behind(..)), "{:?}", look(1, 0));
        assert_eq!(look(1, 1), State::Failed(ResponseError::UnknownTopicOrPartition));
        assert_eq!(look(2, 0), State::Failed(ResponseError::UnknownTopicId));
        assert!(look(2, 0).needs_proof());
    }

    #[test]
    fn nothing_is_wanted_past_what_is_known() {
        assert_eq!(
            (read(100, 9).wants(4), read(100, 9).wants(5), read(1000, 9).wants(5)),
            (None, Some(4), None)
        );
    }
}
