# lorank: `make venv` builds .venv, `make demo` tells the whole story, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin
# One process a core, one thread a process: tests run in parallel without fighting for cores.
WORKERS ?= 2

.PHONY: venv demo docs test test-all test-portable lint clean

venv: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,test]'
	@touch $@

demo: venv
	$(BIN)/lorank demo --out runs/demo

lint: venv
	$(BIN)/ruff check conftest.py src tests tools benchmarks examples
	$(BIN)/ruff format --check --quiet conftest.py src tests tools benchmarks examples
	$(BIN)/python tools/lint_floats.py
	$(BIN)/python tools/check_words.py
	$(BIN)/lint-imports

docs: venv
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -n $(WORKERS)

# Other kernels, vector widths, threads and load: `make test-portable TESTS=tests/ranking PASSES="--pass oldest"` for a part.
test-portable: venv
	$(BIN)/python tools/portable_passes.py --workers $(WORKERS) $(PASSES) $(TESTS)

clean:
	rm -rf .venv runs build dist
