# The two commands: `make demo` and `make test`. Everything else is listed by `make help`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
POINTS ?= 24
DAY ?=
SEED ?=
FRESH ?=
KEEP ?=
WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: help setup setup-dev demo ui test check format conformance docs screenshots lock sbom bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: ## make .venv from requirements.lock (only when it changed)
	@sh deploy/setup.sh

setup-dev: ## the same, with what checks and tests need (requirements-dev.lock)
	@sh deploy/setup.sh dev

demo: setup ## the whole main job on simulated meters: make demo POINTS=500 DAY=2026-11-20 FRESH=1 KEEP=1
	@$(BIN)/smf demo --points $(POINTS) $(if $(DAY),--day $(DAY)) $(if $(SEED),--seed $(SEED)) \
		$(if $(FRESH),--fresh) $(if $(KEEP),--keep-meters)

ui: setup ## Dagster's web UI and daemon on the same data
	@$(BIN)/smf run ui

test: setup-dev ## set up, check, and run every test on both databases
	@sh deploy/test_tools.sh
	@$(BIN)/python -m tests.timescale || true
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

check: setup-dev ## formatting, lint, types, import directions, licences, generated pages up to date
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m deploy.licences
	@$(BIN)/python -m tests.conformance --check
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m tests.house

format: setup-dev ## format the code and fix what can be fixed by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

conformance: setup-dev ## rewrite docs/conformidade.md from the tests' marks
	@$(BIN)/python -m tests.conformance

docs: setup-dev ## rewrite the generated tables of the manuals
	@$(BIN)/python docs/generate.py

screenshots: setup-dev ## make the manuals' pictures anew, from a demonstration of their own
	@sh deploy/test_tools.sh
	@$(BIN)/python -m tests.screenshots

bench: setup-dev ## the ratios of the issue, measured in one run each
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

lock: setup-dev ## resolve pyproject.toml and write both locks; UPGRADE=1 takes the newest versions
	@sh deploy/lock.sh

sbom: setup-dev ## what the product is made of, as CycloneDX: build/sbom.json
	@$(BIN)/python -m deploy.licences --sbom build/sbom.json

clean: ## remove what the demo and the tests made (data/, build/)
	@rm -rf data build
