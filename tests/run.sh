#!/usr/bin/env bash
# Installs what the tests need, builds, runs every test. What this machine cannot show fails, unless SKIP names it
# (SKIP=lab,promtool); what was skipped is said at the end.
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
    printf '\nNOT SHOWN by this run, as SKIP=%s allows:\n' "$SKIP"
    sort $skipped
fi
exit $code
