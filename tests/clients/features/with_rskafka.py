"""rskafka, a client in Rust alone. contract.py says what is tried."""

import sys

import adapter

LACKS = [
    "write idempotently",
    "read in a group and go on from its offsets",
    "rebalance when members come and go",
    "read in a group of the consumer protocol",
    "list and describe groups",
    "delete groups",
    "add partitions",
    "alter and describe settings of topics",
    "commit and abort transactions",
    "commit offsets in transactions",
]

adapter.run("rskafka", *sys.argv[1:], LACKS)
