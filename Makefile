# `make reproduce` and `make test` need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
STUDY ?= quick
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
SOURCES := pyproject.toml hatch_build.py resnet_study/kernels/build.py $(wildcard resnet_study/kernels/native/*)

.PHONY: help install reproduce test test-all sanitize lint lock clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: $(STAMP)  ## Install the pinned packages and this project into .venv

$(STAMP): requirements.lock $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

reproduce: $(STAMP)  ## Run a study (STUDY=quick) from its sweeps to its report
	$(BIN)/resnet-study reproduce $(STUDY)

test: $(STAMP)  ## Run the tests that fit in minutes
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses=4

test-all: $(STAMP)  ## Run every test
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder

sanitize: $(STAMP)  ## Run the kernels under the address and undefined-behaviour sanitizers
	$(BIN)/python -m pytest tests/test_winograd.py -k no_memory_error

lint: $(STAMP)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(STAMP)  ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock

clean:  ## Remove the environment and caches, not the results
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache
