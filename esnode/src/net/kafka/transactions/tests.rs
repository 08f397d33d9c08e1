//! Requests about transactions, with something in every field.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, DescribeTransactionsRequest, EndTxnRequest,
    ListTransactionsRequest, TopicName, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::net::kafka::tests::encoded;

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
