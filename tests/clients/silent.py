"""A member of a group of the consumer protocol that reads and commits nothing, until it is killed.

Usage: silent.py KIND BOOTSTRAP TOPIC
Says "ready" once it reads.
"""

import sys

from confluent_kafka import Consumer

_, bootstrap, topic = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": topic,
    "group.protocol": "consumer",
    "enable.auto.commit": False,
})
consumer.subscribe([topic])
is_ready = False
while True:
    message = consumer.poll(1)
    if message is not None and not message.error() and not is_ready:
        is_ready = True
        print("ready", flush=True)
