"""Produces without a pause through confluent-kafka, idempotent, until standard input ends.

Usage: continuous.py BOOTSTRAP TOPIC
Says "ready" once the first event is acknowledged. At the end prints the acknowledged events and the gaps between
acknowledgements above 20 ms, each as milliseconds since the epoch and its length; exits with 1 when an event failed, or
when the log is not exactly what was acknowledged.
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap, topic = sys.argv[1:]
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
state = {"acked": 0, "last": None, "gaps": [], "failed": []}


def delivered(error, _):
    now = time.time()
    if error:
        state["failed"].append(str(error))
        return
    if state["last"] is None:
        print("ready", flush=True)
    elif now - state["last"] > 0.02:
        state["gaps"].append((int(now * 1000), int((now - state["last"]) * 1000)))
    state["last"] = now
    state["acked"] += 1


producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0})
sent = 0
while not ended.is_set():
    producer.produce(topic, str(sent).encode(), partition=0, on_delivery=delivered)
    sent += 1
    producer.poll(0.002)
left = producer.flush(30)
print(json.dumps({"acked": state["acked"], "gaps": state["gaps"]}), flush=True)
if left or state["failed"]:
    sys.exit(f"{left} not delivered, failed: {state['failed'][:3]}")

consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
consumer.assign([TopicPartition(topic, 0, 0)])
read = []
deadline = time.time() + 30
while len(read) < sent and time.time() < deadline:
    read += [message.value() for message in consumer.consume(500, 0.5) if not message.error()]
consumer.close()
if read != [str(number).encode() for number in range(sent)]:
    sys.exit(f"{sent} acknowledged, {len(read)} in the log, or in another order")
