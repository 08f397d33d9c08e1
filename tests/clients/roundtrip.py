"""Produces and consumes through a real client library.

Usage: roundtrip.py confluent|kafka-python BOOTSTRAP TOPIC CODEC COUNT
Writes COUNT values, waits for every acknowledgement, reads everything back, compares. Exits with 1 and the difference
when anything is missing, doubled or out of order.
"""

import sys
import time


def values(count):
    return [f"value {i} ".encode() * 20 for i in range(count)]


def with_confluent(bootstrap, topic, codec, count):
    from confluent_kafka import Consumer, Producer, TopicPartition

    failed = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "enable.idempotence": codec in ("none", "lz4"),
            "linger.ms": 5,
        }
    )
    for value in values(count):
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: error and failed.append(str(error)))
        producer.poll(0)
    left = producer.flush(30)
    if failed or left:
        sys.exit(f"{left} not delivered, failed: {failed[:3]}")

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    read = []
    deadline = time.time() + 30
    while len(read) < count and time.time() < deadline:
        for message in consumer.consume(500, 0.5):
            if message.error():
                sys.exit(f"consume: {message.error()}")
            read.append(message.value())
    consumer.close()
    return read


def with_kafka_python(bootstrap, topic, codec, count):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    producer = KafkaProducer(
        bootstrap_servers=bootstrap.split(","),
        compression_type=None if codec == "none" else codec,
        acks="all",
        linger_ms=5,
    )
    sent = [producer.send(topic, value, partition=0) for value in values(count)]
    for future in sent:
        future.get(30)
    producer.close()

    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), consumer_timeout_ms=10000)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    read = []
    for message in consumer:
        read.append(message.value)
        if len(read) >= count:
            break
    consumer.close()
    return read


def main():
    library, bootstrap, topic, codec, count = sys.argv[1:]
    run = {"confluent": with_confluent, "kafka-python": with_kafka_python}[library]
    read, wanted = run(bootstrap, topic, codec, int(count)), values(int(count))
    if read != wanted:
        at = next((i for i, pair in enumerate(zip(read, wanted)) if pair[0] != pair[1]), min(len(read), len(wanted)))
        sys.exit(f"read {len(read)} of {len(wanted)}, first difference at {at}")
    print(f"{len(read)} values with {library} and codec {codec}: as written")


main()
