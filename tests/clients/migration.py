"""A group of consumers goes over from the classic protocol to the consumer protocol and back, member by member, and reads
what a producer writes all the time.

Usage: migration.py ASSIGNOR BOOTSTRAP TOPIC
For each member in turn: one of the other protocol comes, and once all partitions are shared, an old one goes. Prints what
happened, as JSON: the group's type after each of them ("types"), events written and not read by anybody ("lost"), read more
than once ("again"), partitions that a member got while another one had them ("twice"), what members took for errors
("errors"), and how long it took until the partitions were shared, each time, in seconds ("steps").
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

MEMBERS = 3
PARTITIONS = 6
SOON = 60


class Watch:
    """What all members have read, and who has what."""

    def __init__(self):
        self.lock = threading.Lock()
        self.read = []
        self.owners = {}
        self.twice = []

    def take(self, value):
        with self.lock:
            self.read.append(int(value))

    def assign(self, member, partitions):
        with self.lock:
            self.twice += [[each, self.owners[each], member] for each in partitions if each in self.owners]
            self.owners.update({each: member for each in partitions})

    def revoke(self, member, partitions):
        with self.lock:
            for each in partitions:
                if self.owners.get(each) == member:
                    del self.owners[each]

    def is_shared(self, members):
        """Whether all partitions have an owner, and each member its part."""
        with self.lock:
            shares = [list(self.owners.values()).count(member.name) for member in members]
            return sum(shares) == PARTITIONS and max(shares) - min(shares) <= 1


class Member(threading.Thread):
    def __init__(self, watch, name, bootstrap, topic, protocol):
        super().__init__(daemon=True, name=name)
        self.watch, self.topic, self.stop, self.errors = watch, topic, threading.Event(), []
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "client.id": name,
            "auto.offset.reset": "earliest",
            **protocol,
        })

    def run(self):
        numbers = lambda partitions: [each.partition for each in partitions]
        taken = lambda _, partitions: self.watch.assign(self.name, numbers(partitions))
        given_up = lambda _, partitions: self.watch.revoke(self.name, numbers(partitions))
        self.consumer.subscribe([self.topic], on_assign=taken, on_revoke=given_up, on_lost=given_up)
        while not self.stop.is_set():
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.errors.append(str(message.error()))
            else:
                self.watch.take(message.value())
        self.consumer.close()

    def end(self):
        self.stop.set()
        self.join()


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


def until(met, what):
    end = time.time() + SOON
    while not met():
        if time.time() > end:
            sys.exit(f"in {SOON} s never: {what()}")
        time.sleep(0.02)


def main(assignor, bootstrap, topic):
    classic = {"partition.assignment.strategy": assignor, "heartbeat.interval.ms": 500, "session.timeout.ms": 6000}
    consumer = {"group.protocol": "consumer"}
    watch, stop, written = Watch(), threading.Event(), []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    writer = threading.Thread(target=lambda: written.append(write(producer, topic, stop)), daemon=True)
    writer.start()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    members, ended, types, steps = [], [], [], []

    def begin(protocol, kind, number):
        member = Member(watch, f"{kind}-{number}", bootstrap, topic, protocol)
        members.append(member)
        member.start()

    def settle():
        began = time.time()
        until(lambda: watch.is_shared(members), lambda: f"shared, {watch.owners}, {[m.errors for m in members]}")
        steps.append(round(time.time() - began, 1))

    for number in range(MEMBERS):
        begin(classic, "classic", number)
    settle()
    for protocol, kind in [(consumer, "consumer"), (classic, "again")]:
        for number in range(MEMBERS):
            begin(protocol, kind, number)
            settle()
            ended.append(members.pop(0))
            ended[-1].end()
            settle()
            groups = admin.list_consumer_groups().result().valid
            types.append({each.group_id: each for each in groups}[topic].type.name)
    stop.set()
    writer.join()
    until(lambda: len(set(watch.read)) == written[0], lambda: "everything read")
    for member in members:
        member.end()
    again = len(watch.read) - len(set(watch.read))
    errors = [error for member in members + ended for error in member.errors]
    told = {"written": written[0], "lost": written[0] - len(set(watch.read)), "again": again, "twice": watch.twice}
    print(json.dumps({**told, "types": types, "errors": errors, "steps": steps}))


main(*sys.argv[1:])
