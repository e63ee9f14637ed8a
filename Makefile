# SPDX-License-Identifier: Apache-2.0
# The one door to everything. `make help` lists it; each target says in one line what it does.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= imagecache
TEST_NAME ?= imagecache-test
BENCH_NAME ?= imagecache-bench
IN_MEMORY ?=
READY := $(VENV)/.ready
CRD := crds/imagecache.dev_imagecaches.yaml

export PYTHONUNBUFFERED := 1
export IMAGECACHE_TEST_CLUSTER := $(TEST_NAME)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which with make PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "Installing the pinned Python packages into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: $(READY) ## Install the pinned Python packages into .venv

.PHONY: check
check: $(READY) ## Lint, types and layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/lint-imports --no-cache

.PHONY: generate
generate: $(READY) ## Write the generated files (the CRD)
	$(BIN)/python -m imagecache_operator crds > $(CRD)

.PHONY: verify
verify: $(READY) ## Fail when a generated file differs from what would be generated
	@$(BIN)/python -m imagecache_operator crds | diff -u $(CRD) - || { echo "$(CRD) is stale: make generate"; exit 1; }
	@echo "Generated files are up to date"

.PHONY: unit
unit: $(READY) ## The tests that need no cluster
	$(BIN)/pytest -m "not e2e"

.PHONY: test
test: $(READY) ## Everything: check, verify, all tests (on kind clusters of their own)
	@$(MAKE) --no-print-directory check verify
	$(BIN)/python -m tests.cluster up --name $(TEST_NAME)
	$(BIN)/pytest --numprocesses 2 --dist loadgroup --deselect tests/life
	$(BIN)/pytest tests/life

.PHONY: cluster-up
cluster-up: $(READY) ## Bring up the local kind cluster (NAME=imagecache; IN_MEMORY=1: its nodes' images in memory)
	$(BIN)/python -m tests.cluster up --name $(NAME) $(if $(IN_MEMORY),--in-memory)

.PHONY: cluster-down
cluster-down: $(READY) ## Remove it and all that it left
	$(BIN)/python -m tests.cluster down --name $(NAME)

.PHONY: cluster-status
cluster-status: $(READY) ## Say what is running
	$(BIN)/python -m tests.cluster status --name $(NAME)

.PHONY: demo
demo: $(READY) ## See it work: cluster, operator, a cache, Pods from the cache
	$(BIN)/python -m tests.demo --name $(NAME)

.PHONY: bench
bench: $(READY) ## Measure the operator on the local cluster, and print a table
	$(BIN)/python -m tests.bench controller --name $(NAME)

.PHONY: bench-builder
bench-builder: $(READY) ## How fast the builder is, against skopeo and against itself
	$(BIN)/python -m tests.bench builder

.PHONY: bench-start
bench-start: $(READY) ## How soon Pods start: registry, cache, warm node (a cluster of its own: BENCH_NAME)
	$(BIN)/python -m tests.bench start --name $(BENCH_NAME)

.PHONY: lock
lock: $(READY) ## Resolve the lock files anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade pyproject.toml -o requirements/runtime.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade pyproject.toml --group dev -o requirements/dev.lock
