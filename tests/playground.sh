#!/usr/bin/env bash
# Builds esnode and escli for trying them out: within minutes, and fast where events go through. Releases are for hosts.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cc >/dev/null || { echo "a C compiler is missing: sudo apt-get install build-essential" >&2; exit 1; }

# OpenSSL is a third of the work, and mostly there already.
if ! pkg-config --exists openssl 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing libssl-dev and pkg-config"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libssl-dev pkg-config; } >/dev/null 2>&1 || true
fi
minutes=4
if pkg-config --exists openssl 2>/dev/null; then
    export OPENSSL_NO_VENDOR=1
else
    minutes=7
    echo "OpenSSL is built as well, which \"sudo apt-get install libssl-dev pkg-config\" would spare"
fi
[ -x target/up/escli ] || echo "the first build takes about $minutes minutes on two cores"
exec cargo build --profile up -p esnode -p escli
