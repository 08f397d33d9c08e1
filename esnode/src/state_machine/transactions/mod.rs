//! Transactions: batches of many partitions and offsets of many groups that take effect together, or not at all (KIP-98).
//!
//! Everything is in one log, so a transaction ends with one entry: it puts a marker into each partition and moves the
//! offsets into their groups. Nothing is prepared, and no coordinator has to finish what another one began. A batch is
//! appended only while its transaction is under way and includes the partition, so none is left hanging.

mod change;
mod codec;
mod marker;
#[cfg(test)]
mod tests;
mod transaction;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

pub use self::change::{Ending, ProducerIdentity, TransactionChange, TransactionError};
pub use self::marker::{MARKER, marker};
pub use self::transaction::{Phase, Transaction};
use super::batch::BatchHeader;
use super::command::{Refusal, Reply};
use super::groups::OffsetCommit;
use super::partitions::CommandContext;
use super::{Applied, StateMachine, TopicId};

/// The on-disk format from which on there are transactions.
pub const TRANSACTIONS_FORMAT: u16 = 4;
/// Bytes that all transactional ids may take together, about, for another one to be added.
const MAX_BYTES: usize = 64 << 20;
/// The same, for those that there are to begin more.
const RESERVE: usize = 128 << 20;

/// All transactional ids. A clone shares them until one of the two changes one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "ByName", into = "ByName")]
pub(super) struct Transactions {
    transactions: ByName,
    /// The transactional id of each producer id.
    ids: RedBlackTreeMapSync<i64, String>,
    /// What they take, about.
    bytes: usize,
}

type ByName = RedBlackTreeMapSync<String, Transaction>;

impl Transactions {
    pub(super) fn get(&self, id: &str) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.transactions.iter().map(|(id, transaction)| (id.as_str(), transaction))
    }

    /// Whether a batch may be appended to the partition, as far as transactions go.
    pub(super) fn check(&self, topic: TopicId, partition: u32, batch: &BatchHeader) -> Result<(), Refusal> {
        if !batch.is_transactional() {
            return Ok(());
        }
        let transaction = self.ids.get(&batch.producer_id).and_then(|id| self.get(id));
        let transaction = transaction.ok_or(TransactionError::UnknownProducer)?;
        transaction.check(batch.producer()).map_err(|_| Refusal::FencedEpoch)?;
        match transaction.partitions().contains(&(topic, partition)) {
            true => Ok(()),
            false => Err(TransactionError::InvalidState.into()),
        }
    }

    /// Changes a transactional id that there is.
    fn change<T>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Transaction) -> Result<T, TransactionError>,
    ) -> Result<T, TransactionError> {
        let transaction = self.transactions.get_mut(id).ok_or(TransactionError::UnknownProducer)?;
        let (before, held) = (transaction.bytes(), transaction.producer().id);
        let outcome = change(transaction);
        let (after, holds) = (transaction.bytes(), transaction.producer().id);
        self.bytes = self.bytes + after - before;
        if held != holds {
            self.ids.remove_mut(&held);
            self.ids.insert_mut(holds, id.to_owned());
        }
        outcome
    }

    fn insert(&mut self, id: String, transaction: Transaction) {
        self.bytes += id.len() + transaction.bytes();
        self.ids.insert_mut(transaction.producer().id, id.clone());
        self.transactions.insert_mut(id, transaction);
    }

    fn remove(&mut self, id: &str) {
        if let Some(transaction) = self.transactions.get(id) {
            self.bytes -= id.len() + transaction.bytes();
            self.ids.remove_mut(&transaction.producer().id);
            self.transactions.remove_mut(id);
        }
    }

    /// Everything that replicas must agree on.
    pub(super) fn fingerprint(&self, mut put: impl FnMut(&[u8])) {
        for (id, transaction) in &self.transactions {
            put(id.as_bytes());
            transaction.fingerprint(&mut put);
        }
    }
}

impl From<ByName> for Transactions {
    fn from(transactions: ByName) -> Self {
        let ids = transactions.iter().map(|(id, transaction)| (transaction.producer().id, id.clone()));
        let bytes = transactions.iter().map(|(id, transaction)| id.len() + transaction.bytes());
        Self { ids: ids.collect(), bytes: bytes.sum(), transactions }
    }
}

impl From<Transactions> for ByName {
    fn from(transactions: Transactions) -> Self {
        transactions.transactions
    }
}

impl StateMachine {
    /// The transactional id, if it is known.
    pub fn transaction(&self, id: &str) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    /// All transactional ids.
    pub fn transactions(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.transactions.iter()
    }

    /// Whether a batch may be appended to the partition, as far as transactions go.
    ///
    /// # Errors
    /// [`Refusal::FencedEpoch`] and [`Refusal::Transaction`].
    pub fn check_transaction(
        &self,
        topic: TopicId,
        partition: u32,
        batch: &BatchHeader,
    ) -> Result<(), Refusal> {
        self.transactions.check(topic, partition, batch)
    }

    pub(super) fn change_transaction(
        &mut self,
        id: String,
        change: TransactionChange,
        context: CommandContext,
        applied: &mut Applied,
    ) -> Reply {
        let now = self.now();
        let limit = if self.transaction(&id).is_some() { RESERVE } else { MAX_BYTES };
        if change.grows() && self.transactions.bytes > limit {
            return refused(TransactionError::NoRoom);
        }
        let outcome = match change {
            TransactionChange::Init { timeout_ms, known } => {
                return self.init_producer(id, timeout_ms, known, now);
            }
            TransactionChange::AddPartitions { producer, partitions } => {
                self.transactions.change(&id, |transaction| {
                    transaction.add(producer, now, |members, _| members.extend(partitions))
                })
            }
            TransactionChange::AddGroup { producer, group } => self.transactions.change(&id, |transaction| {
                transaction.add(producer, now, |_, groups| groups.extend([group]))
            }),
            TransactionChange::CommitOffsets { producer, group, commit } => {
                return self.commit_offsets(&id, producer, group, commit, applied);
            }
            TransactionChange::End(ending) => self.end_transaction(&id, &ending, context, applied),
            TransactionChange::Expire { unused_since } => {
                if self.transaction(&id).is_some_and(|known| known.is_unused_since(unused_since)) {
                    self.transactions.remove(&id);
                }
                Ok(())
            }
        };
        outcome.map_or_else(refused, |()| Reply::Done)
    }

    fn init_producer(
        &mut self,
        id: String,
        timeout_ms: i32,
        known: Option<ProducerIdentity>,
        now: i64,
    ) -> Reply {
        let next = &mut self.next_producer;
        let mut fresh = || {
            *next += 1;
            *next
        };
        if self.transactions.get(&id).is_some() {
            let outcome =
                self.transactions.change(&id, |transaction| transaction.init(timeout_ms, known, now, fresh));
            return outcome.map_or_else(refused, Reply::ProducerInitialized);
        }
        // Its producer id may have been forgotten; nobody else has it.
        let producer = ProducerIdentity { id: fresh(), epoch: 0 };
        self.transactions.insert(id, Transaction::new(producer, timeout_ms, now));
        Reply::ProducerInitialized(producer)
    }

    fn commit_offsets(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        group: String,
        commit: OffsetCommit,
        applied: &mut Applied,
    ) -> Reply {
        let now = self.now();
        let transaction = self.transaction(id).ok_or(TransactionError::UnknownProducer);
        let allowed = transaction.and_then(|transaction| {
            transaction.check(producer)?;
            let takes_part = transaction.groups().contains(&group);
            if takes_part { Ok(()) } else { Err(TransactionError::InvalidState) }
        });
        if let Err(error) = allowed {
            return refused(error);
        }
        let outcome = self.groups.commit_in_transaction(&group, producer.id, commit, now);
        applied.groups.push(group);
        outcome.map_or_else(|error| Reply::Refused(Refusal::Group(error)), |()| Reply::Done)
    }

    fn end_transaction(
        &mut self,
        id: &str,
        ending: &Ending,
        context: CommandContext,
        applied: &mut Applied,
    ) -> Result<(), TransactionError> {
        let now = self.now();
        let ended = self.transactions.change(id, |transaction| transaction.end(ending, now));
        let is_refused = ended.is_err();
        for (topic, partition) in &ending.partitions {
            // Readers look for a marker in every partition that the entry names.
            self.extend((*topic, *partition), context, applied, |partition| match is_refused {
                true => partition.refuse_marker(context),
                false => partition.end_transaction(ending, context),
            });
        }
        let groups = ended?;
        applied.touched.extend(&ending.partitions);
        for group in groups {
            self.groups.end_transaction(&group, ending.producer.id, ending.commit, now);
            applied.groups.push(group);
        }
        Ok(())
    }
}

fn refused(error: TransactionError) -> Reply {
    Reply::Refused(Refusal::Transaction(error))
}
