# `make` alone lists what there is. Everything is set up on demand, in .venv and nowhere else; stamps in .venv keep a
# second call from installing again. Variables: ARGS (handed on), PYTHON (3.11 or later), VENV, JOBS, UPGRADE; of the
# long proofs SECONDS and SEED, of the scenarios of rules N and SEED.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
ARGS ?=
SECONDS ?= 600
SEED ?=
N ?= 240
RULE ?=
WRITE ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --require-virtualenv
MODERN := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p $(MODERN) >/dev/null 2>&1 && { echo $$p; break; }; done)

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo

.PHONY: up
up: $(VENV)/.runtime ## watch what is configured, or run the demonstration (ARGS="--config FILE", ARGS=--demo)
	@exec $(BIN)/stocktake up $(ARGS)

##@ Develop

# In their order, not the files of many tests first: the longest have few, and one worker would be left alone with them.
.PHONY: test
test: $(VENV)/.dev test-tools ## every test (ARGS="tests/unit -k name" for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## measure speed and memory against their floors, about an hour (ARGS="--runs 100000")
	$(BIN)/python -m bench.start
	$(BIN)/python -m bench.redact
	$(BIN)/python -m bench.scan $(ARGS)
	$(BIN)/python -m bench.rules $(ARGS)
	$(BIN)/python -m bench.server
	$(BIN)/python -m bench.sources
	$(BIN)/python -m bench.folder
	$(BIN)/python -m bench.azure

# One of them alone: ARGS="-k movement" (or model, kill, stop, disk, overtaken, beside). A seed repeats a run.
.PHONY: soak
soak: $(VENV)/.dev ## the long proofs, SECONDS each at most (SEED=n, ARGS="-k movement"; docs/reliability.md)
	@STOCKTAKE_SOAK_SECONDS=$(SECONDS) STOCKTAKE_SOAK_SEED=$(SEED) $(BIN)/python -m pytest tests/soak -m soak -s $(ARGS)

# Another seed each time, unless one is given; WRITE=1 puts the table on docs/rules.md. The last worlds are left out when
# SECONDS (600) are short.
.PHONY: check-rules
check-rules: $(VENV)/.dev ## plant the faults that rules name on real servers, and count what is found (SEED=n, N=240, RULE=id)
	@STOCKTAKE_SCENARIOS=$(N) STOCKTAKE_SCENARIOS_SEED=$(SEED) STOCKTAKE_SCENARIOS_SECONDS=$(SECONDS) \
		STOCKTAKE_SCENARIOS_WRITE=$(WRITE) STOCKTAKE_SCENARIOS_RULE="$(RULE)" $(BIN)/python -m pytest tests/scenarios -s -q $(ARGS)

.PHONY: check
check: $(VENV)/.dev ## formatting, lint, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.dev ## format the code and repair what lint can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: wheel
wheel: $(VENV)/.dev ## build the wheel into dist/
	$(BIN)/python -m hatchling build -t wheel -d dist

.PHONY: lock
lock: $(VENV)/.lock ## resolve the dependencies again after a change (UPGRADE=1 takes the newest)
	UV=$(BIN)/uv UPGRADE=$(UPGRADE) requirements/lock.sh

.PHONY: clean
clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis tests/kql/node_modules tests/azurite/node_modules
	find service tests alembic -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up ---------------------------------------------------------------------------------------------------------

ROOT := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo yes)
APT := DEBIAN_FRONTEND=noninteractive apt-get

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then echo "stocktake needs Python 3.11 or later; name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ -n "$(ROOT)" ]; then $(APT) update -qq && $(APT) install -y -qq --no-install-recommends $$package; \
		else echo "$(PYTHON) cannot make virtual environments. As root: apt-get install $$package" >&2; exit 1; fi; \
	fi
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made requirements/demo.txt requirements/build.txt pyproject.toml
	@echo "installing stocktake and its demonstration into $(VENV) (once, a minute or two)"
	@$(PIP) install --quiet --require-hashes -r requirements/demo.txt -r requirements/build.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements/dev.txt requirements/azure.txt pyproject.toml
	@echo "installing what the checks and tests need into $(VENV) (once, a minute or two)"
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@$(PIP) install --quiet --require-hashes -r requirements/azure.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.runtime $@

$(VENV)/.lock: $(VENV)/.made
	@$(PIP) install --quiet 'uv>=0.9,<1'
	@touch $@

# What some tests need beside Python: command=Debian package. Without root those tests are left out, and say so.
TOOLS := promtool=prometheus amtool=prometheus-alertmanager node=nodejs npm=npm pg_lsclusters=postgresql
MISSING = $(strip $(foreach t,$(TOOLS),$(shell command -v $(firstword $(subst =, ,$(t))) >/dev/null || echo $(lastword $(subst =, ,$(t))))))

.PHONY: test-tools
test-tools: $(VENV)/.tools
	@if [ -n "$(MISSING)" ]; then echo "tests that need these Debian packages are left out (no root): $(MISSING)"; fi

$(VENV)/.tools: $(VENV)/.made $(wildcard tests/kql/package-lock.json tests/azurite/package-lock.json)
	@if [ -n "$(MISSING)" ] && [ -n "$(ROOT)" ]; then \
		echo "installing Debian packages that tests need: $(MISSING)"; \
		mkdir -p /etc/postgresql-common/createcluster.d; \
		echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/stocktake-tests.conf; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends $(MISSING) >/dev/null; \
	fi
	@if command -v npm >/dev/null; then for folder in tests/kql tests/azurite; do \
		npm ci --prefix $$folder --ignore-scripts --no-audit --no-fund --silent || exit 1; done; fi
	@touch $@
