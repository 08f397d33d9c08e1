#!/usr/bin/env bash
# Builds the node's program again as several later versions, for the tests of upgrades. Only the version differs; the last
# one also reads a later on-disk format. A program that is newer than its sources is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

# stamped NAME VARIABLE=VALUE...
stamped() {
    local to=target/debug/stamped/esnode-$1
    shift
    if [ -x "$to" ] && [ -z "$(find esnode shared Cargo.toml Cargo.lock -type f -newer "$to" -print -quit)" ]; then return; fi
    echo "building $to"
    env "$@" cargo build --workspace --bins
    install -D target/debug/esnode "$to"
}

stamped 0.1.1 ESNODE_VERSION=0.1.1
stamped 0.2.0 ESNODE_VERSION=0.2.0
stamped 0.1.2-next ESNODE_VERSION=0.1.2 ESNODE_FORMAT_MAX=5
