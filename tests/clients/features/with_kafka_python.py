"""kafka-python. contract.py says what is tried."""

import sys

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewTopic
from kafka.structs import OffsetAndMetadata

import contract


class Client:
    name = f"kafka-python {kafka.__version__}"
    lacks = ["read in a group of the consumer protocol"]

    def __init__(self, bootstrap):
        self.servers = {"bootstrap_servers": bootstrap.split(",")}
        self.admin = KafkaAdminClient(**self.servers)

    def write(self, topic, values, codec="none", idempotent=False):
        codec = None if codec == "none" else codec
        producer = KafkaProducer(compression_type=codec, enable_idempotence=idempotent, **self.servers)
        write(producer, topic, values)
        producer.close()

    def read(self, topic, count, offset=0, committed=False):
        isolation = "read_committed" if committed else "read_uncommitted"
        consumer, partition = KafkaConsumer(isolation_level=isolation, **self.servers), TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, offset)
        read = [next(consumer).value for _ in range(count)]
        consumer.close()
        return read

    def member(self, group, topic, protocol):
        grouped = {"group_id": group, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        timing = {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000}
        return Member(KafkaConsumer(topic, **grouped, **timing, **self.servers))

    def transactional(self, name):
        return Transactional(KafkaProducer(transactional_id=name, **self.servers))

    def create_topic(self, topic, partitions):
        self.admin.create_topics([NewTopic(topic, partitions)])

    def partitions(self, topic):
        (told,) = self.admin.describe_topics([topic])
        return len(told["partitions"])

    def topics(self):
        return self.admin.list_topics()

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def extend(self, topic, partitions):
        self.admin.create_partitions({topic: partitions})

    def configure(self, topic, key, value):
        self.admin.alter_configs([ConfigResource("TOPIC", topic, {key: value})])

    def setting(self, topic, key):
        described = self.admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
        return described["topic"][topic][key]["value"]

    def offset_at(self, topic, time_ms):
        consumer, partition = KafkaConsumer(**self.servers), TopicPartition(topic, 0)
        found = consumer.offsets_for_times({partition: time_ms})[partition]
        consumer.close()
        return found and found.offset

    def delete_records(self, topic, before):
        self.admin.delete_records({TopicPartition(topic, 0): before})

    def groups(self):
        return [group["group_id"] for group in self.admin.list_groups()]

    def group_state(self, group):
        return self.admin.describe_groups([group])[group]["group_state"]

    def delete_group(self, group):
        self.admin.delete_groups([group])


class Member:
    def __init__(self, consumer):
        self.consumer = consumer
        self.close = consumer.close
        self.commit = consumer.commit

    def poll(self):
        # It joins while it polls: two members polled in turn for 100 ms each do not always come to share in time.
        return [each.value for batch in self.consumer.poll(timeout_ms=500).values() for each in batch]

    def partitions(self):
        return [each.partition for each in self.consumer.assignment()]


class Transactional:
    def __init__(self, producer):
        self.producer = producer
        producer.init_transactions()
        self.begin = producer.begin_transaction
        self.commit = producer.commit_transaction
        self.abort = producer.abort_transaction
        self.close = producer.close

    def write(self, topic, values):
        write(self.producer, topic, values)

    def write_offsets(self, member):
        consumer = member.consumer
        positions = {each: OffsetAndMetadata(consumer.position(each), "", -1) for each in consumer.assignment()}
        self.producer.send_offsets_to_transaction(positions, consumer.group_metadata())


def write(producer, topic, values):
    for sent in [producer.send(topic, value, partition=0) for value in values]:
        sent.get(contract.LIMIT)


contract.run(Client(sys.argv[1]), sys.argv[2])
