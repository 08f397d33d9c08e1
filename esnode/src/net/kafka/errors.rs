//! What the node's refusals are called in the Kafka protocol.

use kafka_protocol::ResponseError;

use crate::replica::ProposeError;
use crate::state_machine::command::Refusal;
use crate::state_machine::transactions::TransactionError;

/// No error.
pub const NONE: i16 = 0;

/// The code for a command that changed nothing.
pub fn refusal(refusal: Refusal) -> ResponseError {
    match refusal {
        Refusal::TopicExists => ResponseError::TopicAlreadyExists,
        Refusal::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        Refusal::InvalidTopic => ResponseError::InvalidTopicException,
        Refusal::TooManyPartitions => ResponseError::PolicyViolation,
        Refusal::TooMuchConfig => ResponseError::InvalidConfig,
        Refusal::InvalidBatch => ResponseError::CorruptMessage,
        Refusal::OutOfOrderSequence => ResponseError::OutOfOrderSequenceNumber,
        Refusal::FencedEpoch => ResponseError::InvalidProducerEpoch,
        Refusal::Transaction(error) => transaction(error),
        Refusal::BoundElsewhere | Refusal::Group(_) => ResponseError::UnknownServerError,
    }
}

/// The code for a transaction that is not changed.
pub fn transaction(error: TransactionError) -> ResponseError {
    match error {
        TransactionError::UnknownProducer => ResponseError::InvalidProducerIdMapping,
        TransactionError::Fenced => ResponseError::ProducerFenced,
        TransactionError::InvalidState => ResponseError::InvalidTxnState,
        TransactionError::Concurrent => ResponseError::ConcurrentTransactions,
        TransactionError::NoRoom => ResponseError::PolicyViolation,
    }
}

/// The code for events that were not appended, or may not have been.
pub fn produce(error: ProposeError) -> ResponseError {
    match error {
        // A retry is safe in both cases for an idempotent producer; a plain one asked for at-least-once.
        ProposeError::NotLeader(_) | ProposeError::Unknown | ProposeError::Stopping => {
            ResponseError::NotLeaderOrFollower
        }
        ProposeError::Busy => ResponseError::RequestTimedOut,
        ProposeError::NoRoom => ResponseError::KafkaStorageError,
        ProposeError::TooLarge => ResponseError::MessageTooLarge,
    }
}

/// The code for a topic that was not created or deleted, or may not have been.
pub fn topics(error: ProposeError) -> ResponseError {
    match error {
        ProposeError::NotLeader(_) | ProposeError::Stopping => ResponseError::NotController,
        ProposeError::Unknown | ProposeError::Busy => ResponseError::RequestTimedOut,
        ProposeError::NoRoom => ResponseError::KafkaStorageError,
        ProposeError::TooLarge => ResponseError::InvalidRequest,
    }
}

/// The code for what a coordinator did not do, or may not have done.
pub fn coordinator(error: ProposeError) -> ResponseError {
    match error {
        ProposeError::NotLeader(Some(_)) => ResponseError::NotCoordinator,
        ProposeError::Busy => ResponseError::CoordinatorLoadInProgress,
        ProposeError::NotLeader(None)
        | ProposeError::Unknown
        | ProposeError::Stopping
        | ProposeError::NoRoom => ResponseError::CoordinatorNotAvailable,
        ProposeError::TooLarge => ResponseError::InvalidRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_retry_may_cure_is_retriable() {
        for error in [
            ProposeError::NotLeader(None),
            ProposeError::NotLeader(Some(2)),
            ProposeError::Unknown,
            ProposeError::Busy,
            ProposeError::NoRoom,
            ProposeError::Stopping,
        ] {
            assert!(produce(error).is_retriable(), "{error}");
            assert!(topics(error).is_retriable(), "{error}");
            assert!(coordinator(error).is_retriable(), "{error}");
        }
        assert!(!produce(ProposeError::TooLarge).is_retriable());
        assert!(!topics(ProposeError::TooLarge).is_retriable());
        assert!(!coordinator(ProposeError::TooLarge).is_retriable());
    }
}
