# Everything that is done by hand has a target here; `make` lists them.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/mapkeeper/target
export MAPKEEPER_CACHE ?= $(HOME)/.cache/mapkeeper
export PATH := $(PATH):$(HOME)/.cargo/bin

# The directory that the demo serves, and further flags for `mapkeeper demo`.
DIR ?= $(MAPKEEPER_CACHE)/demo-data
DEMO_FLAGS ?=
# Schedules that `make simulation` plays.
COUNT ?= 1000000
# Flags for `make bench`, as `cargo bench --bench peers -- --help` lists them.
BENCH_FLAGS ?=

.PHONY: help demo test test-boot bench simulation mutants image install fmt lint clean-cache

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: install ## serve maps out of a bucket, here and now; DIR=, DEMO_FLAGS=
	@cargo build --release --locked
	@demo/make-data "$(DIR)"
	@scripts/docker run sh -c 'image/build && exec "$$0" "$$@"' "$(CARGO_TARGET_DIR)/release/mapkeeper" demo "$(DIR)" $(DEMO_FLAGS)

test: install ## every test, nothing skipped, and the demo from end to end
	@scripts/docker run scripts/test

test-boot: install ## boot an emulated machine with kernel 6.1 and end the agent there in every way, ten minutes
	@cargo build --release --locked
	@MAPKEEPER_PROGRAM="$(CARGO_TARGET_DIR)/release/mapkeeper" scripts/docker run \
		cargo test --locked --test machine -- --show-output

bench: ## compare with s3fs and rclone, half an hour (Debian, root); BENCH_FLAGS=
	@scripts/install --bench
	@cargo bench --locked --bench peers -- $(BENCH_FLAGS)

simulation: ## a million schedules of faults, an hour or more; COUNT=
	@scripts/simulation $(COUNT)

mutants: ## break the planner on purpose and count which bugs the simulation finds, a quarter of an hour
	@scripts/mutants

image: install ## build the MapServer image mapserver:8, unless it is there already
	@scripts/docker run image/build

install: ## install what the targets above need (Debian, root), or say what is missing
	@scripts/install

fmt: ## format the code
	@cargo fmt

lint: ## clippy, with warnings as errors, and shellcheck where it is installed
	@cargo clippy --locked --all-targets --test machine -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck tests/boot/build tests/boot/machine tests/boot/start scripts/docker scripts/install scripts/test scripts/tools image/build image/start image/environment image/healthcheck .ci/run; fi

clean-cache: ## remove sample data and the base of the image (not cargo's target directory)
	rm -rf "$(MAPKEEPER_CACHE)"/demo-data "$(MAPKEEPER_CACHE)"/test-data-* "$(MAPKEEPER_CACHE)"/base-12.tar
