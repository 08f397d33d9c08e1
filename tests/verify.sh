#!/usr/bin/env bash
# Read-only checks: changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --workspace --all-targets -- -D warnings
# The tests' clients in Rust are a workspace of their own.
clients=tests/clients/rust/Cargo.toml
cargo fmt --check --manifest-path $clients
cargo clippy --locked --manifest-path $clients --target-dir target/clients -- -D warnings
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check
    # They are never shipped, and may have a crate in several versions.
    cargo deny --manifest-path $clients --config deny.toml check advisories licenses sources
else
    echo "SKIPPED: cargo-deny is not installed, so licences and advisories were not checked (cargo install cargo-deny)" >&2
fi
