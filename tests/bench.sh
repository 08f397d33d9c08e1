#!/usr/bin/env bash
# Measures three nodes on this machine, and what its disk and network do without them.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -p esnode
cargo build --release -p tests --example bench
target/release/examples/bench "$@"
