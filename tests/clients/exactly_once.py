"""A pipeline that copies each event of one topic into another one, exactly once, while its workers and nodes are killed.

Usage: exactly_once.py confluent|kafka-python|java BOOTSTRAP NAME EVENTS
Fills NAME-in, says "ready", and has two workers copy it into NAME-out by transactions. Each worker is a process of its own,
and one of them is killed now and then. Prints what came of it, as JSON: committed events that are missing ("lost"), that
are there more than once ("again") or out of order within a partition ("disordered"), events of aborted transactions in
the log ("aborted"), and how many workers were killed ("killed").
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from remote import Remote

WORKERS = 2
PARTITIONS = 4
SOON = 120
BATCH = 100
SESSION_MS = 6000
TRANSACTION_MS = 10000


def confluent_worker(bootstrap, name, worker):
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": name,
        # Started again, it goes on with the partitions that it had.
        "group.instance.id": worker,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 500,
    })
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "transactional.id": f"{name}-{worker}",
        "transaction.timeout.ms": TRANSACTION_MS,
    })
    producer.init_transactions()
    consumer.subscribe([f"{name}-in"])
    while True:
        messages = [each for each in consumer.consume(BATCH, 0.2) if not each.error()]
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(f"{name}-out", message.value(), partition=message.partition())
        producer.flush()
        # Whoever is killed here leaves events behind that nobody may see.
        time.sleep(random.uniform(0, 0.1))
        offsets = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()


def kafka_python_worker(bootstrap, name, worker):
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.structs import OffsetAndMetadata

    servers = bootstrap.split(",")
    consumer = KafkaConsumer(
        f"{name}-in",
        bootstrap_servers=servers,
        group_id=name,
        group_instance_id=worker,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=500,
        max_poll_records=BATCH,
    )
    producer = KafkaProducer(
        bootstrap_servers=servers,
        transactional_id=f"{name}-{worker}",
        transaction_timeout_ms=TRANSACTION_MS,
    )
    producer.init_transactions()
    while True:
        batches = consumer.poll(timeout_ms=200)
        if not batches:
            continue
        producer.begin_transaction()
        for partition, messages in batches.items():
            for message in messages:
                producer.send(f"{name}-out", message.value, partition=partition.partition)
        producer.flush()
        time.sleep(random.uniform(0, 0.1))
        offsets = {each: OffsetAndMetadata(consumer.position(each), "", -1) for each in batches}
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()


def java_worker(bootstrap, name, worker):
    call = Remote("java", bootstrap).call
    consumer = call("member", f"{name}-in", {
        "group.id": name,
        "group.instance.id": worker,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "isolation.level": "read_committed",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 500,
        "max.poll.records": BATCH,
    })
    producer = call("transactional", {
        "transactional.id": f"{name}-{worker}",
        "transaction.timeout.ms": TRANSACTION_MS,
    })
    while True:
        records = call("poll", consumer)["records"]
        if not records:
            continue
        call("begin", producer)
        for partition in {partition for partition, _ in records}:
            values = [value for each, value in records if each == partition]
            call("send", producer, f"{name}-out", partition, values)
        time.sleep(random.uniform(0, 0.1))
        call("send_offsets", producer, consumer)
        call("commit_transaction", producer)


def start(library, bootstrap, name, worker):
    command = [sys.executable, __file__, library, bootstrap, name, "worker", str(worker)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fill(bootstrap, name, events):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(events):
        producer.produce(f"{name}-in", b"%d" % number, partition=number % PARTITIONS)
        if number % 10000 == 0:
            producer.poll(0)
    if producer.flush(SOON):
        sys.exit("not everything was acknowledged")


def copied(bootstrap, name):
    """How many committed offsets the pipeline has left behind, over all partitions."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    try:
        partitions = consumer.committed([TopicPartition(f"{name}-in", each) for each in range(PARTITIONS)], 10)
        return sum(max(each.offset, 0) for each in partitions)
    except KafkaException:
        return 0
    finally:
        consumer.close()


def read(bootstrap, name, isolation):
    """The events of each partition, in order."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": f"{name}-{isolation}",
        "enable.auto.commit": False,
        "isolation.level": isolation,
        "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(f"{name}-out", each, 0) for each in range(PARTITIONS)])
    found, ended, end = [[] for _ in range(PARTITIONS)], set(), time.time() + SOON
    while len(ended) < PARTITIONS and time.time() < end:
        for message in consumer.consume(1000, 1):
            if message.error():
                ended.add(message.partition())
            else:
                found[message.partition()].append(int(message.value()))
    consumer.close()
    return found


def copy(library, bootstrap, name, events):
    """Has the workers copy everything. Returns how many were killed."""
    workers, killed, end, next_kill = {}, 0, time.time() + SOON, time.time() + 2
    try:
        while copied(bootstrap, name) < events:
            if time.time() > end:
                sys.exit(f"only {copied(bootstrap, name)} of {events} events were copied in time")
            for worker in range(WORKERS):
                if worker not in workers or workers[worker].poll() is not None:
                    workers[worker] = start(library, bootstrap, name, worker)
            if time.time() > next_kill:
                workers[random.randrange(WORKERS)].send_signal(signal.SIGKILL)
                killed, next_kill = killed + 1, time.time() + random.uniform(1, 4)
            time.sleep(0.2)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return killed


def main(library, bootstrap, name, events):
    fill(bootstrap, name, events)
    print("ready", flush=True)
    killed = copy(library, bootstrap, name, events)
    # The last transactions of killed workers are under way until their time is up.
    time.sleep(TRANSACTION_MS / 1000 + 2)
    committed, everything = read(bootstrap, name, "read_committed"), read(bootstrap, name, "read_uncommitted")
    count = Counter(each for partition in committed for each in partition)
    told = {
        "lost": events - len(count),
        "again": sum(count.values()) - len(count),
        "disordered": sum(partition != sorted(partition) for partition in committed),
        "aborted": sum(map(len, everything)) - sum(map(len, committed)),
        "killed": killed,
    }
    print(json.dumps(told))


if sys.argv[4] == "worker":
    kinds = {"confluent": confluent_worker, "kafka-python": kafka_python_worker, "java": java_worker}
    kinds[sys.argv[1]](*sys.argv[2:4], sys.argv[5])
else:
    main(*sys.argv[1:4], int(sys.argv[4]))
