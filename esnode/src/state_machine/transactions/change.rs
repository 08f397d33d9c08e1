//! What may happen to a transaction, and why it may not.

use crate::state_machine::TopicId;
use crate::state_machine::groups::OffsetCommit;

/// A producer id, and the epoch of the instance that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProducerIdentity {
    /// The producer id.
    pub id: i64,
    /// Its epoch. An instance with an older one is fenced.
    pub epoch: i16,
}

/// One change of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionChange {
    /// An instance of the producer begins, and fences those before it.
    Init {
        /// How long its transactions may take, in ms.
        timeout_ms: i32,
        /// Who it was until now, if it says so; it must be the newest instance then (KIP-360).
        known: Option<ProducerIdentity>,
    },
    /// Partitions take part in the transaction, which begins if there is none.
    AddPartitions {
        /// The producer.
        producer: ProducerIdentity,
        /// The partitions.
        partitions: Vec<(TopicId, u32)>,
    },
    /// The offsets of a consumer group take part in the transaction, which begins if there is none.
    AddGroup {
        /// The producer.
        producer: ProducerIdentity,
        /// The group's name.
        group: String,
    },
    /// Offsets to be committed if the transaction is.
    CommitOffsets {
        /// The producer.
        producer: ProducerIdentity,
        /// The group's name. It takes part already.
        group: String,
        /// The offsets, and the member of the group on whose behalf they are committed.
        commit: OffsetCommit,
    },
    /// The transaction is committed or aborted: by this entry, in all its partitions and groups at once.
    End(Ending),
    /// Forgets the id if it was not used after `unused_since`, a time of the log in ms since 1970.
    Expire {
        /// That time.
        unused_since: i64,
    },
}

/// How a transaction ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The producer.
    pub producer: ProducerIdentity,
    /// Whether it is committed.
    pub commit: bool,
    /// Whether the producer is fenced with it, because it took too long.
    pub fence: bool,
    /// Time of day of the markers, in ms since 1970.
    pub time: i64,
    /// All partitions that take part. Each gets a marker; if they are not these any more, nothing changes.
    pub partitions: Vec<(TopicId, u32)>,
}

/// Why a transaction is as it was. Kafka has an error for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// `INVALID_PRODUCER_ID_MAPPING`.
    #[error("the transactional id has another producer id")]
    UnknownProducer,
    /// `PRODUCER_FENCED`.
    #[error("a newer instance of the producer has begun")]
    Fenced,
    /// `INVALID_TXN_STATE`.
    #[error("the transaction is not in a state for this")]
    InvalidState,
    /// `CONCURRENT_TRANSACTIONS`.
    #[error("the transaction is changing")]
    Concurrent,
    /// `POLICY_VIOLATION`.
    #[error("all transactions together are as large as the cluster can hold")]
    NoRoom,
}

impl TransactionChange {
    /// Whether the transactions may take more room with it.
    pub fn grows(&self) -> bool {
        !matches!(self, Self::End(_) | Self::Expire { .. })
    }
}
