#!/usr/bin/env bash
# Runs every fuzz target for 5 seconds, or for as many as the first argument says, from the committed seeds and earlier
# finds. An input that crashes a target is kept in fuzz/artifacts: copy it to fuzz/found/TARGET, where every test run tries
# it, and fix the code.
#
# Needs a nightly toolchain and cargo-fuzz. Without them it says so and exits with 0: `make test` runs the same targets on the
# stable toolchain, with damaged seeds (tests/tests/fuzz.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5}
tools=$PWD/target/tools
export PATH=$tools/bin:$PATH CARGO_TARGET_DIR=$PWD/target/fuzz

skip() {
    printf '\nSKIPPED: no fuzzing: %s\n\n' "$*" >&2
    exit 0
}

cargo +nightly --version >/dev/null 2>&1 || skip "there is no nightly toolchain (rustup toolchain install nightly)"
if ! command -v cargo-fuzz >/dev/null; then
    echo "installing cargo-fuzz"
    CARGO_TARGET_DIR=$tools/build cargo +nightly install --quiet cargo-fuzz --locked --root "$tools" ||
        skip "cargo-fuzz could not be installed (cargo install cargo-fuzz)"
    rm -rf "$tools/build"
fi

# The address sanitizer finds faults of unsafe code; there is none here, and without it the fuzzers are faster.
cargo +nightly fuzz build --sanitizer none
for source in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    log=$CARGO_TARGET_DIR/$target.log
    mkdir -p "fuzz/corpus/$target"
    inputs=("fuzz/corpus/$target" "fuzz/seeds/$target")
    if [ -d "fuzz/found/$target" ]; then inputs+=("fuzz/found/$target"); fi
    # One input may take 5 s and 512 MiB.
    if ! cargo +nightly fuzz run --sanitizer none "$target" "${inputs[@]}" -- -max_total_time="$seconds" -timeout=5 \
        -rss_limit_mb=512 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "the fuzzer of $target found a fault: see above" >&2
        exit 1
    fi
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, no faults"
done
