//! Requests about transactions, with something in every field, and a state with a transaction under way.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, DescribeTransactionsRequest, EndTxnRequest,
    ListTransactionsRequest, TopicName, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::net::kafka::tests::{encoded, idempotent};
use crate::state_machine::StateMachine;
use crate::state_machine::batch::TRANSACTIONAL;
use crate::state_machine::command::{Command, Reply};
use crate::state_machine::groups::{CommittedOffset, GroupChange, OffsetCommit};
use crate::state_machine::transactions::{Ending, ProducerIdentity, TransactionChange};

/// The topic "t" with ten events, then ten of a transaction under way, and the group "g" with one offset committed and another
/// one that the transaction is to commit; or both ended by an abort.
pub fn under_way(is_aborted: bool) -> StateMachine {
    let mut state = crate::net::kafka::leader_epoch::tests::state_machine(&[1]);
    let mut apply = |command: Command| {
        let mut payload = BytesMut::new();
        command.encode(&mut payload);
        state.apply(state.applied_index() + 1, 1, &payload.freeze()).replies.remove(0)
    };
    let producer = ProducerIdentity { id: 1, epoch: 0 };
    let commit = |partition, offset| OffsetCommit {
        member: String::new(),
        instance: None,
        generation: -1,
        offsets: vec![(
            1,
            partition,
            CommittedOffset { offset, leader_epoch: -1, metadata: String::new(), committed: 0 },
        )],
    };
    let group = || "g".to_owned();
    let mut batch = idempotent(10, 1, 0).to_vec();
    batch[21..23].copy_from_slice(&TRANSACTIONAL.to_be_bytes());
    apply(Command::CreatePartitions { name: "t".to_owned(), count: 2 });
    apply(Command::Group { group: group(), change: GroupChange::Commit(commit(1, 3)) });
    let changes = [
        TransactionChange::Init { timeout_ms: 60_000, known: None },
        TransactionChange::AddPartitions { producer, partitions: vec![(1, 0)] },
        TransactionChange::AddGroup { producer, group: group() },
        TransactionChange::CommitOffsets { producer, group: group(), commit: commit(0, 7) },
    ];
    let change = |change| Command::Transaction { id: "tx".to_owned(), change };
    changes.into_iter().for_each(|each| drop(apply(change(each))));
    let appended = apply(Command::Append { topic: 1, partition: 0, batch: batch.into() });
    assert_eq!(appended, Reply::Appended { base_offset: 10, log_start_offset: 0 });
    if is_aborted {
        let partitions = vec![(1, 0)];
        let ending = Ending { producer, commit: false, fence: false, time: i64::MAX, partitions };
        assert_eq!(apply(change(TransactionChange::End(ending))), Reply::Done);
    }
    state
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Whether [`sample`] has one.
pub fn is_about_transactions(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::AddPartitionsToTxn
            | ApiKey::AddOffsetsToTxn
            | ApiKey::EndTxn
            | ApiKey::TxnOffsetCommit
            | ApiKey::DescribeTransactions
            | ApiKey::ListTransactions
    )
}

/// A request with something in every field that the version has.
pub fn sample(key: ApiKey, version: i16) -> Bytes {
    match key {
        ApiKey::AddPartitionsToTxn => {
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(TopicName(text("t")))
                .with_partitions(vec![1, 2]);
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(text("tx").into())
                .with_v3_and_below_topics(vec![topic]);
            encoded(&request, version)
        }
        ApiKey::AddOffsetsToTxn => {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(text("tx").into())
                .with_group_id(text("g").into());
            encoded(&request, version)
        }
        ApiKey::EndTxn => {
            let request =
                EndTxnRequest::default().with_transactional_id(text("tx").into()).with_committed(true);
            encoded(&request, version)
        }
        ApiKey::TxnOffsetCommit => encoded(&commit(version), version),
        ApiKey::ListTransactions => {
            let request = ListTransactionsRequest::default()
                .with_state_filters(vec![text("Ongoing"), text("Lost")])
                .with_producer_id_filters(vec![7.into()]);
            encoded(&request, version)
        }
        _ => {
            let ids = vec![text("tx").into(), text("ty").into()];
            encoded(&DescribeTransactionsRequest::default().with_transactional_ids(ids), version)
        }
    }
}

fn commit(version: i16) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(7)
        .with_committed_metadata(Some(text("kept")));
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(text("tx").into())
        .with_group_id(text("g").into())
        .with_topics(vec![topic]);
    match version {
        3.. => request.with_member_id(text("m")).with_group_instance_id(Some(text("i"))),
        _ => request,
    }
}
