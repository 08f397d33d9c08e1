"""A transaction that is under way until it is told how to end.

Usage: transaction.py ID BOOTSTRAP TOPIC
Writes an event, says "open", and reads a line: "commit" or "abort".
"""

import sys

from confluent_kafka import Producer

id, bootstrap, topic = sys.argv[1:]
producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": id})
producer.init_transactions(30)
producer.begin_transaction()
producer.produce(topic, id.encode(), partition=0)
producer.flush(30)
print("open", flush=True)
if sys.stdin.readline().strip() == "commit":
    producer.commit_transaction(30)
else:
    producer.abort_transaction(30)
