"""The features that a Kafka client is tried with, the same for each client. contract.js says the same in JavaScript.

Each script with_CLIENT adapts one client. Usage: with_CLIENT BOOTSTRAP NAME
The cluster has the topics NAME-CODEC for each codec, NAME-idempotent, NAME-offset, NAME-times, NAME-groups,
NAME-consumers, NAME-settings, NAME-transactions and NAME-exactly-once, with two partitions each. Prints, as JSON, the
client with its version ("client"), and what became of each feature that the client has ("features"): pairs of its name
and "ok" or what went wrong. No feature takes longer than LIMIT seconds, whatever the client does.
"""

import json
import os
import threading
import time

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# Limits in seconds: of a feature, and of each thing in it that is waited for.
LIMIT = 25
SOON = 12


class Wrong(Exception):
    """A client has seen something other than what was written."""


def values(kind, count=20):
    return [f"{kind} {number} ".encode() * 20 for number in range(count)]


def now_ms():
    return int(time.time() * 1000)


def equal(read, wanted):
    if sorted(read) != sorted(wanted):
        shown = [value[:20] for value in read[:3]]
        raise Wrong(f"read {len(read)} values instead of {len(wanted)}, the first of them {shown}")


def until(met, what):
    end = time.time() + SOON
    while not met():
        if time.time() > end:
            raise Wrong(f"{what} did not happen")


def told(wanted, tell):
    """Waits until `tell` tells what is wanted. Some clients ask the node that knows least."""
    end = time.time() + SOON
    while not wanted(answer := tell()):
        if time.time() > end:
            raise Wrong(f"it was told {answer}")
        time.sleep(0.05)


def consume(client, topic, codec):
    written = values(codec)
    client.write(topic, written, codec=codec)
    equal(client.read(topic, len(written)), written)


def idempotent(client, topic):
    written = values("idempotent")
    client.write(topic, written, idempotent=True)
    equal(client.read(topic, len(written)), written)


def from_offset(client, topic):
    written = values("offset")
    client.write(topic, written)
    equal(client.read(topic, len(written) - 5, offset=5), written[5:])


def by_time(client, topic):
    client.write(topic, values("before"))
    time.sleep(0.02)
    between = now_ms()
    time.sleep(0.02)
    client.write(topic, values("after"))
    told(lambda offset: offset == len(values("before")), lambda: client.offset_at(topic, between))


def delete_records(client, topic):
    client.write(topic, values("deleted"))
    client.delete_records(topic, 5)
    told(lambda offset: offset == 5, lambda: client.offset_at(topic, 0))


def read_as_member(client, group, topic, wanted, then, protocol="classic"):
    """Reads all that the group has not read yet, which must be what is wanted. Then does something as that member."""
    member, read = client.member(group, topic, protocol), []

    def enough():
        read.extend(member.poll())
        return len(read) >= len(wanted)

    try:
        until(enough, f"reading {len(wanted)} values")
        equal(read, wanted)
        then(member)
    finally:
        member.close()


def group(client, topic, protocol="classic"):
    """Whoever comes next goes on where the one before has committed."""
    for kind in ("before", "after"):
        written = values(kind)
        client.write(topic, written)
        read_as_member(client, topic, topic, written, lambda member: member.commit(), protocol)


def rebalance(client, topic):
    """Two members share the partitions. When one of them leaves, the other one has all."""
    first = client.member(f"{topic}-shared", topic, "classic")
    second = None

    def shares():
        for member in (first, second):
            if member:
                member.poll()
        return [sorted(member.partitions()) for member in (first, second) if member]

    try:
        until(lambda: shares() == [[0, 1]], "assigning all partitions to the only member")
        second = client.member(f"{topic}-shared", topic, "classic")
        until(lambda: sorted(shares()) == [[0], [1]], "sharing the partitions")
        second.close()
        second = None
        until(lambda: shares() == [[0, 1]], "assigning all partitions to the member that is left")
    finally:
        for member in filter(None, (first, second)):
            member.close()


def list_groups(client, group):
    told(lambda names: group in names, client.groups)
    told(lambda state: state.lower() == "empty", lambda: client.group_state(group))


def delete_group(client, group):
    client.delete_group(group)
    told(lambda names: group not in names, client.groups)


def topics_admin(client, topic):
    client.create_topic(topic, 3)
    told(lambda count: count == 3, lambda: client.partitions(topic))
    client.delete_topic(topic)
    told(lambda names: topic not in names, client.topics)


def extend(client, topic):
    client.extend(topic, 5)
    told(lambda count: count == 5, lambda: client.partitions(topic))


def settings(client, topic):
    client.configure(topic, "retention.ms", "100000")
    told(lambda value: value == "100000", lambda: client.setting(topic, "retention.ms"))


def transactions(client, topic):
    """Readers of what is committed see nothing of an aborted transaction; other readers do."""
    producer = client.transactional(topic)
    for kind in ("committed", "aborted", "committed later"):
        producer.begin()
        producer.write(topic, values(kind))
        end = producer.abort if kind == "aborted" else producer.commit
        end()
    producer.close()
    committed = values("committed") + values("committed later")
    equal(client.read(topic, len(committed), committed=True), committed)
    everything = committed + values("aborted")
    equal(client.read(topic, len(everything)), everything)


def exactly_once(client, topic):
    """What a group has read counts as read once the transaction with its offsets is committed, and not before."""
    producer, written = client.transactional(topic), values("first")
    client.write(topic, written)
    for end in (producer.abort, producer.commit):

        def in_transaction(member):
            producer.begin()
            producer.write_offsets(member)
            end()

        read_as_member(client, topic, topic, written, in_transaction)
    producer.close()
    later = values("later")
    client.write(topic, later)
    read_as_member(client, topic, topic, later, lambda member: None)


def features(client, name):
    """What is tried, in this order, by the names that the table of all clients has."""
    for codec in CODECS:
        yield f"write and read, {codec}", lambda: consume(client, f"{name}-{codec}", codec)
    yield "write idempotently", lambda: idempotent(client, f"{name}-idempotent")
    yield "read from an offset", lambda: from_offset(client, f"{name}-offset")
    yield "find an offset by time", lambda: by_time(client, f"{name}-times")
    yield "delete records", lambda: delete_records(client, f"{name}-settings")
    yield "read in a group and go on from its offsets", lambda: group(client, f"{name}-groups")
    yield "rebalance when members come and go", lambda: rebalance(client, f"{name}-groups")
    yield "read in a group of the consumer protocol", lambda: group(client, f"{name}-consumers", "consumer")
    yield "list and describe groups", lambda: list_groups(client, f"{name}-groups")
    yield "delete groups", lambda: delete_group(client, f"{name}-groups")
    yield "create, describe and delete topics", lambda: topics_admin(client, f"{name}-made")
    yield "add partitions", lambda: extend(client, f"{name}-settings")
    yield "alter and describe settings of topics", lambda: settings(client, f"{name}-settings")
    yield "commit and abort transactions", lambda: transactions(client, f"{name}-transactions")
    yield "commit offsets in transactions", lambda: exactly_once(client, f"{name}-exactly-once")


def attempt(feature):
    """Tries a feature in a thread, which is left behind if it takes too long."""
    outcome = []

    def attempted():
        try:
            feature()
            outcome.append("ok")
        except Exception as error:
            outcome.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=attempted, daemon=True)
    thread.start()
    thread.join(LIMIT)
    return outcome[0] if outcome else f"not done within {LIMIT} s"


def run(client, name):
    """Tries all features but those that the client `lacks`, and ends the process."""
    outcomes = [(each, attempt(feature)) for each, feature in features(client, name) if each not in client.lacks]
    print(json.dumps({"client": client.name, "features": outcomes}), flush=True)
    # A thread that was left behind must not keep the process.
    os._exit(0)
