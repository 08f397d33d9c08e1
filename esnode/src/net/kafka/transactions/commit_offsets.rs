//! TxnOffsetCommit: offsets of a group that are committed if the transaction is.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{change, code, coordinates_of, identity, outcome};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::groups::check_name;
use crate::net::kafka::groups::commit::check;
use crate::net::kafka::session::Session;
use crate::state_machine::groups::{CommittedOffset, OffsetCommit};
use crate::state_machine::transactions::TransactionChange;
use crate::state_machine::{StateMachine, TopicId};

/// Fenced producers are never told so by an error of their own: clients do not know it here.
const FENCED_SINCE: i16 = i16::MAX;

/// Serves TxnOffsetCommit.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: TxnOffsetCommitRequest = request.decode()?;
    let to = request.to;
    let id = &body.transactional_id;
    let committed = coordinates_of(session, id).and_then(|()| check_name(&body.group_id)).map(|()| {
        if !body.member_id.is_empty() {
            session.shared.groups.sessions.renew(&body.group_id, &body.member_id, Instant::now());
        }
        let change_it = TransactionChange::CommitOffsets {
            producer: identity(body.producer_id, body.producer_epoch),
            group: body.group_id.to_string(),
            commit: OffsetCommit {
                member: body.member_id.to_string(),
                instance: body.group_instance_id.as_ref().map(ToString::to_string),
                generation: body.generation_id,
                offsets: accepted(&session.node().state_machine(), &body),
            },
        };
        change(session, id, vec![change_it])
    });
    let session = Arc::clone(session);
    Ok(Answer::later(async move {
        let committed = match committed {
            Ok(committed) => committed.await.map(drop),
            Err(error) => Err(error),
        };
        let committed = outcome(committed, to.version, FENCED_SINCE);
        let answer = answer(&session.node().state_machine(), &body, committed);
        to.send(&answer)
    }))
}

/// The offsets that can be kept.
fn accepted(state: &StateMachine, body: &TxnOffsetCommitRequest) -> Vec<(TopicId, u32, CommittedOffset)> {
    let each = body.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |each| (topic, each)));
    let kept = each.filter_map(|(topic, partition)| {
        let (id, number) = place(state, &topic.name, partition).ok()?;
        let offset = CommittedOffset {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
            committed: 0,
        };
        Some((id, number, offset))
    });
    kept.collect()
}

fn place(
    state: &StateMachine,
    topic: &str,
    partition: &TxnOffsetCommitRequestPartition,
) -> Result<(TopicId, u32), ResponseError> {
    check(state, topic, partition.partition_index, partition.committed_metadata.as_deref())
}

fn answer(
    state: &StateMachine,
    body: &TxnOffsetCommitRequest,
    committed: Result<(), ResponseError>,
) -> TxnOffsetCommitResponse {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = committed.and_then(|()| place(state, &topic.name, partition).map(drop));
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(outcome))
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
