#!/usr/bin/env bash
# Installs what the tests need, builds, runs every test. A test that this machine cannot run fails, unless SKIP names what it
# lacks (SKIP=lab,promtool). The last lines name the tests that were skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

skipped=target/debug/skipped
rm -f $skipped
tests/setup.sh
tests/stamp.sh
cargo build --workspace --all-targets
code=0
cargo nextest run --workspace || code=$?
if [ -s $skipped ]; then
    printf '\nSKIPPED, as SKIP=%s says:\n' "$SKIP"
    sort $skipped
fi
exit $code
