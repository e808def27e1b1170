# Everything a person needs: `make serve` and `make test`, from a fresh clone, on any machine with Python 3.11+.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help serve test test-fast lint format coverage audit bench clean setup

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything, pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Nullscope needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Installing into .venv (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

serve: $(STAMP) ## serve the bundled model on http://127.0.0.1:$(PORT)
	@$(BIN)/nullscope serve --port $(PORT)

test: $(STAMP) ## run every test (browser tests need Chromium, PostgreSQL's its server; else they skip visibly)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-fast: $(STAMP) ## without the browser and without Ray
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not browser" --ignore=tests/analysis/test_distributed.py

lint: $(STAMP) ## ruff, mypy strict, the layers' contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "Formatting differs: make format"; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## format the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

coverage: $(STAMP) ## tests with a coverage report
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

audit: $(STAMP) ## check dependencies against known advisories (needs the network)
	@$(BIN)/pip-audit --skip-editable --progress-spinner off

clean: ## remove what make and the tools made (not the data folder)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage .import_linter_cache

-include training/targets.mk benchmarks/targets.mk sweep.mk
