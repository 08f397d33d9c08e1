"""Throughput through librdkafka: 1 KiB messages, at most 1024 in flight.

Usage: throughput.py BOOTSTRAP TOPIC COUNT linger5|idempotent|linger0
"""

import sys
import time

from confluent_kafka import Producer

bootstrap, topic, count, mode = sys.argv[1:]
count = int(count)
settings = {"bootstrap.servers": bootstrap, "acks": "all", "queue.buffering.max.messages": 1024}
settings |= {
    "linger5": {"linger.ms": 5},
    "idempotent": {"linger.ms": 5, "enable.idempotence": True},
    "linger0": {"linger.ms": 0, "batch.num.messages": 1, "max.in.flight.requests.per.connection": 1024},
}[mode]
producer = Producer(settings)
value = b"x" * 1024
failed = 0


def delivered(error, _message):
    global failed
    failed += error is not None


def send():
    while True:
        try:
            return producer.produce(topic, value, partition=0, on_delivery=delivered)
        except BufferError:
            producer.poll(0.01)


send()
producer.flush(10)
started = time.time()
for _ in range(count):
    send()
    producer.poll(0)
producer.flush(60)
seconds = time.time() - started
print(f"{mode}: {count / seconds:.0f} msgs/s, {failed} failed")
sys.exit(failed > 0)
