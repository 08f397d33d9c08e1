//! One transactional id: its producer, and the transaction that it has under way.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::{Ending, ProducerIdentity, TransactionError};
use crate::state_machine::TopicId;

/// Epoch from which on a new instance gets a new producer id. The one behind it is left for fencing.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// Bytes of a transactional id without its name, its partitions and its groups, about.
const OVERHEAD: usize = 256;
/// Bytes of one partition of it, about.
const PARTITION: usize = 16;

/// What a transactional id is doing. The names are Kafka's. A transaction ends within one entry, so nothing is ever
/// prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its instance has begun no transaction yet.
    Empty,
    /// A transaction is under way.
    Ongoing,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
}

impl Phase {
    /// As Kafka writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// A transactional id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transaction {
    producer: ProducerIdentity,
    /// Who the newest instance said that it was before. It may ask again, if it was not told what it is now.
    previous: Option<ProducerIdentity>,
    timeout_ms: i32,
    phase: Phase,
    partitions: BTreeSet<(TopicId, u32)>,
    groups: BTreeSet<String>,
    began: i64,
    changed: i64,
}

impl Transaction {
    pub(super) fn new(producer: ProducerIdentity, timeout_ms: i32, now: i64) -> Self {
        Self {
            producer,
            previous: None,
            timeout_ms,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            began: now,
            changed: now,
        }
    }

    /// Its newest instance.
    pub fn producer(&self) -> ProducerIdentity {
        self.producer
    }

    /// How long a transaction may take, in ms.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The partitions that take part in the transaction under way.
    pub fn partitions(&self) -> &BTreeSet<(TopicId, u32)> {
        &self.partitions
    }

    /// The groups that take part in it.
    pub fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// When the transaction under way began: the log's time, ms since 1970.
    pub fn began(&self) -> Option<i64> {
        (self.phase == Phase::Ongoing).then_some(self.began)
    }

    /// Whether nothing is under way and nothing has changed after `time`, a time of the log in ms since 1970.
    pub fn is_unused_since(&self, time: i64) -> bool {
        self.phase != Phase::Ongoing && self.changed <= time
    }

    /// How to end the transaction under way.
    ///
    /// # Errors
    /// Those of [`Transaction::check`], and [`TransactionError::InvalidState`] if there is none.
    pub fn ending(
        &self,
        producer: ProducerIdentity,
        commit: bool,
        time: i64,
    ) -> Result<Ending, TransactionError> {
        self.check(producer)?;
        if self.phase != Phase::Ongoing {
            return Err(TransactionError::InvalidState);
        }
        let partitions = self.partitions.iter().copied().collect();
        Ok(Ending { producer, commit, fence: false, time, partitions })
    }

    /// Whether the transaction has ended this way already, so that nothing is left to be done.
    pub fn has_ended(&self, producer: ProducerIdentity, commit: bool) -> bool {
        let ended = if commit { Phase::CompleteCommit } else { Phase::CompleteAbort };
        self.producer == producer && self.phase == ended
    }

    /// Whether this is its newest instance.
    ///
    /// # Errors
    /// [`TransactionError::UnknownProducer`] and [`TransactionError::Fenced`].
    pub fn check(&self, producer: ProducerIdentity) -> Result<(), TransactionError> {
        if producer.id != self.producer.id {
            return Err(TransactionError::UnknownProducer);
        }
        if producer.epoch == self.producer.epoch { Ok(()) } else { Err(TransactionError::Fenced) }
    }

    pub(super) fn bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(|group| group.len() + PARTITION).sum();
        OVERHEAD + PARTITION * self.partitions.len() + groups
    }

    /// The identity of a new instance; with `fresh`, a producer id that nobody has, where the epochs are used up.
    pub(super) fn init(
        &mut self,
        timeout_ms: i32,
        known: Option<ProducerIdentity>,
        now: i64,
        fresh: impl FnOnce() -> i64,
    ) -> Result<ProducerIdentity, TransactionError> {
        if self.phase == Phase::Ongoing {
            return Err(TransactionError::Concurrent);
        }
        if known.is_some() && known == self.previous {
            return Ok(self.producer);
        }
        if known.is_some_and(|known| known != self.producer) {
            return Err(TransactionError::Fenced);
        }
        let ProducerIdentity { id, epoch } = self.producer;
        let next = match epoch {
            LAST_EPOCH.. => ProducerIdentity { id: fresh(), epoch: 0 },
            _ => ProducerIdentity { id, epoch: epoch + 1 },
        };
        *self = Self { previous: known, ..Self::new(next, timeout_ms, now) };
        Ok(next)
    }

    /// Something takes part in the transaction, which begins if there is none.
    pub(super) fn add(
        &mut self,
        producer: ProducerIdentity,
        now: i64,
        part: impl FnOnce(&mut BTreeSet<(TopicId, u32)>, &mut BTreeSet<String>),
    ) -> Result<(), TransactionError> {
        self.check(producer)?;
        if self.phase != Phase::Ongoing {
            self.phase = Phase::Ongoing;
            self.began = now;
        }
        self.changed = now;
        part(&mut self.partitions, &mut self.groups);
        Ok(())
    }

    /// Ends the transaction. Returns the groups that took part.
    pub(super) fn end(&mut self, ending: &Ending, now: i64) -> Result<BTreeSet<String>, TransactionError> {
        self.check(ending.producer)?;
        if self.phase != Phase::Ongoing {
            return Err(TransactionError::InvalidState);
        }
        if !self.partitions.iter().eq(&ending.partitions) {
            return Err(TransactionError::Concurrent);
        }
        self.phase = if ending.commit { Phase::CompleteCommit } else { Phase::CompleteAbort };
        if ending.fence {
            self.producer.epoch = self.producer.epoch.saturating_add(1);
        }
        self.changed = now;
        self.partitions.clear();
        Ok(std::mem::take(&mut self.groups))
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, put: &mut impl FnMut(&[u8])) {
        let mut identity = |producer: ProducerIdentity| {
            put(&producer.id.to_le_bytes());
            put(&producer.epoch.to_le_bytes());
        };
        identity(self.producer);
        self.previous.into_iter().for_each(identity);
        put(&self.timeout_ms.to_le_bytes());
        put(self.phase.name().as_bytes());
        put(&self.began.to_le_bytes());
        put(&self.changed.to_le_bytes());
        for (topic, partition) in &self.partitions {
            put(&topic.to_le_bytes());
            put(&partition.to_le_bytes());
        }
        self.groups.iter().for_each(|group| put(group.as_bytes()));
    }
}
