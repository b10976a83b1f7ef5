# Everything from a fresh clone: the virtual environment is made on first need, with the pinned versions.
PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
WORKERS ?= 1
BIN    := $(VENV)/bin
ARGS   ?=

# `make test PEERS=1` also installs JAX, asdex, CasADi and torch, which tests and benchmarks compare with.
ifdef PEERS
DEV := $(VENV)/.dev $(VENV)/.peers
else
DEV := $(VENV)/.dev
endif

.PHONY: help serve test check bench bench-serving demo load soak fuzz install constraints clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

serve: $(VENV)/.service  ## the service at http://HOST:PORT
	@exec $(BIN)/hesse serve --host $(HOST) --port $(PORT) --workers $(WORKERS)

test: $(DEV)  ## the tests (PEERS=1: also against JAX, CasADi and torch; ARGS="-k name")
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(DEV)  ## hot and cold times beside the peers (PEERS=1 installs them; ARGS="--short --case NAME")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-serving: $(VENV)/.load  ## the HTTP layer beside an empty FastAPI route; see docs/load.md (ARGS="--short")
	@$(BIN)/python -m benchmarks.serving $(ARGS)

demo: $(VENV)/.dev  ## a server on a free port, and examples/standard_errors.py against it
	@$(BIN)/python examples/demo.py

load: $(VENV)/.load  ## users of every kind against a real service; see docs/load.md (ARGS="--seconds 60 --url URL")
	@$(BIN)/python loadtests/run.py $(ARGS)

fuzz: $(VENV)/.dev  ## hostile requests with random seeds (ARGS="--minutes 10")
	@PYTHONPATH=tests:tests/service $(BIN)/python tests/service/fuzzing.py $(ARGS)

soak: $(VENV)/.dev  ## mixed requests and random kills, memory watched (ARGS="--minutes 10")
	@$(BIN)/python loadtests/soak.py $(ARGS)

install: $(DEV)  ## everything for development, into VENV

clean:  ## forget the environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis benchmarks/results loadtests/results

# -qq: pip says nothing unless it fails. The build backend is installed first, so that its version is pinned too.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -c constraints-peers.txt
EDITABLE := $(PIP) --no-build-isolation -e

$(VENV)/.pip: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Hesse needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@echo "Making $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) hatchling editables
	@touch $@

$(VENV)/.service: $(VENV)/.pip pyproject.toml
	@echo "Installing the service into $(VENV) (once)"
	@$(EDITABLE) '.[service]'
	@touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml
	@echo "Installing the service and what develops and tests it into $(VENV) (once)"
	@$(EDITABLE) '.[service,dev]'
	@touch $@ $(VENV)/.service

$(VENV)/.load: $(VENV)/.pip pyproject.toml
	@echo "Installing the service and Locust into $(VENV) (once)"
	@$(EDITABLE) '.[service,load]'
	@touch $@ $(VENV)/.service

$(VENV)/.peers: constraints-peers.txt $(VENV)/.dev
	@echo "Installing JAX, asdex, CasADi and torch into $(VENV) (once)"
	@$(EDITABLE) '.[peers]'
	@touch $@
