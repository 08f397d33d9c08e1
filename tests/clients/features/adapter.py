"""Tries a client in another language (remote.py) as contract.py says. Settings have the names that Kafka gives them, which
Java and librdkafka share."""

import contract
from remote import Remote


def encoded(values):
    return [value.encode() for value in values]


def decoded(values):
    return [value.decode() for value in values]


class Client:
    def __init__(self, program, bootstrap, lacks):
        self.call = Remote(program, bootstrap).call
        self.name = self.call("name")
        self.lacks = lacks

    def write(self, topic, values, codec="none", idempotent=False):
        settings = {"compression.type": codec, "enable.idempotence": str(idempotent).lower()}
        self.call("write", topic, 0, decoded(values), settings)

    def read(self, topic, count, offset=0, committed=False):
        isolation = "read_committed" if committed else "read_uncommitted"
        return encoded(self.call("read", topic, 0, offset, count, {"isolation.level": isolation}))

    def member(self, group, topic, protocol):
        grouped = {"group.id": group, "group.protocol": protocol, "enable.auto.commit": "false"}
        # For groups of the consumer protocol, the node says when.
        timing = {"heartbeat.interval.ms": "300", "session.timeout.ms": "6000"} if protocol == "classic" else {}
        return Member(self.call, topic, grouped | timing)

    def transactional(self, name):
        return Transactional(self.call, name)

    def create_topic(self, topic, partitions):
        self.call("create_topic", topic, partitions)

    def partitions(self, topic):
        return self.call("partitions", topic)

    def topics(self):
        return self.call("topics")

    def delete_topic(self, topic):
        self.call("delete_topic", topic)

    def extend(self, topic, partitions):
        self.call("extend", topic, partitions)

    def configure(self, topic, key, value):
        self.call("configure", topic, key, value)

    def setting(self, topic, key):
        return self.call("setting", topic, key)

    def offset_at(self, topic, time_ms):
        return self.call("offset_at", topic, 0, time_ms)

    def delete_records(self, topic, before):
        self.call("delete_records", topic, 0, before)

    def groups(self):
        return self.call("groups")

    def group_state(self, group):
        return self.call("group_state", group)

    def delete_group(self, group):
        self.call("delete_group", group)


class Member:
    def __init__(self, call, topic, settings):
        self.call = call
        self.id = call("member", topic, {"auto.offset.reset": "earliest"} | settings)

    def poll(self):
        return encoded(value for _, value in self.call("poll", self.id)["records"])

    def partitions(self):
        return self.call("assigned", self.id)

    def commit(self):
        self.call("commit", self.id)

    def close(self):
        self.call("leave", self.id)


class Transactional:
    def __init__(self, call, name):
        self.call = call
        self.id = call("transactional", {"transactional.id": name})

    def begin(self):
        self.call("begin", self.id)

    def write(self, topic, values):
        self.call("send", self.id, topic, 0, decoded(values))

    def write_offsets(self, member):
        self.call("send_offsets", self.id, member.id)

    def commit(self):
        self.call("commit_transaction", self.id)

    def abort(self):
        self.call("abort_transaction", self.id)

    def close(self):
        self.call("close", self.id)


def run(program, bootstrap, name, lacks=()):
    contract.run(Client(program, bootstrap, lacks), name)
