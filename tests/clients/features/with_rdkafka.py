"""rdkafka, which is librdkafka for Rust. contract.py says what is tried."""

import sys

import adapter

adapter.run("rdkafka", *sys.argv[1:])
