"""A consumer of many partitions of which few get events, with kafka-python's fetch sessions (KIP-227).

Usage: fetch_sessions.py BOOTSTRAP TOPIC PARTITIONS
Creates the topic. Exits with 1 and the reason when an event is missed, or no session is kept.
"""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

SOON = 20


def read(consumer, count):
    """The next events, as partition and value, or as many as come soon."""
    events = []
    end = time.time() + SOON
    while len(events) < count and time.time() < end:
        for messages in consumer.poll(timeout_ms=100).values():
            events += [(message.partition, message.value) for message in messages]
    return sorted(events)


def main():
    bootstrap, topic, partitions = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
    KafkaAdminClient(bootstrap_servers=bootstrap).create_topics([NewTopic(topic, partitions, 1)])
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=100)
    consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
    producer = KafkaProducer(bootstrap_servers=bootstrap)

    for turn in range(5):
        # In between nothing comes.
        consumer.poll(timeout_ms=500)
        sent = sorted((number, b"%d" % turn) for number in (turn, partitions - 1 - turn, 99))
        for number, value in sent:
            producer.send(topic, value, partition=number)
        producer.flush(SOON)
        events = read(consumer, len(sent))
        if events != sent:
            sys.exit(f"{events} came, not {sent}")

    # Each error would have begun another session, with an epoch of 1.
    epochs = [handler.next_metadata.epoch for handler in consumer._fetcher._session_handlers.values()]
    if max(epochs) < 10:
        sys.exit(f"no session was kept: epochs {epochs}")


main()
