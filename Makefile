# Every job of this repository by one name. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One build folder for tests, demo and CI, outside the checkout, so that a second clone reuses it.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/floodgate-target
BIN := $(CARGO_TARGET_DIR)/debug/floodgate
# Arguments for `make demo` and `make up`, e.g. `make demo ARGS="--shoppers 500"`.
ARGS ?=

.PHONY: help demo up build test test-rust test-e2e faults faults-planted lost-replies test-cluster bench-queue bench-pay bench-hold lint rules compose-init k6 screenshots clean-state

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: build ## a whole sale on this machine: shop, crowd, line, payment; prints the addresses
	$(BIN) demo $(ARGS)

up: build ## private Redis and PostgreSQL plus every role, until Ctrl-C
	$(BIN) up $(ARGS)

# Always the whole workspace: `-p` would choose other features and compile everything again.
# The dev profile optimises the dependencies, so it is the one that runs, too.
build: ## install what is missing and compile
	scripts/setup
	cargo build --locked --workspace

test: ## everything: Rust tests, then the browser tests
	scripts/setup --tests
	scripts/test

test-rust: ## only the Rust tests
	scripts/setup
	cargo test --locked --workspace

test-e2e: ## only the browser tests
	scripts/setup --tests
	cargo build --locked --workspace
	cd e2e && npm ci --no-progress && FLOODGATE_BIN=$(BIN) npm test

# By file name, so that a new test of the queue is in; `-p queue` would choose other features and compile everything again.
CLUSTER_TESTS := $(patsubst queue/tests/%.rs,--test %,$(wildcard queue/tests/*.rs)) \
	$(patsubst queue/tests/%/main.rs,--test %,$(wildcard queue/tests/*/main.rs)) --test crowd

test-cluster: ## the tests of the queue and of a crowd at two gates, on a Redis Cluster of three masters
	scripts/setup
	FLOODGATE_TEST_REDIS=cluster cargo test --locked --workspace $(CLUSTER_TESTS)

# Our own code as optimised as a release has it, the dependencies as everywhere: nothing else is compiled again.
BENCH_PROFILE := CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false

bench-queue: ## what polls, joins, claims and pass checks cost next to a bare Pingora, e.g. ARGS="--json" or ARGS="--only poll"
	scripts/setup
	$(BENCH_PROFILE) cargo build --locked --workspace --example bench_queue
	$(CARGO_TARGET_DIR)/debug/examples/bench_queue $(ARGS)

bench-pay: ## 1,000 shoppers who pay at once, and a provider that hangs, e.g. ARGS="--only hang" or ARGS="--provider-ms 100"
	scripts/setup
	$(BENCH_PROFILE) cargo build --locked --workspace --example bench_purchase
	$(CARGO_TARGET_DIR)/debug/examples/bench_purchase pay $(ARGS)

bench-hold: ## holds through HTTP next to the script alone and to pgbench, e.g. ARGS="--json" or ARGS="--only losers"
	scripts/setup
	$(BENCH_PROFILE) cargo build --locked --workspace --example bench_purchase
	$(CARGO_TARGET_DIR)/debug/examples/bench_purchase hold $(ARGS)

# How many seeds `make faults` runs, from which on, or SEED=x for one of them.
SEEDS ?= 20
FIRST ?= 1
faults: build ## sales under seeded faults and the verdict on each, e.g. SEEDS=100 or SEED=7; failing seeds are kept
	$(CARGO_TARGET_DIR)/debug/faults run $(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS)) $(ARGS)

# The bugs are in an executable of their own, `floodgate-planted`; `floodgate` never has them (a test looks).
faults-planted: ## is the checker awake? plants each known mistake and expects it to be found, e.g. ARGS="--bug sold-out-sticks"
	scripts/setup
	cargo build --locked --workspace --features floodgate/planted-bugs --bin floodgate-planted --bin faults
	$(CARGO_TARGET_DIR)/debug/faults planted $(ARGS)

lost-replies: ## lose every reply of Redis, PostgreSQL and the providers once, one in each purchase: 0 second effects
	scripts/setup
	FLOODGATE_LOSE_ALL=1 cargo test --locked --workspace --test lost_replies -- --nocapture

lint: ## formatting, clippy with warnings as errors, dependency policy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/deny

rules: ## check Prometheus' configuration and run the tests of its rules (needs promtool)
	promtool check config prometheus/prometheus.yml
	promtool check rules --lint=all --lint-fatal prometheus/recording.rules.yml prometheus/alerts.rules.yml
	promtool test rules prometheus/rules_test.yml

compose-init: ## keys and passwords for docker-compose.yml, made once
	scripts/compose-init

k6: build ## a spike of shoppers against a private gate, measured by k6
	scripts/setup --tests
	scripts/k6-run $(BIN)

screenshots: ## run the browser tests and write the pictures of docs/images
	scripts/setup --tests
	cargo build --locked --workspace
	cd e2e && npm ci --no-progress && FLOODGATE_BIN=$(BIN) FLOODGATE_SCREENSHOTS=$(CURDIR)/docs/images npm test

clean-state: ## forget the private stores of `make up` and `make demo` (they must not be running)
	rm -rf .floodgate
