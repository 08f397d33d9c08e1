//! Calls about transactions. Whoever coordinates the groups coordinates them, too.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{DescribeTransactionsRequest, ListTransactionsRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::error::check;
use super::{KafkaClient, KafkaError, TopicPartition};

/// The state of a transaction under way.
const ONGOING: &str = "Ongoing";

/// A transactional id as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// The id.
    pub id: String,
    /// Kafka's word for the state of its transaction, such as `Ongoing`.
    pub state: String,
    /// Id of its producer.
    pub producer_id: i64,
}

/// A transactional id as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The id.
    pub id: String,
    /// Kafka's word for the state of its transaction.
    pub state: String,
    /// Id of its producer.
    pub producer_id: i64,
    /// Epoch of its producer: how often one with this id has begun.
    pub producer_epoch: i16,
    /// How long a transaction may take before it is aborted, in ms.
    pub timeout_ms: i32,
    /// When the one that is under way began, in ms since 1970.
    pub began_ms: Option<i64>,
    /// The partitions in which it has events.
    pub partitions: Vec<TopicPartition>,
}

impl KafkaClient {
    /// Returns all transactional ids, by name.
    ///
    /// # Errors
    /// `Refused`; those of [`Self::ask`].
    pub async fn transactions(&mut self) -> Result<Vec<TransactionListing>, KafkaError> {
        self.retried(async |client| {
            let response = client.ask_coordinator(0..=1, &ListTransactionsRequest::default()).await?;
            check(response.error_code, None, || "cannot list the transactions".to_owned())?;
            let listed = response.transaction_states.into_iter().map(|listed| TransactionListing {
                id: listed.transactional_id.to_string(),
                state: listed.transaction_state.to_string(),
                producer_id: listed.producer_id.0,
            });
            let mut listed: Vec<_> = listed.collect();
            listed.sort_by(|one, other| one.id.cmp(&other.id));
            Ok(listed)
        })
        .await
    }

    /// Returns those of the listed transactions that are under way, the oldest first.
    ///
    /// # Errors
    /// `Refused`; those of [`Self::ask`].
    pub async fn ongoing(&mut self, listed: &[TransactionListing]) -> Result<Vec<Transaction>, KafkaError> {
        let ids = listed.iter().filter(|listed| listed.state == ONGOING).map(|listed| id(&listed.id));
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.collect());
        if request.transactional_ids.is_empty() {
            return Ok(Vec::new());
        }
        self.retried(async |client| {
            let response = client.ask_coordinator(0..=0, &request).await?;
            oldest_first(&response.transaction_states)
        })
        .await
    }

    /// Returns one transactional id with its transaction.
    ///
    /// # Errors
    /// `UnknownTransactionalId`, `Refused`; those of [`Self::ask`].
    pub async fn transaction(&mut self, name: &str) -> Result<Transaction, KafkaError> {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id(name)]);
        self.retried(async |client| {
            let response = client.ask_coordinator(0..=0, &request).await?;
            let found = response.transaction_states.first();
            found.map_or_else(|| Err(KafkaError::UnknownTransactionalId(name.to_owned())), described)
        })
        .await
    }
}

fn id(name: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(name.to_owned()))
}

/// The transactions under way among these: some may have ended since they were listed.
fn oldest_first(found: &[TransactionState]) -> Result<Vec<Transaction>, KafkaError> {
    let mut ongoing = Vec::new();
    for each in found {
        match described(each) {
            Ok(transaction) if transaction.began_ms.is_some() => ongoing.push(transaction),
            Ok(_) | Err(KafkaError::UnknownTransactionalId(_)) => {}
            Err(error) => return Err(error),
        }
    }
    ongoing.sort_by(|one, other| (one.began_ms, &one.id).cmp(&(other.began_ms, &other.id)));
    Ok(ongoing)
}

fn described(found: &TransactionState) -> Result<Transaction, KafkaError> {
    let id = found.transactional_id.to_string();
    if found.error_code == ResponseError::TransactionalIdNotFound.code() {
        return Err(KafkaError::UnknownTransactionalId(id));
    }
    check(found.error_code, None, || format!("cannot describe the transactional id {id}"))?;
    let partitions = found.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition::new(&topic.topic, *partition))
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_unstable();
    Ok(Transaction {
        id,
        state: found.transaction_state.to_string(),
        producer_id: found.producer_id.0,
        producer_epoch: found.producer_epoch,
        timeout_ms: found.transaction_timeout_ms,
        began_ms: Some(found.transaction_start_time_ms).filter(|began| *began >= 0),
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::describe_transactions_response::TopicData;

    use super::*;

    #[test]
    fn of_transactions_under_way_the_oldest_comes_first_and_what_has_ended_is_none() {
        let began = |name: &'static str, at| {
            TransactionState::default()
                .with_transactional_id(StrBytes::from_static_str(name).into())
                .with_transaction_start_time_ms(at)
        };
        let gone = began("gone", 1).with_error_code(ResponseError::TransactionalIdNotFound.code());
        let found = [began("young", 9), gone, began("ended", -1), began("old", 2)];
        let ids = oldest_first(&found).unwrap().into_iter().map(|each| each.id);
        assert_eq!(ids.collect::<Vec<_>>(), ["old", "young"]);
        let moved = began("moved", 1).with_error_code(ResponseError::NotCoordinator.code());
        assert!(oldest_first(&[moved]).unwrap_err().is_retriable());
    }

    #[test]
    fn a_transaction_is_described_with_its_partitions_and_an_unknown_id_is_named() {
        let topic = |name: &'static str, partitions: &[i32]| {
            let name = TopicName(StrBytes::from_static_str(name));
            TopicData::default().with_topic(name).with_partitions(partitions.to_vec())
        };
        let state = TransactionState::default()
            .with_transactional_id(StrBytes::from_static_str("billing").into())
            .with_transaction_state(StrBytes::from_static_str("Ongoing"))
            .with_transaction_start_time_ms(7)
            .with_topics(vec![topic("t", &[1, 0]), topic("s", &[2])]);
        let found = described(&state).unwrap();
        let at = |topic: &str, partition| TopicPartition::new(topic, partition);
        assert_eq!(found.partitions, [at("s", 2), at("t", 0), at("t", 1)]);
        assert_eq!((found.began_ms, found.state.as_str()), (Some(7), "Ongoing"));
        let idle = state.clone().with_transaction_start_time_ms(-1);
        assert_eq!(described(&idle).unwrap().began_ms, None);
        let unknown = state.with_error_code(ResponseError::TransactionalIdNotFound.code());
        assert_eq!(described(&unknown), Err(KafkaError::UnknownTransactionalId("billing".to_owned())));
    }
}
