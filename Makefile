# Everything that is done by hand has a target here; `make` lists them.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/mapkeeper/target
export MAPKEEPER_CACHE ?= $(HOME)/.cache/mapkeeper
export PATH := $(PATH):$(HOME)/.cargo/bin

# The directory that the demo serves, sample data without one, and further flags for `mapkeeper demo`. Only sample data is
# ever written.
DIR ?=
SAMPLE = $(MAPKEEPER_CACHE)/demo-data
DEMO_FLAGS ?=
# Schedules that `make simulation` plays.
COUNT ?= 1000000
# Flags for `make bench`, as `cargo bench --bench peers -- --help` lists them.
BENCH_FLAGS ?=

SCRIPTS = .ci/run $(addprefix image/,build start environment healthcheck) $(addprefix packaging/,deb-postinst deb-postrm deb-prerm) \
	$(addprefix scripts/,docker install nextest packages release test tools) tests/install tests/support/moto tests/support/stack \
	$(addprefix tests/boot/,build changed machine host/start stock/install stock/start)

.PHONY: help demo test test-boot bench bench-restart simulation mutants image release packages install fmt lint clean-cache

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: ## serve maps out of a bucket, here and now; DIR=, DEMO_FLAGS=
	@scripts/install demo
	@$(if $(DIR),,demo/make-data "$(SAMPLE)")
	@program=$$(scripts/release --here) && \
		scripts/docker run sh -c 'image/build && exec "$$0" "$$@"' "$$program" demo "$(or $(DIR),$(SAMPLE))" $(DEMO_FLAGS)

test: ## every test, nothing skipped, and the demo from end to end
	@scripts/install test
	@scripts/docker run scripts/test

test-boot: install ## boot emulated machines with kernel 6.1: one by user data alone, one on which the agent is ended, a quarter of an hour
	@program=$$(scripts/release) && PROGRAM_UNDER_TEST="$$program" scripts/docker run \
		scripts/nextest run --profile ci --ignore-default-filter --filterset 'binary(boot) and test(machine)'
	@tests/boot/changed --green

bench: ## compare with s3fs and rclone, half an hour (Debian, root); BENCH_FLAGS=
	@scripts/install bench
	@cargo bench --locked --bench peers -- $(BENCH_FLAGS)

bench-restart: ## how long a reader feels a restart, with few files known to the kernel and with 100,000; five minutes
	@program=$$(scripts/release) && for known in 0 100000; do SURVIVAL_KNOWN=$$known SURVIVAL_PROGRAM="$$program" \
		scripts/nextest run --success-output immediate a_reader_feels; done

simulation: ## a million schedules of faults, an hour or more; COUNT=
	@scripts/simulation $(COUNT)

mutants: ## break the planner on purpose and count which bugs the simulation finds, a quarter of an hour
	@scripts/mutants

image: ## build the MapServer image mapserver:8, unless it is there already
	@scripts/install demo
	@scripts/docker run image/build

release: ## build the program as it is shipped, for glibc 2.26 and later, and print where it is
	@scripts/install test
	@scripts/release

packages: ## build the RPM and the deb from that, into target/packages
	@scripts/install test
	@scripts/packages

install: ## install what the targets above need (Debian, root), or say what is missing
	@scripts/install

fmt: ## format the code
	@cargo fmt --all

lint: ## clippy, with warnings as errors, and shellcheck where it is installed
	@cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); fi

clean-cache: ## remove sample data and the base of the image (not cargo's target directory)
	rm -rf "$(MAPKEEPER_CACHE)"/demo-data "$(MAPKEEPER_CACHE)"/test-data-* "$(MAPKEEPER_CACHE)"/base-12.tar
