#!/usr/bin/env bash
# Measures three nodes on this machine; the floor of disk and client stands beside each figure.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -p esnode
cargo build --release -p tests --example bench
target/release/examples/bench "$@"
