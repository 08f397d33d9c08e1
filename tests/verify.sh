#!/usr/bin/env bash
# Read-only checks: changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --workspace --all-targets -- -D warnings
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check
else
    echo "SKIPPED: cargo-deny is not installed, so licences and advisories were not checked (cargo install cargo-deny)" >&2
fi
