# The commands to remember. `make` prints them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MOVES ?= 200
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo lab-up lab-down test test-fast test-wide workloads compare-podman backup-costs bench bench-smoke simulate soak backup-soak fuzz check format protos clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything the project needs into .venv

demo: setup ## Migrate a running container between two hosts of a lab and show what happened
	@$(BIN)/migrator lab demo

lab-up: setup ## Start a lab: two hosts and a control plane on this machine
	@$(BIN)/migrator lab up --hosts 2

lab-down: setup ## Stop the lab and leave nothing behind
	@$(BIN)/migrator lab down

test: setup ## Run the tests, the real ones with CRIU included (needs root)
	@deploy/test all

test-wide: setup ## Run the rarer cases that `make test` leaves out: more faults, more workloads (needs root)
	@deploy/test wide

test-fast: setup ## Run what needs neither root nor servers, in under a minute
	@deploy/test fast

workloads: setup ## Move every workload and write what came of it into docs/workloads.md
	@WRITE_WORKLOADS=1 $(BIN)/pytest tests/acceptance/test_workloads.py -q

compare-podman: setup ## Do the same with podman and write it beside
	@$(BIN)/python -m tests.compare_podman

backup-costs: setup ## What backups cost beside podman and restic, written into docs/backups.md
	@$(BIN)/python -m tests.backup_costs

bench: setup ## Measure the freeze beside podman, ctr and bare containerd, and write docs/benchmarks.* (two hours, a quiet machine)
	@$(BIN)/python -m tests.bench.controller
	@$(BIN)/python -m tests.bench.overhead
	@$(BIN)/python -m tests.bench
	@$(BIN)/python -m tests.bench --growth --runs 1 --systems floor eager lazy

bench-smoke: setup ## Two minutes: fail when the freeze as a multiple of bare containerd's is 30 % worse than recorded
	@$(BIN)/python -m tests.bench --smoke

soak: setup ## Move a program back and forth while things break at random (MOVES=200, SEED=N)
	@MOVES=$(MOVES) SEED=$(SEED) $(BIN)/python -m tests.soak

backup-soak: setup ## Back a changing program up while others forget and prune, then restore every backup (BACKUPS_S=300)
	@BACKUPS_S=$(BACKUPS_S) $(BIN)/python -m tests.backup_soak

SEEDS ?= 10000
FIRST_SEED ?= 1
simulate: setup ## Run SEEDS simulated jobs with random faults, from FIRST_SEED on; exit 1 if a rule was broken
	@$(BIN)/python -m migrator.simulator --runs $(SEEDS) --first-seed $(FIRST_SEED)

FUZZ_TRIES ?= 2000
FUZZ_SECONDS ?= 60
fuzz: setup ## Feed every parser of what is in the object store with damage: FUZZ_TRIES each, at most FUZZ_SECONDS each
	@FUZZ_TRIES=$(FUZZ_TRIES) FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest tests/fuzz -n 2 -q --timeout 600

check: setup ## Style, types, layers, fresh stubs: what CI checks before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python protos/generate.py --check
	$(BIN)/buf lint

format: setup ## Put the code into the one style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

protos: setup ## Make the gRPC stubs anew
	$(BIN)/python protos/generate.py

clean: ## Remove the Python environment and all caches of this folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

$(STAMP): pyproject.toml requirements.lock
	@deploy/setup $(PYTHON) $(VENV)
	@touch $@
