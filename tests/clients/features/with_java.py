"""kafka-clients, Kafka's own client. contract.py says what is tried."""

import sys

import adapter

adapter.run("java", *sys.argv[1:])
