# Everything a newcomer needs: `make quickstart` and `make test`. Works from a fresh clone with
# Python (3.11 or later), git and make alone.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

# Compiled modules are written at their first import: without them every process of every sweep
# would compile torch, Ray and MLflow anew, four times the time that it takes to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install quickstart real real-given test test-long check chaos clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(INSTALLED) ## make the virtual environment .venv with exact versions

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@$(PIP) install --constraint constraints.txt --no-compile --editable .
	@touch $@

$(TESTABLE): $(INSTALLED)
	@$(PIP) install --constraint constraints.txt --no-compile --editable '.[test]'
	@touch $@

quickstart: $(INSTALLED) ## run the quickstart sweep on generated languages and write its report
	$(BIN)/xlt run sweeps/quickstart.yaml
	$(BIN)/xlt report quickstart
	@echo "compare the runs in the MLflow UI: $(BIN)/xlt ui quickstart"

real: real-given $(INSTALLED) ## which layer to fuse, on real languages in 20 minutes: make real DATA=FOLDER MODEL=ENCODER
	$(BIN)/xlt run sweeps/fusion-method.yaml name=real data.root=$(DATA) model.name=$(MODEL) target.size=600 'target.fusion={choice: [{method: none}, {method: mix}, {method: dlfa, layer: {int: [0, num_layers - 1]}}]}' evaluate.examples=100 search.seeds=3
	$(BIN)/xlt report real --groups examples/families.yaml

real-given:
	@test -n "$(DATA)" -a -n "$(MODEL)" || { echo "make real needs DATA=FOLDER MODEL=ENCODER (docs/real-data.md)"; exit 2; }

# Tests of sweeps take a minute each: one at a time goes to whoever is free (loadgroup, no groups).
test: check ## lint, type-check and run the tests
	$(BIN)/python -m pytest -n 2 --ignore tests/sweeps --ignore tests/chaos
	$(BIN)/python -m pytest -n 3 --dist loadgroup tests/chaos tests/sweeps

test-long: $(TESTABLE) ## run the slowest tests, which `make test` leaves out
	$(BIN)/python -m pytest -m long

check: $(TESTABLE) ## lint and type-check only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

N ?= 12
SEED ?= 0

chaos: $(TESTABLE) ## inject faults into N sweeps and compare each with an unbroken one
	$(BIN)/python -m tests.chaos.harness $(N) --seed $(SEED)

clean: ## remove the environment and what the quickstart left
	rm -rf $(VENV) xlt-home build *.egg-info
