# Everything a newcomer or CI runs. `make help` lists it.
.PHONY: help up release test verify fix bench

help:    ## print this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: *## */\t/'

up:      ## build, then start three nodes on 127.0.0.1
	@tests/playground.sh && target/up/escli up --local

release: ## build esnode and escli for hosts: target/release
	@cargo build --release -p esnode -p escli

test:    ## install what the tests need, build, run every test
	@tests/run.sh

verify:  ## read-only checks: format, lints, dependencies
	@tests/verify.sh

fix:     ## format, apply the fixes of lints, regenerate generated files
	@cargo fmt && cargo fmt --manifest-path tests/clients/rust/Cargo.toml && cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged && UPDATE=1 cargo nextest run --workspace -E 'test(/^generated::/) + test(committed)'

bench:   ## measure three nodes on this machine
	@tests/bench.sh
