"""A group of consumers reads what a producer writes all the time, while nodes die.

Usage: groups.py KIND BOOTSTRAP TOPIC
The kinds of members are those of main().
Says "ready" once three consumers share the partitions. Once its input ends, it stops writing, lets the group read the rest
and prints what happened, as JSON: what an administrator is told of the group when it is ready ("described"), events written
and not read by anybody ("lost"), read more than once ("again"), assignments since it was ready ("assignments"), what
members heard of errors ("errors"), and the longest time without an event, in ms ("gap").
"""

import json
import sys
import threading
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from remote import Remote, RemoteError

MEMBERS = 3
PARTITIONS = 6
SOON = 30


class Group:
    """What all members have read, and been assigned."""

    def __init__(self):
        self.lock = threading.Lock()
        self.read = []
        self.assigned = {}
        self.assignments = []
        self.last = time.time()
        self.gap = 0.0
        self.errors = []
        self.stop = False

    def take(self, value):
        with self.lock:
            now = time.time()
            self.gap, self.last = max(self.gap, now - self.last), now
            self.read.append(int(value))

    def assign(self, member, partitions):
        with self.lock:
            self.assignments.append((member, sorted(partitions)))
            self.assigned[member] = self.assigned.get(member, set()) | set(partitions)

    def revoke(self, member, partitions):
        with self.lock:
            self.assigned[member] = self.assigned.get(member, set()) - set(partitions)

    def is_shared(self):
        """Whether each has its part. Before that some have more, which the others get when they have given it up."""
        with self.lock:
            shares = list(self.assigned.values())
            equal = all(len(share) == PARTITIONS // MEMBERS for share in shares)
            return len(shares) == MEMBERS and equal and len(set().union(*shares)) == PARTITIONS


CLASSIC = {"heartbeat.interval.ms": "500", "session.timeout.ms": "6000"}


def confluent_member(group, member, bootstrap, topic, protocol=CLASSIC, subscription=None):
    from confluent_kafka import Consumer

    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": topic,
        "auto.offset.reset": "earliest",
        **protocol,
    })
    taken = lambda _, partitions: group.assign(member, [each.partition for each in partitions])
    given_up = lambda _, partitions: group.revoke(member, [each.partition for each in partitions])
    consumer.subscribe([subscription or topic], on_assign=taken, on_revoke=given_up)
    while not group.stop:
        message = consumer.poll(0.1)
        if message is not None and message.error():
            group.errors.append(str(message.error()))
        elif message is not None:
            group.take(message.value())
    consumer.close()


def consumer_protocol_member(group, member, bootstrap, topic, subscription=None):
    """Of a group of the consumer protocol (KIP-848), to which the cluster assigns."""
    confluent_member(group, member, bootstrap, topic, {"group.protocol": "consumer"}, subscription)


def pattern_member(group, member, bootstrap, topic):
    """The same, that subscribes to whatever begins like the topic."""
    consumer_protocol_member(group, member, bootstrap, topic, f"^{topic[:-1]}.*")


def kafka_python_member(group, member, bootstrap, topic):
    from kafka import ConsumerRebalanceListener, KafkaConsumer

    class Listener(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            group.assign(member, [each.partition for each in assigned])

        def on_partitions_revoked(self, revoked):
            group.revoke(member, [each.partition for each in revoked])

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


def remote_member(program, protocol):
    """Of a client in another language. All members are in one process, as those in Python are."""
    started = []

    def run(group, member, bootstrap, topic):
        with group.lock:
            if not started:
                started.append(Remote(program, bootstrap))
        call = started[0].call
        id = call("member", topic, {"group.id": topic, "auto.offset.reset": "earliest", **protocol})
        while not group.stop:
            try:
                polled = call("poll", id)
            except RemoteError as error:
                group.errors.append(str(error))
                continue
            for change, partitions in polled["changes"]:
                {"assigned": group.assign, "revoked": group.revoke}[change](member, partitions)
            for _, value in polled["records"]:
                group.take(value)
        call("leave", id)

    return run


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


def described(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    listed = {each.group_id: each for each in admin.list_consumer_groups().result().valid}[topic]
    group = admin.describe_consumer_groups([topic])[topic].result()
    return {
        "listed": [listed.type.name, listed.state.name],
        "type": group.type.name,
        "assignor": group.partition_assignor,
        "partitions": sorted(len(member.assignment.topic_partitions) for member in group.members),
    }


def main(library, bootstrap, topic):
    member = {
        "confluent": confluent_member,
        "confluent-consumer": consumer_protocol_member,
        "confluent-pattern": pattern_member,
        "kafka-python": kafka_python_member,
        "java": remote_member("java", CLASSIC),
        "java-consumer": remote_member("java", {"group.protocol": "consumer"}),
        "rdkafka": remote_member("rdkafka", CLASSIC),
    }[library]
    group, stop, written = Group(), threading.Event(), []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    writer = threading.Thread(target=lambda: written.append(write(producer, topic, stop)), daemon=True)
    member_of = lambda n: threading.Thread(target=member, args=(group, n, bootstrap, topic), daemon=True)
    members = [member_of(n) for n in range(MEMBERS)]
    for thread in members:
        thread.start()
    if library == "confluent-pattern":
        # The group has to find the topic once there is one.
        time.sleep(2)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result()
    writer.start()
    if not until(group.is_shared):
        sys.exit(f"the group does not share the partitions: {group.assigned}")
    about = described(bootstrap, topic)
    group.assignments, group.errors, group.gap, group.last = [], [], 0.0, time.time()
    print("ready", flush=True)
    sys.stdin.read()
    gap = group.gap
    stop.set()
    writer.join()
    until(lambda: len(set(group.read)) == written[0])
    # Those who leave last get what the others had.
    assignments = list(group.assignments)
    group.stop = True
    for thread in members:
        thread.join()
    lost = written[0] - len(set(group.read))
    again = len(group.read) - len(set(group.read))
    told = {"written": written[0], "lost": lost, "again": again, "gap": int(gap * 1000)}
    print(json.dumps({"described": about, **told, "assignments": assignments, "errors": group.errors}))


main(*sys.argv[1:])
