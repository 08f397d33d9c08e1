#!/usr/bin/env bash
# Installs what the tests need and is missing; quick when nothing is. Says loudly what it cannot install.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() { printf 'tests/setup.sh: %s\n' "$*" >&2; }

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest"
    cargo install cargo-nextest --locked
fi

if ! command -v kcat >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing kcat"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kcat >/dev/null
    else
        missing "kcat is not installed: the client tests will fail. Install it: sudo apt-get install kcat"
    fi
fi

wanted=tests/requirements.txt
venv=target/venv
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    echo "installing the Python clients"
    rm -rf "$venv"
    if ! python3 -m venv "$venv" 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
        else
            missing "Python cannot make a virtual environment. Install it: sudo apt-get install python3-venv"
        fi
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$venv/installed.txt"
fi
