# Everything a newcomer or CI runs. `make help` lists it.
.PHONY: help up test verify fix bench

help:    ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: *## */\t/'

up:      ## build, then start three nodes on 127.0.0.1
	@cargo build --release -p esnode -p escli && target/release/escli up --local

test:    ## install what the tests need, build, run every test
	@tests/setup.sh && tests/stamp.sh && cargo build --workspace --bins && cargo nextest run --workspace

verify:  ## read-only checks: format, lints, dependencies
	@tests/verify.sh

fix:     ## format, apply what the lints suggest, regenerate what is generated
	@cargo fmt && cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged && UPDATE=1 cargo nextest run --workspace -E 'binary(generated) + test(committed)'

bench:   ## measure three nodes on this machine
	@tests/bench.sh
