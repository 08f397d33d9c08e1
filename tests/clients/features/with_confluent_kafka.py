"""confluent-kafka, which is librdkafka. contract.py says what is tried."""

import sys

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

import contract


class Client:
    name = f"confluent-kafka {confluent_kafka.__version__}"
    lacks = []

    def __init__(self, bootstrap):
        self.servers = {"bootstrap.servers": bootstrap}
        self.admin = AdminClient(self.servers)

    def write(self, topic, values, codec="none", idempotent=False):
        write(Producer(self.servers | {"compression.type": codec, "enable.idempotence": idempotent}), topic, values)

    def read(self, topic, count, offset=0, committed=False):
        isolation = "read_committed" if committed else "read_uncommitted"
        consumer = self.consumer("unused", {"isolation.level": isolation})
        consumer.assign([TopicPartition(topic, 0, offset)])
        read = consumer.consume(count, contract.LIMIT)
        consumer.close()
        return [value(message) for message in read]

    def consumer(self, group, settings={}):
        grouped = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        return Consumer(self.servers | grouped | settings)

    def member(self, group, topic, protocol):
        # For groups of the consumer protocol, the node says when.
        timing = {"heartbeat.interval.ms": 300, "session.timeout.ms": 6000} if protocol == "classic" else {}
        return Member(self.consumer(group, {"group.protocol": protocol, **timing}), topic)

    def transactional(self, name):
        return Transactional(self.servers, name)

    def create_topic(self, topic, partitions):
        self.admin.create_topics([NewTopic(topic, partitions)])[topic].result()

    def partitions(self, topic):
        return len(self.admin.list_topics(topic).topics[topic].partitions)

    def topics(self):
        return self.admin.list_topics().topics

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result()

    def extend(self, topic, partitions):
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result()

    def configure(self, topic, key, value):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        altered = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([altered])[altered].result()

    def setting(self, topic, key):
        described = ConfigResource(ResourceType.TOPIC, topic)
        return self.admin.describe_configs([described])[described].result()[key].value

    def offset_at(self, topic, time_ms):
        partition = TopicPartition(topic, 0)
        return self.admin.list_offsets({partition: OffsetSpec.for_timestamp(time_ms)})[partition].result().offset

    def delete_records(self, topic, before):
        partition = TopicPartition(topic, 0, before)
        self.admin.delete_records([partition])[partition].result()

    def groups(self):
        return [group.group_id for group in self.admin.list_consumer_groups().result().valid]

    def group_state(self, group):
        return self.admin.describe_consumer_groups([group])[group].result().state.name

    def delete_group(self, group):
        self.admin.delete_consumer_groups([group])[group].result()


class Member:
    def __init__(self, consumer, topic):
        self.consumer = consumer
        consumer.subscribe([topic])

    def poll(self):
        return [value(message) for message in self.consumer.consume(100, 0.1)]

    def partitions(self):
        return [each.partition for each in self.consumer.assignment()]

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def close(self):
        self.consumer.close()


class Transactional:
    def __init__(self, servers, name):
        self.producer = Producer(servers | {"transactional.id": name})
        self.producer.init_transactions()
        self.begin = self.producer.begin_transaction
        self.commit = self.producer.commit_transaction
        self.abort = self.producer.abort_transaction

    def write(self, topic, values):
        write(self.producer, topic, values)

    def write_offsets(self, member):
        consumer = member.consumer
        positions = consumer.position(consumer.assignment())
        self.producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())

    def close(self):
        self.producer.flush()


def write(producer, topic, values):
    failed = []
    for each in values:
        producer.produce(topic, each, partition=0, on_delivery=lambda error, _: error and failed.append(error))
    if producer.flush(contract.LIMIT) or failed:
        raise contract.Wrong(f"not written: {failed}")


def value(message):
    if message.error():
        raise KafkaException(message.error())
    return message.value()


contract.run(Client(sys.argv[1]), sys.argv[2])
