# lorank: `make venv` builds .venv, `make demo` tells the whole story, `make test` checks everything.
# Another Python in a place of its own: `make test PYTHON=python3.13 VENV=.venv-3.13`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest/bin
# One process a core, one thread a process: tests run in parallel without fighting for cores.
WORKERS ?= 2

.PHONY: venv demo docs test test-all test-portable test-oldest test-federated coverage lint clean

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,test,docs]'
	@touch $@

demo: venv
	$(BIN)/lorank demo --out runs/demo

lint: venv
	$(BIN)/ruff check conftest.py src tests tools benchmarks examples
	$(BIN)/ruff format --check --quiet conftest.py src tests tools benchmarks examples
	$(BIN)/python tools/lint_floats.py
	$(BIN)/python tools/check_words.py
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: venv
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: lint test-federated
	$(BIN)/python -m pytest -n $(WORKERS)

# Federations over the network and their privacy, in an environment of their own: Flower asks for older typer and rich.
test-federated: .venv-federated/.installed
	.venv-federated/bin/python -m pytest -p no:cacheprovider -n $(WORKERS) tests/federated

.venv-federated/.installed: pyproject.toml constraints-federated.txt
	$(PYTHON) -m venv .venv-federated
	.venv-federated/bin/python -m pip install --quiet --constraint constraints-federated.txt torch==2.13.0
	.venv-federated/bin/python -m pip install --quiet --constraint constraints-federated.txt \
		--editable '.[federated,private,serve,minilm]' pytest pytest-xdist hypothesis
	@touch $@

# Other kernels, vector widths, threads and load: `make test-portable TESTS=tests/ranking PASSES="--pass oldest"` for a part.
test-portable: venv
	$(BIN)/python tools/portable_passes.py --workers $(WORKERS) $(PASSES) $(TESTS)

# The oldest versions that pyproject.toml allows, in an environment of their own, and the main job on them.
test-oldest: .venv-oldest/.installed
	$(OLDEST)/python -m pytest -p no:cacheprovider tests/test_smoke.py

.venv-oldest/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install --quiet --constraint constraints-oldest.txt torch
	$(OLDEST)/python -m pip install --quiet --constraint constraints-oldest.txt --only-binary :all: --editable '.[serve]' pytest
	@touch $@

# The share of lines that the tests of a room reach, and the least that it may be. Measured on the room of data (96%);
# another one: `make coverage ROOM=ranking/losses FLOOR=0`.
ROOM ?= data
FLOOR ?= 94
coverage: venv
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" tests/$(ROOM) src/lorank/$(ROOM) \
		--cov=src/lorank/$(ROOM) --cov-report=term:skip-covered --cov-fail-under=$(FLOOR)

clean:
	rm -rf .venv .venv-* runs build dist
