"""Asks everything that an administrator's client library asks, and compares the answers with what must hold.

Usage: admin.py confluent|kafka-python BOOTSTRAP TOPIC NODES
Creates the topic with two partitions and writes five events. Exits with 1 and the reason when an answer is an error, or
not what was expected of a cluster of so many nodes.
"""

import sys
import time

SOON = 20
EVENTS = 5
SIZE = 1000


def check(holds, complaint):
    if not holds:
        sys.exit(complaint)


def of_cluster(admin, topic, nodes):
    """Who is there, who leads, and what each has. Gives the leader."""
    cluster = admin.describe_cluster()
    ids = sorted(node["broker_id"] for node in cluster["brokers"])
    leader = cluster["controller_id"]
    check(len(ids) == nodes and leader in ids, f"the cluster is {cluster}")
    check(len(cluster["authorized_operations"]) == 7, f"who may do what: {cluster}")

    quorum = admin.describe_metadata_quorum()
    log = quorum["topics"][0]["partitions"][0]
    check(log["error"] is None and log["leader_id"] == leader, f"the quorum is {quorum}")
    check(sorted(voter["replica_id"] for voter in log["current_voters"]) == ids, f"the voters are {log}")
    check(log["high_watermark"] > 0 and len(quorum["nodes"]) == nodes, f"the log is {quorum}")

    # A follower hears with the next heartbeat that the last event is committed.
    deadline = time.time() + SOON
    while not all(map(has_all, told := admin.describe_log_dirs([topic]))):
        check(time.time() < deadline, f"the disks hold {told}")
    check(sorted(node["broker"] for node in told) == ids, f"not every node tells its disk: {told}")
    return leader


def has_all(node):
    (directory,) = node["log_dirs"]
    check(0 < directory["usable_bytes"] <= directory["total_bytes"], f"the disk is {directory}")
    sizes = [part["partition_size"] for held in directory["topics"] for part in held["partitions"]]
    return sizes[1:] == [0] and EVENTS * SIZE < sizes[0] < 2 * EVENTS * SIZE


def of_configs(admin, topic, leader):
    from kafka.admin import ConfigResource

    resources = admin.list_config_resources()
    check(topic in resources["topic"] and str(leader) in resources["broker"], f"configured are {resources}")

    def settings():
        resource = ConfigResource("TOPIC", topic)
        return admin.describe_configs([resource], include_synonyms=True, config_filter="all")["topic"][topic]

    def alter(incremental, **changes):
        changes = {name.replace("_", "."): value for name, value in changes.items()}
        resource = ConfigResource("TOPIC", topic, changes)
        done = admin.alter_configs([resource], incremental=incremental, raise_on_unknown=False)
        return done["topic"][topic]

    before = settings()
    check(len(before) > 25 and before["cleanup.policy"]["config_type"] == "LIST", f"settings are {before}")
    check(alter(True, retention_ms="100000", cleanup_policy=("APPEND", "delete")) == "OK", "nothing was altered")
    check(alter(False, max_message_bytes="2000") == "OK", "nothing was altered the old way")
    after = settings()
    values = [after[key]["value"] for key in ("retention.ms", "max.message.bytes")]
    check(values == ["100000", "2000"], f"the settings are {values}")
    synonyms = [synonym["source"] for synonym in after["retention.ms"]["synonyms"]]
    check(synonyms == ["DYNAMIC_TOPIC_CONFIG", "DEFAULT_CONFIG"], f"they come from {synonyms}")
    check("compact" in alter(True, cleanup_policy=("APPEND", "compact")), "compaction was not refused by name")

    node = ConfigResource("BROKER", str(leader))
    of_node = admin.describe_configs([node], config_filter="all")["broker"][str(leader)]
    check(of_node["node.id"]["value"] == str(leader) and of_node["advertised.listeners"]["read_only"], f"{of_node}")
    node = ConfigResource("BROKER", str(leader), {"num.partitions": "5"})
    refused = admin.alter_configs([node], raise_on_unknown=False)
    check("cluster.yaml" in refused["broker"][str(leader)], f"a node's configuration: {refused}")


def of_partitions(admin, topic, leader):
    from kafka import TopicPartition

    first = admin.describe_topic_partitions([topic], response_partition_limit=1)
    rest = admin.describe_topic_partitions([topic], cursor=first["next_cursor"])
    numbers = [part["partition_index"] for told in (first, rest) for part in told["topics"][0]["partitions"]]
    check(numbers == [0, 1] and rest["next_cursor"] is None, f"the partitions are {first} and {rest}")
    check(first["topics"][0]["partitions"][0]["leader_id"] == leader, f"not led by {leader}: {first}")

    partition = TopicPartition(topic, 0)
    (producer,) = admin.describe_producers([partition])[partition].active_producers
    check((producer.producer_epoch, producer.last_sequence) == (0, EVENTS - 1), f"the producer is {producer}")
    admin.elect_leaders(0, {topic: [0, 1]})
    check(admin.list_partition_reassignments() == {}, "partitions move")


def of_transactions(admin, servers, topic):
    """One under way, seen from all sides; then another instance of its producer ends it."""
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import KafkaError

    def instance():
        producer = KafkaProducer(bootstrap_servers=servers, transactional_id=topic, transaction_timeout_ms=60000)
        producer.init_transactions()
        producer.begin_transaction()
        return producer

    def write(producer, value):
        return producer.send(topic, value, partition=1).get(SOON).offset

    partition, first = TopicPartition(topic, 1), instance()
    offset = write(first, b"aborted")
    listed = [each for node in admin.list_transactions(state_filters=["Ongoing"]).values() for each in node]
    check([(each.transactional_id, each.state) for each in listed] == [(topic, "Ongoing")], f"listed are {listed}")
    check(not any(admin.list_transactions(duration_filter_ms=60000).values()), "it has just begun")
    told = admin.describe_transactions([topic])[topic]
    check(told.topic_partitions == {partition} and told.transaction_timeout_ms == 60000, f"described as {told}")
    (producer,) = admin.describe_producers([partition])[partition].active_producers
    check(producer.current_transaction_start_offset == offset, f"the producer is {producer}")

    second = instance()
    committed = write(second, b"committed")
    check(committed == offset + 2, f"the marker has the offset between {offset} and {committed}")
    second.commit_transaction()
    check(admin.describe_transactions([topic])[topic].state == "CompleteCommit", "it is not committed")
    try:
        first.commit_transaction()
        sys.exit("the instance before is not fenced")
    except KafkaError:
        pass
    consumer = KafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
    consumer.assign([partition])
    consumer.seek(partition, offset)
    check(consumer.end_offsets([partition])[partition] == committed + 2, "the end is not behind the last marker")
    read = [each.value for each in consumer.poll(SOON * 1000)[partition]]
    check(read == [b"committed"], f"committed readers read {read}")
    consumer.close()


def with_kafka_python(bootstrap, topic, nodes):
    from kafka import KafkaAdminClient, KafkaProducer
    from kafka.admin import NewTopic

    servers = bootstrap.split(",")
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic, 2)])
    producer = KafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
    for _ in range(EVENTS):
        producer.send(topic, b"x" * SIZE, partition=0).get(SOON)
    producer.close()
    leader = of_cluster(admin, topic, nodes)
    of_configs(admin, topic, leader)
    of_partitions(admin, topic, leader)
    of_transactions(admin, servers, topic)


def with_confluent(bootstrap, topic, nodes):
    from confluent_kafka import Producer, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 2)])[topic].result(SOON)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(EVENTS):
        producer.produce(topic, b"x" * SIZE, partition=0, timestamp=1000 - number)
    check(producer.flush(SOON) == 0, "not all was written")

    cluster = admin.describe_cluster(include_authorized_operations=True, request_timeout=SOON).result(SOON)
    check(len(cluster.nodes) == nodes and len(cluster.authorized_operations) == 7, f"the cluster is {cluster}")
    told = admin.describe_topics(TopicCollection([topic]), include_authorized_operations=True)[topic].result(SOON)
    check(len(told.partitions) == 2 and len(told.authorized_operations) == 8, f"the topic is {told}")
    partition = TopicPartition(topic, 0)
    newest = admin.list_offsets({partition: OffsetSpec.max_timestamp()})[partition].result(SOON)
    check((newest.offset, newest.timestamp) == (0, 1000), f"the newest is {newest}")

    altered = ConfigResource(ResourceType.TOPIC, topic, set_config={"retention.ms": "100000"})
    admin.alter_configs([altered])[altered].result(SOON)
    both = [ConfigResource(ResourceType.TOPIC, topic), ConfigResource(ResourceType.BROKER, str(cluster.controller.id))]
    of_topic, of_node = (admin.describe_configs([one])[one].result(SOON) for one in both)
    check(of_topic["retention.ms"].value == "100000" and len(of_topic) > 25, f"the topic's settings are {of_topic}")
    check(of_node["num.partitions"].is_read_only, f"the node's settings are {of_node}")
    stamped(bootstrap, admin, f"{topic}-stamped")


def stamped(bootstrap, admin, topic):
    """A topic with LogAppendTime: producer and consumer get the time of the append, and not the producer's."""
    from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition
    from confluent_kafka.admin import NewTopic

    setting = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(topic, 1, config=setting)])[topic].result(SOON)
    began, told = time.time() * 1000, []
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd"})

    def on_delivery(error, message):
        told.append(message.timestamp()[1] if error is None else error)

    for _ in range(EVENTS):
        producer.produce(topic, b"x" * SIZE, partition=0, timestamp=1000, on_delivery=on_delivery)
    check(producer.flush(SOON) == 0, "not all was written")
    check(all(began - 1000 < at < time.time() * 1000 + 1000 for at in told), f"from {began} on, appended at {told}")

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    read = [message.timestamp() for message in consumer.consume(EVENTS, SOON)]
    check(read == [(TIMESTAMP_LOG_APPEND_TIME, at) for at in told], f"appended at {told}, read {read}")
    found = consumer.offsets_for_times([TopicPartition(topic, 0, told[0])], SOON)
    check(found[0].offset == 0, f"at the time of the first is {found}")
    later = consumer.offsets_for_times([TopicPartition(topic, 0, told[-1] + 1)], SOON)
    check(later[0].offset < 0, f"later than the last is {later}")
    consumer.close()


library, bootstrap, topic, nodes = sys.argv[1:]
{"confluent": with_confluent, "kafka-python": with_kafka_python}[library](bootstrap, topic, int(nodes))
