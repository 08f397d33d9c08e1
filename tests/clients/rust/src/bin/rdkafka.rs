//! rdkafka: librdkafka, which it builds, for Rust.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clients::{Settings, bootstrap, serve, version};
use futures::executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::util::get_rdkafka_version;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use serde_json::{Value, from_value, json};

const SOON: Duration = Duration::from_secs(20);
const A_MOMENT: Duration = Duration::from_millis(100);
/// Limit of the records of one poll.
const BATCH: usize = 100;

fn main() -> Result<()> {
    let client = Client::new(bootstrap()?)?;
    serve(move |call, with| client.perform(call, with))
}

struct Client {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    members: Mutex<HashMap<u64, Arc<BaseConsumer<Membership>>>>,
    producers: Mutex<HashMap<u64, Arc<BaseProducer<Deliveries>>>>,
    last_id: AtomicU64,
}

impl Client {
    fn new(bootstrap: String) -> Result<Self> {
        let admin = ClientConfig::new().set("bootstrap.servers", &bootstrap).create()?;
        let (members, producers, last_id) = Default::default();
        Ok(Self { bootstrap, admin, members, producers, last_id })
    }

    fn perform(&self, call: &str, with: Value) -> Result<Value> {
        match call {
            "name" => {
                let (_, librdkafka) = get_rdkafka_version();
                Ok(format!("rdkafka {} (librdkafka {librdkafka})", version("rdkafka")).into())
            }
            "write" => {
                let (topic, partition, values, settings): (String, i32, Vec<String>, Settings) =
                    from_value(with)?;
                done(write(&self.create(settings)?, &topic, partition, &values))
            }
            "read" => {
                let (topic, partition, offset, count, settings): (String, i32, i64, usize, Settings) =
                    from_value(with)?;
                Ok(read(&self.consumer(settings)?, &topic, partition, offset, count)?.into())
            }
            "member" | "poll" | "assigned" | "commit" | "leave" => self.in_group(call, with),
            "transactional" | "begin" | "send" | "send_offsets" | "commit_transaction"
            | "abort_transaction" | "close" => self.in_transaction(call, with),
            "offset_at" | "groups" | "group_state" | "partitions" | "topics" => self.look(call, with),
            _ => block_on(self.administer(call, with)),
        }
    }

    fn in_group(&self, call: &str, with: Value) -> Result<Value> {
        if call == "member" {
            let (topic, settings): (String, Settings) = from_value(with)?;
            let consumer: BaseConsumer<Membership> = self.create(settings)?;
            consumer.subscribe(&[&topic])?;
            return Ok(self.keep(&self.members, consumer));
        }
        let consumer = find(&self.members, &with[0])?;
        match call {
            "poll" => poll(&consumer),
            "assigned" => Ok(partitions(&consumer.assignment()?)),
            "commit" => done(consumer.commit_consumer_state(CommitMode::Sync)),
            _ => {
                // It leaves its group once it is dropped.
                forget(&self.members, &with[0]);
                Ok(json!(null))
            }
        }
    }

    fn in_transaction(&self, call: &str, with: Value) -> Result<Value> {
        if call == "transactional" {
            let (settings,): (Settings,) = from_value(with)?;
            let producer: BaseProducer<Deliveries> = self.create(settings)?;
            producer.init_transactions(SOON)?;
            return Ok(self.keep(&self.producers, producer));
        }
        let producer = find(&self.producers, &with[0])?;
        match call {
            "begin" => done(producer.begin_transaction()),
            "send" => {
                let (_, topic, partition, values): (u64, String, i32, Vec<String>) = from_value(with)?;
                done(write(&producer, &topic, partition, &values))
            }
            "send_offsets" => {
                let consumer = find(&self.members, &with[1])?;
                let group = consumer.group_metadata().context("no member of a group")?;
                done(producer.send_offsets_to_transaction(&consumer.position()?, &group, SOON))
            }
            "commit_transaction" => done(producer.commit_transaction(SOON)),
            "abort_transaction" => done(producer.abort_transaction(SOON)),
            _ => {
                forget(&self.producers, &with[0]);
                Ok(json!(null))
            }
        }
    }

    /// What a consumer finds out.
    fn look(&self, call: &str, with: Value) -> Result<Value> {
        let consumer = self.consumer(Settings::new())?;
        Ok(match call {
            "offset_at" => {
                let (topic, partition, time_ms): (String, i32, i64) = from_value(with)?;
                let mut asked = TopicPartitionList::new();
                asked.add_partition_offset(&topic, partition, Offset::Offset(time_ms))?;
                let found = consumer.offsets_for_times(asked, SOON)?;
                found.elements()[0].offset().to_raw().into()
            }
            "groups" => {
                let groups = consumer.fetch_group_list(None, SOON)?;
                groups.groups().iter().map(|group| group.name()).collect()
            }
            "group_state" => {
                let (name,): (String,) = from_value(with)?;
                let groups = consumer.fetch_group_list(Some(&name), SOON)?;
                groups.groups().first().context("no such group")?.state().into()
            }
            "partitions" => {
                let (topic,): (String,) = from_value(with)?;
                consumer.fetch_metadata(Some(&topic), SOON)?.topics()[0].partitions().len().into()
            }
            _ => consumer.fetch_metadata(None, SOON)?.topics().iter().map(|topic| topic.name()).collect(),
        })
    }

    async fn administer(&self, call: &str, with: Value) -> Result<Value> {
        let (name, number) = (with[0].as_str().context("a name")?, with[1].as_u64());
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        match call {
            "create_topic" => {
                let count = i32::try_from(number.context("a number")?)?;
                let topic = NewTopic::new(name, count, TopicReplication::Fixed(-1));
                each_done(self.admin.create_topics([&topic], &options).await?)
            }
            "delete_topic" => each_done(self.admin.delete_topics(&[name], &options).await?),
            "extend" => {
                let count = usize::try_from(number.context("a number")?)?;
                each_done(self.admin.create_partitions([&NewPartitions::new(name, count)], &options).await?)
            }
            "configure" => {
                let (topic, key, value): (String, String, String) = from_value(with)?;
                let altered = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set(&key, &value);
                each_done(self.admin.alter_configs([&altered], &options).await?)
            }
            "setting" => {
                let described =
                    self.admin.describe_configs([&ResourceSpecifier::Topic(name)], &options).await?;
                let config =
                    described.into_iter().next().context("no answer")?.map_err(|code| anyhow!("{code}"))?;
                let key = with[1].as_str().context("a key")?;
                Ok(config.get(key).context("no such setting")?.value.clone().into())
            }
            "delete_records" => {
                let (topic, partition, before): (String, i32, i64) = from_value(with)?;
                let mut deleted = TopicPartitionList::new();
                deleted.add_partition_offset(&topic, partition, Offset::Offset(before))?;
                let told = self.admin.delete_records(&deleted, &options).await?;
                done(told.elements()[0].error())
            }
            "delete_group" => each_done(self.admin.delete_groups(&[name], &options).await?),
            _ => bail!("rdkafka cannot {call}"),
        }
    }

    fn create<C, T>(&self, settings: Settings) -> Result<T>
    where
        C: ClientContext + Default,
        T: FromClientConfigAndContext<C>,
    {
        let mut config: ClientConfig = settings.into_iter().collect();
        config.set("bootstrap.servers", &self.bootstrap);
        Ok(config.create_with_context(C::default())?)
    }

    /// A consumer that is in no group.
    fn consumer(&self, mut settings: Settings) -> Result<BaseConsumer<Membership>> {
        settings.insert("group.id".to_owned(), "unused".to_owned());
        settings.insert("enable.auto.commit".to_owned(), "false".to_owned());
        self.create(settings)
    }

    fn keep<T>(&self, all: &Mutex<HashMap<u64, Arc<T>>>, one: T) -> Value {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        all.lock().unwrap().insert(id, Arc::new(one));
        id.into()
    }
}

fn find<T>(all: &Mutex<HashMap<u64, Arc<T>>>, id: &Value) -> Result<Arc<T>> {
    let all = all.lock().unwrap();
    id.as_u64().and_then(|id| all.get(&id).cloned()).with_context(|| format!("nothing has the number {id}"))
}

fn forget<T>(all: &Mutex<HashMap<u64, Arc<T>>>, id: &Value) {
    let forgotten = id.as_u64().and_then(|id| all.lock().unwrap().remove(&id));
    drop(forgotten);
}

/// What a member was assigned and has given up since it was last polled.
#[derive(Default)]
struct Membership(Mutex<Vec<Value>>);

impl ClientContext for Membership {}

impl ConsumerContext for Membership {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => json!(["assigned", partitions(list)]),
            Rebalance::Revoke(list) => json!(["revoked", partitions(list)]),
            Rebalance::Error(error) => json!(["failed", error.to_string()]),
        };
        self.0.lock().unwrap().push(change);
    }
}

/// What could not be written.
#[derive(Default)]
struct Deliveries(Mutex<Vec<KafkaError>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().push(error.clone());
        }
    }
}

fn write(producer: &BaseProducer<Deliveries>, topic: &str, partition: i32, values: &[String]) -> Result<()> {
    for value in values {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(SOON)?;
    let failed = mem::take(&mut *producer.context().0.lock().unwrap());
    ensure!(failed.is_empty(), "not written: {failed:?}");
    Ok(())
}

fn read(
    consumer: &BaseConsumer<Membership>,
    topic: &str,
    partition: i32,
    offset: i64,
    count: usize,
) -> Result<Vec<String>> {
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    consumer.assign(&assigned)?;
    let mut read = Vec::new();
    while read.len() < count {
        if let Some(message) = consumer.poll(A_MOMENT) {
            read.push(text(&message?)?);
        }
    }
    Ok(read)
}

/// What has come within a moment.
fn poll(consumer: &BaseConsumer<Membership>) -> Result<Value> {
    let (mut records, mut wait) = (Vec::new(), A_MOMENT);
    while let Some(polled) = consumer.poll(wait) {
        match polled {
            Ok(message) => records.push(json!([message.partition(), text(&message)?])),
            // It looks for another node by itself.
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => {}
            Err(error) => return Err(error.into()),
        }
        wait = Duration::ZERO;
        if records.len() == BATCH {
            break;
        }
    }
    let changes = mem::take(&mut *consumer.context().0.lock().unwrap());
    Ok(json!({"records": records, "changes": changes}))
}

fn text(message: &impl Message) -> Result<String> {
    Ok(String::from_utf8(message.payload().unwrap_or_default().to_vec())?)
}

fn partitions(list: &TopicPartitionList) -> Value {
    list.elements().iter().map(|each| each.partition()).collect()
}

fn done<E: Into<anyhow::Error>>(result: Result<(), E>) -> Result<Value> {
    result.map_err(Into::into)?;
    Ok(json!(null))
}

fn each_done<T, N: std::fmt::Debug>(results: Vec<Result<T, (N, RDKafkaErrorCode)>>) -> Result<Value> {
    for result in results {
        result.map_err(|(name, code)| anyhow!("{name:?}: {code}"))?;
    }
    Ok(json!(null))
}
