#!/usr/bin/env bash
# Builds esnode and escli for trying them out: the build takes minutes, and the path of events is optimised. Hosts get releases.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cc >/dev/null || { echo "a C compiler is missing: sudo apt-get install build-essential" >&2; exit 1; }

# Building OpenSSL is a third of the work; most machines have it.
if ! pkg-config --exists openssl 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing libssl-dev and pkg-config"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libssl-dev pkg-config; } >/dev/null 2>&1 || true
fi
minutes=4
if pkg-config --exists openssl 2>/dev/null; then
    export OPENSSL_NO_VENDOR=1
else
    minutes=7
    echo "OpenSSL is built as well; \"sudo apt-get install libssl-dev pkg-config\" avoids that"
fi
[ -x target/up/escli ] || echo "the first build takes about $minutes minutes on two cores"
exec cargo build --profile up -p esnode -p escli
