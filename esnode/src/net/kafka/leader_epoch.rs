//! Leader epochs (KIP-320), which are Raft's terms: whether client and node speak of the same leader, and
//! OffsetForLeaderEpoch, by which a consumer learns whether what it has read is in this log.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName};
use tokio::time::timeout;

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::ids::leader_epoch;
use super::reading::Source;
use super::session::Session;
use crate::state_machine::{Partition, StateMachine};

/// How long the proof that this node leads may take; a majority that answers at all does so within milliseconds.
const PROOF: Duration = Duration::from_secs(1);

/// Makes sure that this node leads still and knows all that was committed; gives its epoch. What is said to a client
/// without that may be as of a time when this node led, so nothing that makes one give up, or go back, is.
pub async fn prove(session: &Session) -> Result<i32, ResponseError> {
    let now = session.leadership();
    if !now.serving {
        return Err(ResponseError::NotLeaderOrFollower);
    }
    match timeout(PROOF, session.node().read_barrier()).await {
        Ok(Ok(())) => Ok(leader_epoch(now.term)),
        Ok(Err(_)) | Err(_) => Err(ResponseError::NotLeaderOrFollower),
    }
}

/// Whether the leader that a client knows of is this one, of epoch `own`; a negative epoch says nothing.
pub fn check(client: i32, own: i32) -> Result<(), ResponseError> {
    match client {
        ..0 => Ok(()),
        client if client < own => Err(ResponseError::FencedLeaderEpoch),
        client if client > own => Err(ResponseError::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// The last epoch up to `epoch` with events in the partition, and the offset behind them. `own` is the leader's.
pub fn end_of(partition: &Partition, epoch: i32, own: i32) -> (i32, i64) {
    if epoch == own {
        // It goes on.
        return (own, partition.high_watermark());
    }
    let (term, end) = partition.end_of_term(u64::try_from(epoch).unwrap_or(0));
    (leader_epoch(term), end)
}

/// Serves OffsetForLeaderEpoch.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: OffsetForLeaderEpochRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let epoch = prove(&session).await;
        let answer = answer(&session.node().state_machine(), &body, epoch);
        to.send(&answer)
    }))
}

fn answer(
    state_machine: &StateMachine,
    body: &OffsetForLeaderEpochRequest,
    own: Result<i32, ResponseError>,
) -> OffsetForLeaderEpochResponse {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            match own.and_then(|own| look(state_machine, &topic.topic, wanted, own)) {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn look(
    state_machine: &StateMachine,
    topic: &TopicName,
    wanted: &OffsetForLeaderPartition,
    own: i32,
) -> Result<(i32, i64), ResponseError> {
    let source = Source::resolve(state_machine, topic, wanted.partition);
    let partition = source.as_ref().and_then(|source| source.find(state_machine));
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check(wanted.current_leader_epoch, own)?;
    // Who names none gets Kafka's word for undefined.
    Ok(if wanted.leader_epoch < 0 { (-1, -1) } else { end_of(partition, wanted.leader_epoch, own) })
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;

    use super::*;
    use crate::net::kafka::tests::{batch_of, encodes};
    use crate::net::kafka::topics::creation;
    use crate::state_machine::command::Command;

    /// A topic "t" with ten events of each of these terms, in this order.
    pub fn state_machine(terms: &[u64]) -> StateMachine {
        let mut state_machine = StateMachine::default();
        let mut apply = |index, term, command: Command| {
            let mut payload = BytesMut::new();
            command.encode(&mut payload);
            state_machine.apply(index, term, &payload.freeze());
        };
        apply(1, 1, creation("t", 1, Vec::new()));
        for (index, term) in (2..).zip(terms) {
            apply(index, *term, Command::Append { topic: 1, partition: 0, batch: batch_of(10) });
        }
        state_machine
    }

    fn ask(
        state_machine: &StateMachine,
        own: Result<i32, ResponseError>,
        current: i32,
        epoch: i32,
    ) -> (i16, i32, i64) {
        let wanted =
            OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let topic =
            OffsetForLeaderTopic::default().with_topic(TopicName("t".into())).with_partitions(vec![wanted]);
        let body = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = answer(state_machine, &body, own);
        encodes(ApiKey::OffsetForLeaderEpoch, |_| answer.clone());
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.leader_epoch, partition.end_offset)
    }

    #[test]
    fn a_consumer_learns_how_far_its_epoch_goes_in_this_log() {
        let state_machine = state_machine(&[2, 4, 4, 7]);
        let end = |epoch| ask(&state_machine, Ok(9), -1, epoch);
        assert_eq!((end(2), end(4), end(7)), ((0, 2, 10), (0, 4, 30), (0, 7, 40)));
        assert_eq!((end(3), end(8)), ((0, 2, 10), (0, 7, 40)), "what it has read in 3 or 8 is not here");
        assert_eq!((end(9), end(-1)), ((0, 9, 40), (0, -1, -1)), "the leader's own goes on");
    }

    #[test]
    fn whoever_knows_another_leader_is_told_so_and_nothing_else() {
        let state_machine = state_machine(&[2]);
        let error = |own, current| ask(&state_machine, own, current, 2);
        assert_eq!(error(Ok(9), 9), (0, 2, 10));
        assert_eq!(error(Ok(9), 8), (ResponseError::FencedLeaderEpoch.code(), -1, -1));
        assert_eq!(error(Ok(9), 10), (ResponseError::UnknownLeaderEpoch.code(), -1, -1));
        let unproven = ResponseError::NotLeaderOrFollower;
        assert_eq!(error(Err(unproven), 9), (unproven.code(), -1, -1));
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(ask(&StateMachine::default(), Ok(9), 9, 2), (unknown, -1, -1));
    }
}
