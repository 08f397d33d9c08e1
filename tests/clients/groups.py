"""A group of consumers reads what a producer writes all the time, while nodes die.

Usage: groups.py confluent|kafka-python BOOTSTRAP TOPIC
Says "ready" once three consumers share the partitions. Once its input ends, it stops writing, lets the group read the rest
and prints what happened, as JSON: events written and not read by anybody ("lost"), read more than once ("again"),
assignments since it was ready ("assignments"), and the longest time without an event, in ms ("gap").
"""

import json
import sys
import threading
import time

from confluent_kafka import Producer

MEMBERS = 3
PARTITIONS = 6
SOON = 30


class Group:
    """What all members have read, and been assigned."""

    def __init__(self):
        self.lock = threading.Lock()
        self.read = []
        self.assigned = {}
        self.assignments = 0
        self.last = time.time()
        self.gap = 0.0
        self.stop = False

    def take(self, value):
        with self.lock:
            now = time.time()
            self.gap, self.last = max(self.gap, now - self.last), now
            self.read.append(int(value))

    def assign(self, member, partitions):
        with self.lock:
            self.assignments += 1
            self.assigned[member] = set(partitions)

    def is_shared(self):
        with self.lock:
            shares = list(self.assigned.values())
            return len(shares) == MEMBERS and all(shares) and len(set().union(*shares)) == PARTITIONS


def confluent_member(group, member, bootstrap, topic):
    from confluent_kafka import Consumer

    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": topic,
        "auto.offset.reset": "earliest",
        "heartbeat.interval.ms": 500,
        "session.timeout.ms": 6000,
    })
    taken = lambda _, partitions: group.assign(member, [each.partition for each in partitions])
    consumer.subscribe([topic], on_assign=taken)
    while not group.stop:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            group.take(message.value())
    consumer.close()


def kafka_python_member(group, member, bootstrap, topic):
    from kafka import ConsumerRebalanceListener, KafkaConsumer

    class Listener(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            group.assign(member, [each.partition for each in assigned])

        def on_partitions_revoked(self, revoked):
            pass

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        group_id=topic,
        auto_offset_reset="earliest",
        heartbeat_interval_ms=500,
        session_timeout_ms=6000,
    )
    consumer.subscribe([topic], listener=Listener())
    while not group.stop:
        for messages in consumer.poll(timeout_ms=100).values():
            for message in messages:
                group.take(message.value)
    consumer.close()


def write(producer, topic, stop):
    number = 0
    while not stop.is_set():
        producer.produce(topic, b"%d" % number, partition=number % PARTITIONS)
        producer.poll(0)
        number += 1
        time.sleep(0.01)
    if producer.flush(SOON):
        sys.exit("not everything was acknowledged")
    return number


def until(met):
    end = time.time() + SOON
    while not met() and time.time() < end:
        time.sleep(0.02)
    return met()


def main(library, bootstrap, topic):
    member = {"confluent": confluent_member, "kafka-python": kafka_python_member}[library]
    group, stop, written = Group(), threading.Event(), []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    writer = threading.Thread(target=lambda: written.append(write(producer, topic, stop)))
    members = [threading.Thread(target=member, args=(group, n, bootstrap, topic)) for n in range(MEMBERS)]
    for thread in [writer, *members]:
        thread.start()
    if not until(group.is_shared):
        sys.exit(f"the group does not share the partitions: {group.assigned}")
    group.assignments, group.gap, group.last = 0, 0.0, time.time()
    print("ready", flush=True)
    sys.stdin.read()
    gap = group.gap
    stop.set()
    writer.join()
    until(lambda: len(set(group.read)) == written[0])
    group.stop = True
    for thread in members:
        thread.join()
    lost = written[0] - len(set(group.read))
    again = len(group.read) - len(set(group.read))
    told = {"written": written[0], "lost": lost, "again": again, "assignments": group.assignments, "gap": int(gap * 1000)}
    print(json.dumps(told))


main(*sys.argv[1:])
