# Every job of this repository by one name. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One build folder for tests, demo and CI, outside the checkout, so that a second clone reuses it.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/floodgate-target
BIN := $(CARGO_TARGET_DIR)/debug/floodgate
# Arguments for `make demo` and `make up`, e.g. `make demo ARGS="--shoppers 500"`.
ARGS ?=

.PHONY: help demo up build test test-rust test-e2e faults test-cluster bench-queue lint rules compose-init k6 screenshots clean-state

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
bench-queue: ## what polls, joins, claims and pass checks cost next to a bare Pingora, e.g. ARGS="--json" or ARGS="--only poll"
	scripts/setup
	CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false \
		cargo build --locked --workspace --example bench_queue
	$(CARGO_TARGET_DIR)/debug/examples/bench_queue $(ARGS)

# How many seeds `make faults` runs, from which on, or SEED=x for one of them.
SEEDS ?= 20
FIRST ?= 1
faults: build ## sales under seeded faults and the verdict on each, e.g. SEEDS=100 or SEED=7; failing seeds are kept
	$(CARGO_TARGET_DIR)/debug/faults run $(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS)) $(ARGS)

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
