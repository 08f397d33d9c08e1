//! What can go wrong between escli and the nodes' Kafka ports, and what asking again may mend.

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::TopicPartition;
use crate::output::printable;

/// Why a call had no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// There was no connection, so nothing was sent.
    #[error("{node}: {why}")]
    Unreachable {
        /// Which node, and where.
        node: String,
        /// In a few words.
        why: String,
    },
    /// A request was sent and not answered. It may have been carried out.
    #[error("{node} did not answer {api}: {why}")]
    NoResponse {
        /// Which node, and where.
        node: String,
        /// Kafka's name of the request.
        api: String,
        /// In a few words.
        why: String,
    },
    /// The node and escli have no version of a request in common.
    #[error("{node} does not serve {api} in a version that escli knows")]
    Unsupported {
        /// Which node, and where.
        node: String,
        /// Kafka's name of the request.
        api: String,
    },
    /// The response is not one.
    #[error("the response of {node} to {api} cannot be read: {why}")]
    Malformed {
        /// Which node, and where.
        node: String,
        /// Kafka's name of the request.
        api: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cluster answered with an error.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's error.
        code: ResponseError,
        /// The node's own words, or Kafka's name of the error.
        why: String,
    },
    /// Nobody leads the partition at the moment.
    #[error("{0} has no leader")]
    NoLeader(TopicPartition),
    /// Nobody leads the cluster at the moment.
    #[error("no node coordinates groups and transactions at the moment")]
    NoCoordinator,
    /// There is no such topic.
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    /// There is no such consumer group.
    #[error("there is no group {0}")]
    UnknownGroup(String),
    /// There is no such transactional id.
    #[error("there is no transactional id {0}")]
    UnknownTransactionalId(String),
    /// The topic has no such partition.
    #[error("there is no {partition}; it has {count}")]
    UnknownPartition {
        /// The one that was named.
        partition: TopicPartition,
        /// Number of partitions that there are.
        count: usize,
    },
    /// Events that cannot be written.
    #[error("an event cannot be written to {partition}: {why}")]
    Unwritable {
        /// Where.
        partition: TopicPartition,
        /// What is wrong with it.
        why: String,
    },
    /// Events that cannot be read.
    #[error("{partition} cannot be read at offset {offset}: {why}")]
    Unreadable {
        /// Where.
        partition: TopicPartition,
        /// Offset of the batch.
        offset: i64,
        /// Offset after the batch, by its own account.
        next: i64,
        /// What is wrong with it.
        why: String,
    },
}

impl KafkaError {
    /// Returns whether a later attempt may succeed: another node may answer, or there may be a leader.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoResponse { .. } | Self::NoLeader(_) | Self::NoCoordinator => {
                true
            }
            Self::Refused { code, .. } => is_transient(*code),
            Self::Unsupported { .. }
            | Self::Malformed { .. }
            | Self::UnknownTopic(_)
            | Self::UnknownGroup(_)
            | Self::UnknownTransactionalId(_)
            | Self::UnknownPartition { .. }
            | Self::Unwritable { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Returns whether the request may have been carried out all the same.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::NoResponse { .. } | Self::Refused { code: ResponseError::RequestTimedOut, .. })
    }
}

/// Whether an error passes by itself once there is a leader, or a coordinator, that is ready.
fn is_transient(code: ResponseError) -> bool {
    matches!(
        code,
        ResponseError::LeaderNotAvailable
            | ResponseError::NotLeaderOrFollower
            | ResponseError::RequestTimedOut
            | ResponseError::NetworkException
            | ResponseError::CoordinatorLoadInProgress
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::NotCoordinator
            | ResponseError::NotController
            | ResponseError::NotEnoughReplicas
            | ResponseError::KafkaStorageError
            | ResponseError::FencedLeaderEpoch
            | ResponseError::UnknownLeaderEpoch
            | ResponseError::OffsetNotAvailable
            | ResponseError::UnstableOffsetCommit
            | ResponseError::ThrottlingQuotaExceeded
    )
}

/// Takes an error code of a response, with the node's words where it has some.
///
/// # Errors
/// `Refused`, when the code is not 0.
pub fn check(code: i16, message: Option<&StrBytes>, what: impl FnOnce() -> String) -> Result<(), KafkaError> {
    let Some(code) = ResponseError::try_from_code(code) else { return Ok(()) };
    let own = message.map(|text| printable::line(text).into_owned()).filter(|text| !text.is_empty());
    let why = own.unwrap_or_else(|| documented_name(code));
    Err(KafkaError::Refused { what: what(), code, why })
}

/// The name of an error as Kafka's documentation has it, such as `NON_EMPTY_GROUP`.
fn documented_name(code: ResponseError) -> String {
    if let ResponseError::Unknown(code) = code {
        return format!("Kafka's error {code}");
    }
    let mut name = String::new();
    for letter in code.to_string().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ResponseError) -> KafkaError {
        check(code.code(), None, || "orders".to_owned()).unwrap_err()
    }

    #[test]
    fn what_passes_by_itself_is_asked_again_and_nothing_else() {
        for code in [
            ResponseError::NotLeaderOrFollower,
            ResponseError::CoordinatorLoadInProgress,
            ResponseError::NotCoordinator,
            ResponseError::CoordinatorNotAvailable,
            ResponseError::NotController,
        ] {
            assert!(refused(code).is_retriable() && !refused(code).is_ambiguous(), "{code}");
        }
        for code in [
            ResponseError::UnknownTopicOrPartition,
            ResponseError::TopicAlreadyExists,
            ResponseError::NonEmptyGroup,
            ResponseError::Unknown(1000),
        ] {
            assert!(!refused(code).is_retriable(), "{code}");
        }
        assert!(refused(ResponseError::RequestTimedOut).is_ambiguous());
    }

    #[test]
    fn the_nodes_own_words_come_first_and_are_printable() {
        assert_eq!(check(0, None, || "orders".to_owned()), Ok(()));
        let own = StrBytes::from_static_str("no\u{1b}[2J room");
        let said = check(44, Some(&own), || "create orders".to_owned()).unwrap_err();
        assert_eq!(said.to_string(), "create orders: no\\x1b[2J room");
        let said = refused(ResponseError::NonEmptyGroup).to_string();
        assert_eq!(said, "orders: NON_EMPTY_GROUP");
        assert_eq!(refused(ResponseError::Unknown(1000)).to_string(), "orders: Kafka's error 1000");
    }
}
