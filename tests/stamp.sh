#!/usr/bin/env bash
# The node's program once more for each of some later versions, for the tests of upgrades. Only the stamp differs; the
# last one reads a later on-disk format, too.
set -euo pipefail
cd "$(dirname "$0")/.."

for version in 0.1.1 0.2.0; do
    ESNODE_VERSION=$version cargo build --quiet --workspace --bins
    install -D target/debug/esnode "target/debug/stamped/esnode-$version"
done
ESNODE_VERSION=0.1.2 ESNODE_FORMAT_MAX=3 cargo build --quiet --workspace --bins
install -D target/debug/esnode target/debug/stamped/esnode-0.1.2-next
