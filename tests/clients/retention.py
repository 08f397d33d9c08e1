"""Sets a topic's retention through a real client library and watches the oldest events go.

Usage: retention.py BOOTSTRAP TOPIC
Exits with 1 and the reason when a setting is not shown as it was made, or old events stay, or newer ones go.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

bootstrap, topic = sys.argv[1:]
COUNT = 200
KEPT = 100_000
admin = AdminClient({"bootstrap.servers": bootstrap})


def setting(name):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return admin.describe_configs([resource])[resource].result(10)[name].value


def alter(**settings):
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(10)


def check(holds, complaint):
    if not holds:
        sys.exit(complaint)


created = admin.create_topics([NewTopic(topic, 1, config={"retention.bytes": "-1"})])
created[topic].result(10)
check(setting("retention.bytes") == "-1", "the setting of the topic's creation is not shown")

producer = Producer({"bootstrap.servers": bootstrap})
for number in range(COUNT):
    producer.produce(topic, f"{number} ".encode() * 1000, partition=0)
    producer.flush(10)

consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
partition = TopicPartition(topic, 0)
check(consumer.get_watermark_offsets(partition, 10) == (0, COUNT), "events went before anything was due")

alter(retention_bytes=str(KEPT))
check(setting("retention.bytes") == str(KEPT), "the setting is not shown as it was made")
deadline = time.time() + 15
while (oldest := consumer.get_watermark_offsets(partition, 10)[0]) == 0:
    check(time.time() < deadline, "old events stay")
    time.sleep(0.2)

consumer.assign([TopicPartition(topic, 0, oldest)])
read = []
while len(read) < COUNT - oldest:
    message = consumer.poll(10)
    check(message is not None and not message.error(), f"read {len(read)} events from {oldest} on")
    read.append(message.value())
check(read == [f"{number} ".encode() * 1000 for number in range(oldest, COUNT)], "other events than were written")
kept = sum(map(len, read))
check(KEPT <= kept <= 2 * KEPT, f"{kept} bytes are kept")

try:
    alter(retention_ms="soon")
    sys.exit("a setting that is no number was accepted")
except KafkaException as error:
    check("retention.ms" in str(error), f"the refusal does not name the setting: {error}")
