"""There are no consumer groups: whoever wants one is told so soon, and whoever assigns partitions reads on.

Usage: groups.py confluent|kafka-python BOOTSTRAP TOPIC
Writes an event, reads it by assignment with a group's name set, then subscribes. Exits with 1 when reading by assignment
meets an error, when closing takes long, or when subscribing is not refused within 15 seconds.
"""

import sys
import time

SOON = 15


def with_confluent(bootstrap, topic):
    from confluent_kafka import Consumer, Producer, TopicPartition

    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, b"event", partition=0)
    if producer.flush(20):
        sys.exit("not written")
    config = {"bootstrap.servers": bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}

    assigned = Consumer(config)
    assigned.assign([TopicPartition(topic, 0, 0)])
    message = assigned.poll(SOON)
    if message is None or message.error():
        sys.exit(f"by assignment: {message and message.error()}")
    later = assigned.poll(3)
    if later is not None:
        sys.exit(f"by assignment, after the event: {later.error() or later.value()}")
    began = time.time()
    assigned.close()
    closing = time.time() - began
    if closing > SOON:
        sys.exit(f"closing took {closing:.1f} s")

    subscribed = Consumer(config)
    subscribed.subscribe([topic])
    message = subscribed.poll(SOON)
    if message is None or not message.error():
        sys.exit("subscribing was not refused")
    print(f"closed within {closing:.1f} s; {message.error()}")


def with_kafka_python(bootstrap, topic):
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.errors import KafkaError

    servers = bootstrap.split(",")
    producer = KafkaProducer(bootstrap_servers=servers)
    producer.send(topic, b"event", partition=0).get(20)
    producer.close()
    subscribed = KafkaConsumer(topic, bootstrap_servers=servers, group_id="g", consumer_timeout_ms=SOON * 1000)
    began = time.time()
    try:
        read = list(subscribed)
        sys.exit(f"subscribing was not refused within {time.time() - began:.1f} s: {read}")
    except KafkaError as error:
        print(f"{time.time() - began:.1f} s: {error!r}")


library, bootstrap, topic = sys.argv[1:]
{"confluent": with_confluent, "kafka-python": with_kafka_python}[library](bootstrap, topic)
