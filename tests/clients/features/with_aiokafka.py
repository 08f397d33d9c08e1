"""aiokafka. contract.py says what is tried."""

import asyncio
import sys
import threading

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import contract

LOOP = asyncio.new_event_loop()


def wait(coroutine):
    """Runs it in the loop's thread, where everything of this client lives."""
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result()


async def started(kind, *arguments, **settings):
    client = kind(*arguments, **settings)
    await client.start()
    return client


class Client:
    name = f"aiokafka {aiokafka.__version__}"
    lacks = ["read in a group of the consumer protocol", "delete groups"]

    def __init__(self, bootstrap):
        self.servers = {"bootstrap_servers": bootstrap.split(",")}
        self.admin = wait(started(AIOKafkaAdminClient, **self.servers))

    def write(self, topic, values, codec="none", idempotent=False):
        settings = {"compression_type": None if codec == "none" else codec, "enable_idempotence": idempotent}
        producer = wait(started(AIOKafkaProducer, **settings, **self.servers))
        wait(write(producer, topic, values))
        wait(producer.stop())

    def read(self, topic, count, offset=0, committed=False):
        isolation = "read_committed" if committed else "read_uncommitted"
        return wait(read(TopicPartition(topic, 0), count, offset, isolation_level=isolation, **self.servers))

    def member(self, group, topic, protocol):
        grouped = {"group_id": group, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        timing = {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000}
        return Member(wait(started(AIOKafkaConsumer, topic, **grouped, **timing, **self.servers)), group)

    def transactional(self, name):
        return Transactional(wait(started(AIOKafkaProducer, transactional_id=name, **self.servers)))

    def create_topic(self, topic, partitions):
        wait(self.admin.create_topics([NewTopic(topic, partitions, 1)]))

    def partitions(self, topic):
        (told,) = wait(self.admin.describe_topics([topic]))
        return len(told["partitions"])

    def topics(self):
        return wait(self.admin.list_topics())

    def delete_topic(self, topic):
        wait(self.admin.delete_topics([topic]))

    def extend(self, topic, partitions):
        wait(self.admin.create_partitions({topic: NewPartitions(partitions)}))

    def configure(self, topic, key, value):
        wait(self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})]))

    def setting(self, topic, key):
        (answer,) = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        (*_, settings) = answer.resources[0]
        return next(value for name, value, *_ in settings if name == key)

    def offset_at(self, topic, time_ms):
        return wait(offset_at(TopicPartition(topic, 0), time_ms, **self.servers))

    def delete_records(self, topic, before):
        wait(self.admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)}))

    def groups(self):
        return [group for group, _ in wait(self.admin.list_consumer_groups())]

    def group_state(self, group):
        (answer,) = wait(self.admin.describe_consumer_groups([group]))
        _, _, state, *_ = answer.groups[0]
        return state


class Member:
    def __init__(self, consumer, group):
        self.consumer = consumer
        self.group = group

    def poll(self):
        batches = wait(self.consumer.getmany(timeout_ms=100))
        return [each.value for batch in batches.values() for each in batch]

    def partitions(self):
        return [each.partition for each in self.consumer.assignment()]

    async def positions(self):
        return {each: await self.consumer.position(each) for each in self.consumer.assignment()}

    def commit(self):
        wait(self.consumer.commit())

    def close(self):
        wait(self.consumer.stop())


class Transactional:
    def __init__(self, producer):
        self.producer = producer

    def begin(self):
        wait(self.producer.begin_transaction())

    def write(self, topic, values):
        wait(write(self.producer, topic, values))

    def write_offsets(self, member):
        wait(self.producer.send_offsets_to_transaction(wait(member.positions()), member.group))

    def commit(self):
        wait(self.producer.commit_transaction())

    def abort(self):
        wait(self.producer.abort_transaction())

    def close(self):
        wait(self.producer.stop())


async def write(producer, topic, values):
    for sent in [await producer.send(topic, value, partition=0) for value in values]:
        await sent


async def read(partition, count, offset, **settings):
    consumer = await started(AIOKafkaConsumer, **settings)
    consumer.assign([partition])
    consumer.seek(partition, offset)
    read = [(await consumer.getone()).value for _ in range(count)]
    await consumer.stop()
    return read


async def offset_at(partition, time_ms, **settings):
    consumer = await started(AIOKafkaConsumer, **settings)
    found = (await consumer.offsets_for_times({partition: time_ms}))[partition]
    await consumer.stop()
    return found and found.offset


threading.Thread(target=LOOP.run_forever, daemon=True).start()
contract.run(Client(sys.argv[1]), sys.argv[2])
